package job

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
)

// pictures collects what an evaluation leaves to be looked at: the first
// examples of each class that it meets.
type pictures struct {
	run.Pictures
	size, most int         // elements an example; examples
	left       map[int]int // of each class
}

const (
	mostPictures = 10
	mostElements = 1 << 19 // of all pictures together
)

func newPictures(in datasets.Info, domain adversarial.Domain) *pictures {
	p := &pictures{size: in.Elements(), left: map[int]int{}}
	p.Domain, p.Classes = string(domain), in.Classes
	p.most = max(1, min(mostPictures, mostElements/p.size))
	for class := range in.Classes {
		p.left[class] = max(1, p.most/len(in.Classes))
	}
	p.X.Shape = []int{0, in.Channels, in.Height, in.Width}
	p.Adv.Shape = []int{0, in.Channels, in.Height, in.Width}
	return p
}

// add looks at the examples of a batch and at what became of them: predictions
// before and after the attack, and the attacked examples (N,C,H,W).
func (p *pictures) add(b *datasets.Batch, clean, pred []int32, adv []float32) {
	for i, y := range b.Labels {
		if p.X.Shape[0] == p.most || p.left[int(y)] == 0 {
			continue
		}
		p.left[int(y)]--
		p.X.Shape[0]++
		p.Adv.Shape[0]++
		if b.U8 != nil {
			for _, v := range b.U8[i*p.size:][:p.size] {
				p.X.Values = append(p.X.Values, float32(v)/255)
			}
		} else {
			p.X.Values = append(p.X.Values, b.F32[i*p.size:][:p.size]...)
		}
		p.Adv.Values = append(p.Adv.Values, adv[i*p.size:][:p.size]...)
		p.Labels, p.Clean, p.Pred = append(p.Labels, y), append(p.Clean, clean[i]), append(p.Pred, pred[i])
	}
}

// keep writes the pictures into the run folder, with the first layer's filters.
func (p *pictures) keep(dir string, s *session, step int64, attack string) error {
	p.Step, p.Attack = step, attack
	var err error
	if p.Filters, err = s.filters(); err != nil {
		return err
	}
	return run.WritePictures(dir, &p.Pictures)
}

// filters are the weights of the network's first convolution, if they are few.
func (s *session) filters() (run.Array, error) {
	for _, spec := range s.model.Specs() {
		if spec.Buffer || len(spec.Shape) != 4 || spec.Shape.Size() > mostElements {
			continue
		}
		b, err := s.state.Bytes(spec.Name)
		if err != nil {
			return run.Array{}, err
		}
		v := unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
		return run.Array{Name: spec.Name, Shape: spec.Shape, Values: v}, nil
	}
	return run.Array{}, nil
}

// trainingResult is the name of the evaluation on the way in the folder of
// evaluations: the latest one.
const trainingResult = "training.json"

// keepWatch writes down an evaluation of the training: its result, and what
// there is to be looked at.
func (t *trainer) keepWatch(out *Outcome, p *pictures, split string, step int64, began time.Time) error {
	s := t.settings
	attack := s.Eval.Attack.Describe(s.Threat)
	e := &Evaluation{Date: began, Run: t.run.Dir, Step: step, Attack: attack, Outcome: *out, Device: t.describe(),
		CleanAccuracy: accuracy(out.Clean, out.N), RobustAccuracy: accuracy(out.Robust, out.N), Seconds: time.Since(began).Seconds(),
		Settings: map[string]any{"split": split, "limit": s.Eval.Limit, "seed": s.Seed},
		Attacks:  []AttackResult{{Attack: attack, Robust: out.Robust, Accuracy: accuracy(out.Robust, out.N)}}}
	if err := e.writeTo(filepath.Join(t.run.Dir, evaluations, trainingResult)); err != nil {
		return err
	}
	return p.keep(t.run.Dir, t.session, step, attack)
}

// writeTo writes the result as indented JSON.
func (r *Evaluation) writeTo(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fmt.Errorf("cannot keep the result: %w", err)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return run.WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
}

// facts are what the settings amount to.
func (t *trainer) facts() (run.Facts, error) {
	in, f := t.source.Info(), run.Facts{
		Steps: t.total(), PerEpoch: t.perEpoch, Batch: min(t.settings.Batches.Size, t.source.Len()), Train: t.source.Len(),
		Watched: t.watch.Len(), Watching: t.watching, Parameters: parameters(t.model), Device: t.describe(),
	}
	f.Classes, f.Shape = in.Classes, [3]int{in.Channels, in.Height, in.Width}
	if n := t.settings.Eval.Limit; n > 0 {
		f.Watched = min(n, f.Watched)
	}
	for _, name := range t.state.Names() {
		dtype, shape, err := t.state.Type(name)
		if err != nil {
			return f, err
		}
		f.StateBytes += shape.Size() * dtype.Size()
	}
	e, err := t.program.For(f.Batch)
	if err != nil {
		return f, err
	}
	f.ProgramBytes = e.Memory()
	_, f.DeviceBytes, err = t.deviceMemory()
	return f, err
}

// times are where the time of a step has gone since the last evaluation, in
// seconds: the whole step, waiting for data, and, if the device can time its
// parts, attack and update. Of these the shares
// are those of the last few steps.
func (t *trainer) times() []run.Field {
	all, data := time.Since(t.began).Seconds()/float64(t.steps), t.waited.Seconds()/float64(t.steps)
	fields := []run.Field{{Name: "time/step", Value: all}, {Name: "time/data", Value: data}}
	if share, ok := t.parts.share(); ok {
		fields = append(fields, run.Field{Name: "time/attack", Value: share * (all - data)}, run.Field{Name: "time/update", Value: (1 - share) * (all - data)})
	}
	return fields
}
