package features

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"

	"temper/adversarial"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
	"temper/nn"
)

// net is one network of a studio.
type net struct {
	*studio
	seed  uint32
	state *engine.State
	eval  *engine.Program // clean
	hard  *engine.Program // and under attack
}

func (st *studio) newNet(seed uint32) (*net, error) {
	n := &net{studio: st, seed: seed, state: st.dev.NewState()}
	init, err := st.dev.Compile(st.model.InitGraph(), n.state, st.compile)
	if err != nil {
		return nil, err
	}
	defer init.Close()
	if err := init.Set("seed", float64(seed)); err != nil {
		return nil, err
	}
	if err := init.Run(); err != nil {
		return nil, err
	}
	attack := st.attack(st.TestSteps)
	n.eval = n.evaluator(nil)
	n.hard = n.evaluator(&attack)
	for _, p := range []*engine.Program{n.eval, n.hard} {
		if err := setAll(p.Set, map[string]float64{"seed": float64(seed), "eps": st.Eps.Float64(), "alpha": attack.Alpha(st.threat()).Float64()}); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *net) evaluator(attack *adversarial.Attack) *engine.Program {
	return n.dev.NewProgram(n.state, func(batch int) (*graph.Graph, error) {
		return adversarial.EvalGraph(n.model, attack, n.threat(), batch, graph.U8)
	}, n.compile)
}

func (n *net) close() {
	n.eval.Close()
	n.hard.Close()
	n.state.Free()
}

// train trains for the settings' epochs and calls after with each one's number,
// from 1. ε and the attack's step rise linearly from 0 over the first epoch.
func (n *net) train(ctx context.Context, src datasets.Source, training string, after func(epoch int) error) error {
	method, attack := adversarial.Training{Method: "standard"}, n.attack(n.AttackSteps)
	if training == Adversarial {
		method = adversarial.Training{Method: "pgd-at", Attack: attack}
	}
	p := n.dev.NewProgram(n.state, func(batch int) (*graph.Graph, error) {
		return adversarial.StepGraph(n.model, method, nn.Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, n.threat(), batch, graph.U8)
	}, n.compile)
	defer p.Close()
	if err := setAll(p.Set, map[string]float64{"seed": float64(n.seed), "lr": n.LR, "weight_decay": 0}); err != nil {
		return err
	}
	stream, err := datasets.NewStream(src, datasets.StreamOptions{BatchSize: min(n.BatchSize, src.Len()), Shuffle: true, Seed: n.seed, Epochs: n.Epochs})
	if err != nil {
		return err
	}
	defer stream.Close()
	per := stream.BatchesPerEpoch()
	for step := range per * n.Epochs {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, _ := stream.Next()
		warm := min(1, float64(step+1)/float64(per))
		err := setAll(p.Set, map[string]float64{"step": float64(step),
			"eps": warm * n.Eps.Float64(), "alpha": warm * attack.Alpha(n.threat()).Float64()})
		if err == nil {
			err = n.step(p, b)
		}
		b.Release()
		if err == nil && (step+1)%per == 0 {
			err = after((step + 1) / per)
		}
		if err != nil {
			return err
		}
		n.advance()
	}
	return nil
}

func (n *net) step(p *engine.Program, b *datasets.Batch) error {
	e, err := runBatch(p, b, nil)
	if err != nil {
		return err
	}
	if finite, err := e.Scalar("finite"); err != nil || finite == 1 {
		return err
	}
	return fmt.Errorf("the loss or its gradient is not finite: lower lr (%v)", n.LR)
}

// runBatch runs a program on a batch of bytes, with further inputs.
func runBatch(p *engine.Program, b *datasets.Batch, more map[string][]byte) (*engine.Executable, error) {
	e, err := p.For(b.N)
	if err != nil {
		return nil, err
	}
	if err := feed(e, map[string][]byte{"x": b.U8, "y": engine.Bytes(b.Labels), "ids": engine.Bytes(b.IDs)}); err != nil {
		return nil, err
	}
	if err := feed(e, more); err != nil {
		return nil, err
	}
	return e, e.Run()
}

// each runs a program on all of src, in order. More, if not nil, gives further
// inputs.
func (n *net) each(ctx context.Context, p *engine.Program, src datasets.Source, more func(b *datasets.Batch) map[string][]byte, visit func(b *datasets.Batch, e *engine.Executable) error) error {
	stream, err := datasets.NewStream(src, datasets.StreamOptions{BatchSize: min(n.BatchSize, src.Len()), Epochs: 1})
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		b, ok := stream.Next()
		if !ok {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var inputs map[string][]byte
		if more != nil {
			inputs = more(b)
		}
		e, err := runBatch(p, b, inputs)
		if err == nil {
			err = visit(b, e)
		}
		b.Release()
		if err != nil {
			return err
		}
	}
}

// score gives the accuracies of an EpochReading.
func (n *net) score(ctx context.Context, sets map[string]datasets.Source) (map[string]float64, error) {
	values := map[string]float64{}
	for name, set := range sets {
		right := 0.0
		err := n.each(ctx, n.eval, set, nil, func(_ *datasets.Batch, e *engine.Executable) error {
			clean, err := e.FetchBytes("clean_correct")
			right += float64(bytes.Count(clean, []byte{1}))
			return err
		})
		if err != nil {
			return nil, err
		}
		values[name] = right / float64(set.Len())
	}
	return values, n.withstand(ctx, values)
}

// withstand measures the net on the test images under the evaluation's attack.
// Robust are those that are right both without and under it. A perturbation
// outside the threat model is an error.
func (n *net) withstand(ctx context.Context, values map[string]float64) error {
	clean, robust, cosines := 0, 0, 0.0
	err := n.each(ctx, n.hard, n.test, nil, func(b *datasets.Batch, e *engine.Executable) error {
		before, err := e.FetchBytes("clean_correct")
		if err != nil {
			return err
		}
		after, err := e.FetchBytes("adv_correct")
		if err != nil {
			return err
		}
		norms, err := floats(e, "norm")
		if err != nil {
			return err
		}
		if err := n.threat().Check(slices.Max(norms), nil); err != nil {
			return err
		}
		x, err := floats(e, "x_adv")
		if err != nil {
			return err
		}
		size := len(x) / b.N
		for i, right := range before {
			clean += int(right)
			robust += int(right & after[i])
			cosines += n.toMeans(x[i*size:(i+1)*size], b.U8[i*size:(i+1)*size], int(b.Labels[i]))
		}
		return nil
	})
	total := float64(n.test.Len())
	values["clean"], values["robust"], values["to_means"] = float64(clean)/total, float64(robust)/total, cosines/total
	return err
}

// toMeans is the largest cosine of a perturbation with a direction from the
// mean image of class y to that of another class.
func (n *net) toMeans(moved []float64, x []byte, y int) float64 {
	best := math.Inf(-1)
	for j, other := range n.means {
		if j == y {
			continue
		}
		var dot, size, way float64
		for i, v := range x {
			delta, step := moved[i]-float64(v)/255, other[i]-n.means[y][i]
			dot, size, way = dot+delta*step, size+delta*delta, way+step*step
		}
		if size > 0 && way > 0 {
			best = math.Max(best, dot/math.Sqrt(size*way))
		}
	}
	if math.IsInf(best, -1) {
		return 0 // nothing was moved
	}
	return best
}

// match constructs the set that this net cannot tell from the given images. The
// second result is the mean part of the starting distance that is left.
func (n *net) match(ctx context.Context, given datasets.Source) (*datasets.Set, float64, error) {
	noise := n.Start == "noise"
	p := n.dev.NewProgram(n.state, func(batch int) (*graph.Graph, error) {
		return adversarial.MatchGraph(n.model, n.MatchSteps, noise, batch, graph.U8)
	}, n.compile)
	defer p.Close()
	if err := setAll(p.Set, map[string]float64{"seed": float64(n.seed), "rate": n.MatchRate}); err != nil {
		return nil, 0, err
	}
	in := given.Info()
	in.Published = 0
	pixels := make([]byte, 0, given.Len()*in.Elements())
	var labels []int32
	left := 0.0 // the mean over images
	visit := func(b *datasets.Batch, e *engine.Executable) error {
		x, err := e.FetchBytes("match_u8")
		if err != nil {
			return err
		}
		pixels, labels = append(pixels, x...), append(labels, b.Labels...)
		before, err := floats(e, "before")
		if err != nil {
			return err
		}
		after, err := floats(e, "after")
		if err != nil {
			return err
		}
		for i := range before {
			if before[i] > 0 {
				left += after[i] / before[i] / float64(given.Len())
			}
		}
		n.advance()
		return nil
	}
	// Another image: the one half a set further on, whatever its class.
	next := given.Len() / 2
	other := func(b *datasets.Batch) map[string][]byte {
		start := make([]byte, b.N*in.Elements())
		for i := range b.N {
			given.Read(next%given.Len(), datasets.Values{U8: start[i*in.Elements() : (i+1)*in.Elements()]})
			next++
		}
		return map[string][]byte{"start": start}
	}
	if noise {
		other = nil
	}
	if err := n.each(ctx, p, given, other, visit); err != nil {
		return nil, 0, err
	}
	set, err := datasets.NewSet(in, datasets.Values{U8: pixels}, labels)
	return set, left, err
}
