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
	"time"

	"github.com/pelletier/go-toml/v2"

	"temper/adversarial/run"
	"temper/engine"
)

// evalLog is how far an evaluation has come, kept in a file until the command is
// done. Its name says what decides the verdicts: the weights and the settings. The
// examples as attacked, if they are wanted, are kept in a file beside it, one after
// the other as float32.
type evalLog struct {
	Batches  []*verdict `json:"batches"`            // finished
	Underway *underway  `json:"underway,omitempty"` // the batch behind them; nil before its first round
	Result   string     `json:"result,omitempty"`   // where the result was written, once it was: its file's name
	path     string
	kept     time.Time // when it was last written
	examples *os.File  // nil: nobody wants them
	size     int       // elements of an example
}

// logExamples is the name of the second file, behind that of the first.
const logExamples = ".f32"

// fingerprint is what weights are known by.
func fingerprint(tensors []run.Tensor) string {
	h := sha256.New()
	for _, t := range tensors {
		fmt.Fprintln(h, t.Name, t.DType, t.Shape)
		h.Write(t.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// logPath names the log of the evaluation at work, with the attacked examples or
// without.
func (e *evaluation) logPath(examples bool) string {
	s := *e.eval
	s.Device, s.Threads, s.DataDir, s.Checkpoint = "", 0, "", ""
	b, err := toml.Marshal(s)
	if err != nil {
		panic("BUG: settings do not marshal: " + err.Error())
	}
	for _, entry := range s.entries {
		b = fmt.Appendf(b, "%+v\n", entry)
	}
	b = fmt.Appendf(b, "%s %v %v\n", e.weights, examples, e.targets)
	sum := sha256.Sum256(b)
	return filepath.Join(e.dir, evaluations, "unfinished-"+hex.EncodeToString(sum[:8])+".json")
}

// openLog reads what an interrupted evaluation left. The log is to be closed.
func (e *evaluation) openLog(p *protocol, examples bool) (*evalLog, error) {
	l := &evalLog{path: e.logPath(examples), size: e.examples.Info().Elements(), kept: time.Now()}
	b, err := os.ReadFile(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err == nil:
		if err = json.Unmarshal(b, l); err == nil {
			err = l.fits(p.plans, len(e.examples.Info().Classes), e.eval.BatchSize, e.examples.Len())
		}
	}
	if err == nil && examples {
		err = l.openExamples()
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("%s, which an interrupted evaluation left, cannot be read: %w; delete it to begin again", l.path, err)
	}
	return l, nil
}

// openExamples opens the second file, which must hold the finished batches.
func (l *evalLog) openExamples() error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o777); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path+logExamples, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	l.examples = f
	info, err := f.Stat()
	if want := l.at(len(l.Batches)); err == nil && info.Size() < want {
		err = fmt.Errorf("%s has %d bytes of %d", filepath.Base(f.Name()), info.Size(), want)
	}
	return err
}

// at is where the examples of a batch begin in their file.
func (l *evalLog) at(batch int) (offset int64) {
	for _, v := range l.Batches[:batch] {
		offset += int64(4 * l.size * len(v.Labels))
	}
	return offset
}

// examplesDone counts the examples of the finished batches.
func (l *evalLog) examplesDone() (n int) {
	for _, v := range l.Batches {
		n += len(v.Labels)
	}
	return n
}

// attacked reads the examples of a finished batch (N,C,H,W).
func (l *evalLog) attacked(batch int) ([]float32, error) {
	x := make([]float32, l.size*len(l.Batches[batch].Labels))
	_, err := l.examples.ReadAt(engine.Bytes(x), l.at(batch))
	return x, err
}

func (l *evalLog) close() {
	if l.examples != nil {
		l.examples.Close()
	}
}

// fits reports what does not belong to an evaluation of n examples.
func (l *evalLog) fits(plans []planned, classes, batch, n int) error {
	for i, v := range l.Batches {
		if err := v.fits(len(plans), classes, min(batch, n-i*batch)); err != nil {
			return fmt.Errorf("batch %d: %w", i, err)
		}
	}
	if l.Underway == nil {
		return nil
	}
	if err := l.Underway.fits(plans, classes, min(batch, n-len(l.Batches)*batch), l.size); err != nil {
		return fmt.Errorf("the batch under way: %w", err)
	}
	return nil
}

// fits reports what does not belong to a batch of n examples.
func (v *verdict) fits(plans, classes, n int) error {
	if v == nil || n <= 0 || len(v.Labels) != n || len(v.Clean) != n || len(v.Fates) != plans {
		return fmt.Errorf("it is not one of %d examples under %d attacks", max(n, 0), plans)
	}
	for j, y := range v.Labels {
		if y < 0 || int(y) >= classes {
			return fmt.Errorf("label %d of example %d", y, j)
		}
	}
	for _, f := range v.Fates {
		if len(f) != n {
			return fmt.Errorf("%d fates for %d examples", len(f), n)
		}
	}
	return nil
}

// add keeps a batch, with its examples x as attacked (N,C,H,W) if they are
// wanted.
func (l *evalLog) add(v *verdict, x []float32) error {
	if l.examples != nil {
		if _, err := l.examples.WriteAt(engine.Bytes(x), l.at(len(l.Batches))); err != nil {
			return fmt.Errorf("cannot keep what is finished: %w", err)
		}
		if err := l.examples.Sync(); err != nil {
			return fmt.Errorf("cannot keep what is finished: %w", err)
		}
	}
	l.Batches, l.Underway = append(l.Batches, v), nil
	return l.keep()
}

// keep writes the log.
func (l *evalLog) keep() error {
	l.kept = time.Now()
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
func (e *evaluation) dropLog(examples bool) {
	path := e.logPath(examples)
	os.Remove(path)
	os.Remove(path + logExamples)
}
