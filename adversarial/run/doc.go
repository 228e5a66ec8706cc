// Package run is the one home of what a run leaves behind. A run is a folder:
//
//	config.toml            every setting, fully resolved
//	environment.json       what each start of the run ran on
//	facts.json             what the settings amount to: steps, examples, classes
//	tuning.json            how a GPU's contractions were computed, where one was used
//	metrics.jsonl          one JSON object a record
//	events.out.tfevents.*  the same for TensorBoard, a file for each start
//	pictures.safetensors   filters and attacked examples of the latest evaluation
//	checkpoints/           step-00001200.safetensors, …, best.safetensors
//	lock                   held by the process that writes the folder
//
// A new run is [NewDir], [Create], [PointLatest]; then [WriteConfig],
// [AddEnvironment], [OpenMetrics], and [SaveCheckpoint] as it goes. A resumed
// run is [Resume], [LatestCheckpoint] or [LoadCheckpoint], and [Run.Rewind] to
// that checkpoint's step, so that what follows equals a run that never
// stopped. [Open] finds a run to go on from, and [Folder] reads one that may be anybody's.
//
// Every file but metrics.jsonl is replaced as a whole or not at all
// ([WriteFileAtomic]); metrics.jsonl grows by whole lines.
//
// Formats, files, names and the live progress line belong here; what the
// settings, numbers and tensors mean does not. The package is a leaf: it
// imports nothing of temper. It needs a Unix: flock, symbolic links and the
// fsync of folders.
package run
