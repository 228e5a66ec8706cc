package run

import (
	"encoding/json"
	"io"
	"path/filepath"
)

// FactsFile is the name of the facts in a run folder.
const FactsFile = "facts.json"

// TuningFile is the name, in a run folder, of the record of choices between
// kernels, which is the device's.
const TuningFile = "tuning.json"

// Facts are what a training run's settings amount to once its data and its
// network are open: what a reader of the folder alone could not know.
type Facts struct {
	Steps      int      `json:"steps"` // of the whole run
	PerEpoch   int      `json:"steps_per_epoch"`
	Batch      int      `json:"batch"`          // examples a step
	Train      int      `json:"train_examples"` // trained on
	Watched    int      `json:"watched_examples"`
	Watching   string   `json:"watching"` // what is evaluated on the way: "held-out" or "test"
	Classes    []string `json:"classes"`
	Shape      [3]int   `json:"shape"` // of an example (C,H,W)
	Parameters int      `json:"parameters"`
	Device     string   `json:"device"`
	// StateBytes is what weights and optimiser take on the device, and
	// ProgramBytes what a step needs beside them.
	StateBytes   int `json:"state_bytes"`
	ProgramBytes int `json:"program_bytes"`
	// DeviceBytes is all memory of a device that has its own, else 0.
	DeviceBytes int `json:"device_bytes,omitempty"`
}

// MemoryUsed names, in metrics.jsonl, the bytes of the device's memory that are in
// use, by this run or by others.
const MemoryUsed = "memory/used"

// WriteFacts writes facts.json of the run folder dir.
func WriteFacts(dir string, f Facts) error {
	return WriteFileAtomic(filepath.Join(dir, FactsFile), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(f)
	})
}
