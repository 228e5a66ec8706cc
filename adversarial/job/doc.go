// Package job is the host side of temper: it turns settings into graphs,
// feeds them batches, and keeps what they return. Training, evaluation and
// saving adversarial examples live here; the commands of cmd/temper only parse
// flags and call it.
//
// Settings come in layers, each over the one before: defaults, a recipe,
// environment and flags, --set. What results is a run's config.toml, and
// together with the data and the build it decides the run's every bit.
//
// What belongs here: order, files, messages. A formula belongs to adversarial
// or nn, a file format to run or datasets.
package job
