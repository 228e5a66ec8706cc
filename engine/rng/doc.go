// Package rng is the counter-based random number generator that every part of
// temper draws from: Philox 4x32-10 (Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011).
//
// A draw is a pure function of (seed, site; sample id, step, iteration,
// element). No draw depends on another, so a sample's random numbers do not
// change with the batch it sits in, the worker that computes it, or whether
// the run was resumed. The floating-point mappings round each operation on
// its own, so that every back end produces the same bits.
//
// The package is a leaf: it imports nothing of temper. Only the generator and
// its mappings belong here.
package rng
