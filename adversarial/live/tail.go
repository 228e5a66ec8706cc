package live

import (
	"errors"
	"io/fs"

	"temper/adversarial/report"
	"temper/adversarial/run"
)

// tail follows the metrics of a run.
type tail struct {
	folder *run.Folder
	curves *report.Curves
	facts  run.Facts
	next   int64 // where the next record starts
}

func newTail(f *run.Folder) *tail { return &tail{folder: f, curves: &report.Curves{}} }

// poll reads what is new. A run that was taken back is read again.
func (t *tail) poll() error {
	var err error
	if t.next, err = t.folder.Metrics(t.next, t.curves.Add); err != nil && t.next > 0 {
		t.curves, t.next = &report.Curves{}, 0
		t.next, err = t.folder.Metrics(0, t.curves.Add)
	}
	if errors.Is(err, fs.ErrNotExist) { // nothing is written yet
		err = nil
	}
	if t.facts.Steps == 0 {
		t.facts, _ = t.folder.Facts() // it may come later, or never
	}
	return err
}

// watched finds the series of an accuracy, whatever it was measured on.
func (t *tail) watched(name string) *report.Series {
	if s := t.curves.Get("held-out/" + name); s != nil {
		return s
	}
	return t.curves.Get("test/" + name)
}
