package job

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"temper/adversarial/run"
)

// evalLog is the finished batches of an evaluation, kept in a file until the
// result is written. Its name says what decides the verdicts: the weights and
// the settings.
type evalLog struct {
	Batches []*verdict `json:"batches"`
	path    string     // "": it is not kept
}

// fingerprint is what weights are known by.
func fingerprint(tensors []run.Tensor) string {
	h := sha256.New()
	for _, t := range tensors {
		fmt.Fprintln(h, t.Name, t.DType, t.Shape)
		h.Write(t.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (e *evaluation) logPath() string {
	s := *e.eval
	s.Device, s.Threads, s.DataDir, s.Checkpoint = "", 0, "", ""
	b, err := toml.Marshal(s)
	if err != nil {
		panic("BUG: settings do not marshal: " + err.Error())
	}
	for _, entry := range s.entries {
		b = fmt.Appendf(b, "%+v\n", entry)
	}
	sum := sha256.Sum256(append(b, e.weights...))
	return filepath.Join(e.dir, evaluations, "unfinished-"+hex.EncodeToString(sum[:8])+".json")
}

// openLog reads what an interrupted evaluation left.
func (e *evaluation) openLog() (*evalLog, error) {
	l := &evalLog{path: e.logPath()}
	b, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(b, l)
	}
	if err == nil {
		err = l.fits(len(e.eval.entries), len(e.examples.Info().Classes), e.eval.BatchSize, e.examples.Len())
	}
	if err != nil {
		return nil, fmt.Errorf("%s, which an interrupted evaluation left, cannot be read: %w; delete it to begin again", l.path, err)
	}
	return l, nil
}

// fits reports what does not belong to an evaluation of n examples.
func (l *evalLog) fits(plans, classes, batch, n int) error {
	for i, v := range l.Batches {
		want := min(batch, n-i*batch)
		if v == nil || len(v.Labels) != want || len(v.Clean) != want || len(v.Fates) != plans {
			return fmt.Errorf("batch %d is not one of %d examples under %d attacks", i, max(want, 0), plans)
		}
		for j, y := range v.Labels {
			if y < 0 || int(y) >= classes {
				return fmt.Errorf("batch %d: label %d of example %d", i, y, j)
			}
		}
		for _, f := range v.Fates {
			if len(f) != want {
				return fmt.Errorf("batch %d has %d fates for %d examples", i, len(f), want)
			}
		}
	}
	return nil
}

// add keeps a batch.
func (l *evalLog) add(v *verdict) error {
	l.Batches = append(l.Batches, v)
	if l.path == "" {
		return nil
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o777); err != nil {
		return fmt.Errorf("cannot keep what is finished: %w", err)
	}
	return run.WriteFileAtomic(l.path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// dropLog removes the log of a finished evaluation.
func (e *evaluation) dropLog() { os.Remove(e.logPath()) }
