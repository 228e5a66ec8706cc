package job

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"temper/adversarial/run"
	"temper/engine"
)

// recallTuning has a device choose between kernels as it did for the run in dir.
// Where that cannot be, it says so: numbers may differ in their last bits.
func recallTuning(c Console, dev *engine.Device, dir string) {
	tuner, ok := dev.Driver.(engine.Tuner)
	path := filepath.Join(dir, run.TuningFile)
	record, err := os.ReadFile(path)
	if !ok || errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = tuner.Recall(record)
	}
	if err != nil {
		c.say("%s: %v", path, err)
	}
}

// keepTuning keeps a device's choices between kernels in the run's folder dir:
// those that it has made, and those to come.
func keepTuning(dev *engine.Device, dir string) error {
	tuner, ok := dev.Driver.(engine.Tuner)
	if !ok {
		return nil
	}
	return tuner.OnChoice(func() error {
		return run.UpdateFile(filepath.Join(dir, run.TuningFile), tuner.Record)
	})
}
