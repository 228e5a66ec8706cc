package job

import (
	"context"
	"fmt"
	"unsafe"

	"temper/adversarial"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
	"temper/nn"
)

// evaluator measures a network, clean and under an attack.
type evaluator struct {
	threat  adversarial.ThreatModel
	at      adversarial.ThreatModel // what scale has made of it
	attack  adversarial.Attack
	batch   int
	program *engine.Program
}

// newEvaluator prepares the attack on a model whose weights are in st. The
// draws of the attack depend on seed and each example's number alone.
func newEvaluator(dev *engine.Device, st *engine.State, m *nn.Model, in datasets.Info, threat adversarial.ThreatModel, attack adversarial.Attack, seed uint32, batch int, o engine.Options) (*evaluator, error) {
	e := &evaluator{threat: threat, attack: attack, batch: batch}
	e.program = dev.NewProgram(st, func(n int) (*graph.Graph, error) {
		return adversarial.EvalGraph(m, &attack, threat, n, inputType(in))
	}, o)
	if err := e.program.Set("seed", float64(seed)); err != nil {
		return nil, err
	}
	return e, e.scale(1)
}

// scale attacks with a share of the radius and of the step size.
func (e *evaluator) scale(share float64) error {
	e.at = e.threat.Share(share)
	if err := e.program.Set("eps", e.at.Epsilon.Float64()); err != nil {
		return err
	}
	return e.program.Set("alpha", share*e.attack.Alpha(e.threat).Float64())
}

func (e *evaluator) close() { e.program.Close() }

// attacked is a batch after its evaluation. Its memory is the program's: the
// next batch changes it.
type attacked struct {
	*datasets.Batch
	Clean, Adv []int32   // predictions (N)
	X          []float32 // the examples as attacked (N,C,H,W)
	Norm       []float32 // of the perturbations (N)
	Loss       []float32 // cross-entropy as attacked (N)
}

// run evaluates the first limit examples of src, all if limit is 0. It calls
// visit, if not nil, with each batch, and done with the number of examples
// behind it.
func (e *evaluator) run(ctx context.Context, src datasets.Source, limit int, done func(int), visit func(*attacked) error) (*Outcome, error) {
	if limit > 0 && limit < src.Len() {
		var err error
		if src, err = datasets.Take(src, limit); err != nil {
			return nil, err
		}
	}
	stream, err := datasets.NewStream(src, datasets.StreamOptions{BatchSize: e.batch, Epochs: 1})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	out := &Outcome{}
	for _, c := range src.Info().Classes {
		out.Classes = append(out.Classes, ClassOutcome{Class: c})
	}
	for {
		b, ok := stream.Next()
		if !ok {
			return out, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		a, err := e.one(b)
		if err == nil {
			err = e.check(a)
		}
		if err != nil {
			return nil, err
		}
		for i, y := range b.Labels {
			clean := a.Clean[i] == y
			out.add(y, clean, clean && a.Adv[i] == y, float64(a.Norm[i]))
			out.confuse(y, a.Clean[i], a.Adv[i])
		}
		if visit != nil {
			if err := visit(a); err != nil {
				return nil, err
			}
		}
		b.Release()
		done(out.N)
	}
}

// one evaluates a batch.
func (e *evaluator) one(b *datasets.Batch) (*attacked, error) {
	exe, err := e.program.For(b.N)
	if err != nil {
		return nil, err
	}
	if err := feed(exe, b); err != nil {
		return nil, err
	}
	if err := exe.Run(); err != nil {
		return nil, err
	}
	a := &attacked{Batch: b}
	if a.Clean, err = fetch[int32](exe, "clean_pred"); err != nil {
		return nil, err
	}
	if a.Adv, err = fetch[int32](exe, "adv_pred"); err != nil {
		return nil, err
	}
	if a.Norm, err = fetch[float32](exe, "norm"); err != nil {
		return nil, err
	}
	if a.Loss, err = fetch[float32](exe, "adv_loss"); err != nil {
		return nil, err
	}
	a.X, err = fetch[float32](exe, "x_adv")
	return a, err
}

// check holds every attacked example against the threat model.
func (e *evaluator) check(a *attacked) error {
	size := len(a.X) / a.N
	for i, norm := range a.Norm {
		if err := e.at.Check(float64(norm), a.X[i*size:][:size]); err != nil {
			return fmt.Errorf("example %d: %w", a.IDs[i], err)
		}
	}
	return nil
}

// fetch views an output of the last run.
func fetch[T int32 | float32](e *engine.Executable, name string) ([]T, error) {
	b, err := e.FetchBytes(name)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4), nil
}
