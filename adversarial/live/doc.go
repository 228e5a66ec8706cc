// Package live follows runs while they train: [Watch] in a terminal, and
// [Server] for browsers, with pages that refresh themselves and numbers for
// Prometheus.
//
// It only reads run folders: a training never waits for whoever looks on. What
// is kept of a run in memory is bounded, and so are the readers.
package live
