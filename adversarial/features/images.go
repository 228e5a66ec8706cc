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

// The constructed sets: images matched to the features of a generator net.
const (
	RobustSet    = "d_r"     // the generator was trained adversarially
	NonRobustSet = "d_nr"    // in the standard way
	ControlSet   = "control" // not at all
)

// ConstructedSets lists them.
func ConstructedSets() []string { return []string{RobustSet, NonRobustSet, ControlSet} }

// EpochReading is a scored net after an epoch: accuracies by name, which are
// those of ConstructedSets, "clean" and "robust", the last two on test images;
// and "to_means": the mean cosine of the attack's perturbations of test images
// with the nearest direction from the own class's mean image to another's.
type EpochReading struct {
	Epoch  int                `json:"epoch"`
	Values map[string]float64 `json:"values"`
}

// ImageTrial is one scored net.
type ImageTrial struct {
	Seed     uint32         `json:"seed"`
	Training string         `json:"training"`
	Epochs   []EpochReading `json:"epochs"` // 0, before training, to the last
}

// last is the final accuracy of a name.
func (t ImageTrial) last(name string) float64 { return t.Epochs[len(t.Epochs)-1].Values[name] }

// ImageResult is the experiment on real images.
type ImageResult struct {
	Settings ImageSettings `json:"settings"`
	// Matched is how much of the starting distance to the features of the
	// images the constructions leave, the mean over images, by set and seed.
	Matched map[string][]float64 `json:"matched"`
	Trials  []ImageTrial         `json:"trials"` // standard then adversarial, seeds in order
	Claims  []Verdict            `json:"claims"`
	gallery *gallery             // of the first seed
}

// ImageRun is what Images needs besides settings.
type ImageRun struct {
	Dir      string // of the data sets
	Device   string
	Threads  int
	Say      func(line string)                                         // of progress, for people
	Progress func(done, total int)                                     // in batches
	Keep     func(seed uint32, set string, images *datasets.Set) error // a constructed set, to be cached
}

// Images asks the paper's question of real images, by a protocol of our own.
// For each seed the training images fall into two halves. On the first, a
// standardly and an adversarially trained generator are made; from noise (or
// another image) images are constructed that the generators cannot tell from
// given ones by their penultimate layer, after Ilyas et al. (NeurIPS 2019):
// D_NR by the standard generator, D_R by the adversarial one, with the labels
// of the given images, and a control by a net that was never trained. On the
// second half, with other seeds, a net is trained in each way, and scored on
// the constructed sets after every epoch: the feature-learning accuracy.
func Images(ctx context.Context, s ImageSettings, run ImageRun) (*ImageResult, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	train, err := openPart(s.Dataset, run.Dir, datasets.Train, s.Limit)
	if err != nil {
		return nil, err
	}
	test, err := openPart(s.Dataset, run.Dir, datasets.Test, s.TestN)
	if err != nil {
		return nil, err
	}
	m, err := s.model(train.Info())
	if err != nil {
		return nil, err
	}
	dev, err := engine.Open(run.Device, engine.DeviceOptions{Threads: run.Threads})
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	st := &studio{ImageSettings: s, ImageRun: run, dev: dev, model: m, test: test, means: classMeans(train)}
	r := &ImageResult{Settings: s, Matched: map[string][]float64{}}
	st.total = s.Seeds * st.batches(train.Len()/2, train.Len()-train.Len()/2)
	for i := range s.Seeds {
		if err := st.seed(ctx, r, s.Seed+uint32(i), train); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(r.Trials, func(a, b ImageTrial) int {
		return slices.Index(Trainings(), a.Training) - slices.Index(Trainings(), b.Training)
	})
	r.Claims = r.verdicts()
	return r, nil
}

// openPart reads the first n images of a split, all if n is 0.
func openPart(name, dir string, split datasets.Split, n int) (datasets.Source, error) {
	set, err := datasets.Open(name, dir, split, datasets.Options{})
	if err != nil {
		return nil, err
	}
	if n > 0 && n < set.Len() {
		return datasets.Take(set, n)
	}
	return set, nil
}

// studio is a device with the data of an experiment.
type studio struct {
	ImageSettings
	ImageRun
	dev         *engine.Device
	model       *nn.Model
	test        datasets.Source
	means       [][]float64 // of the training images, by class
	done, total int
}

// batches is the number of steps of one seed: training batches, and descent
// batches at their price in steps.
func (st *studio) batches(first, second int) int {
	per := func(n int) int { return (n + st.BatchSize - 1) / st.BatchSize }
	return 2*st.Epochs*(per(first)+per(second)) + len(ConstructedSets())*per(min(st.MatchN, first))
}

func (st *studio) advance() {
	st.done++
	st.Progress(st.done, st.total)
}

// seed is the whole protocol for one seed. Every net has a seed of its own.
func (st *studio) seed(ctx context.Context, r *ImageResult, seed uint32, train datasets.Source) error {
	scoredOn, made, err := datasets.HoldOut(train, train.Len()/2, seed, true)
	if err != nil {
		return err
	}
	given := made
	if st.MatchN < made.Len() {
		if given, err = datasets.Take(made, st.MatchN); err != nil {
			return err
		}
	}
	sets := map[string]datasets.Source{}
	for i, name := range ConstructedSets() {
		net, err := st.newNet(netSeed(seed, i))
		if err != nil {
			return err
		}
		switch name {
		case RobustSet:
			err = net.train(ctx, made, Adversarial, func(int) error { return nil })
		case NonRobustSet:
			err = net.train(ctx, made, Standard, func(int) error { return nil })
		}
		var left float64
		var set *datasets.Set
		if err == nil {
			set, left, err = net.match(ctx, given)
		}
		net.close()
		if err == nil {
			err = st.Keep(seed, name, set)
		}
		if err != nil {
			return err
		}
		sets[name] = set
		r.Matched[name] = append(r.Matched[name], left)
		st.Say(fmt.Sprintf("seed %d: %s made of %d images; %.0f %% of the distance is left", seed, name, set.Len(), 100*left))
	}
	for i, training := range Trainings() {
		trial := ImageTrial{Seed: seed, Training: training}
		net, err := st.newNet(netSeed(seed, len(sets)+i))
		if err != nil {
			return err
		}
		score := func(epoch int) error {
			values, err := net.score(ctx, sets)
			if err != nil {
				return err
			}
			trial.Epochs = append(trial.Epochs, EpochReading{epoch, values})
			st.Say(fmt.Sprintf("seed %d: %s training, epoch %d: clean %.3f, robust %.3f, D_R %.3f, D_NR %.3f, control %.3f", seed, training, epoch,
				values["clean"], values["robust"], values[RobustSet], values[NonRobustSet], values[ControlSet]))
			return nil
		}
		if err = score(0); err == nil {
			err = net.train(ctx, scoredOn, training, score)
		}
		if err == nil && seed == st.Seed {
			err = r.picture(net, given, sets, training)
		}
		net.close()
		if err != nil {
			return err
		}
		r.Trials = append(r.Trials, trial)
	}
	return nil
}

// netSeed keeps the nets of all seeds apart.
func netSeed(seed uint32, i int) uint32 { return seed*16 + uint32(i) }

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
	init, err := st.dev.Compile(st.model.InitGraph(), n.state, engine.Options{})
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
	}, engine.Options{})
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
	}, engine.Options{})
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
// Robust are those that are right both without and under it.
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

// classMeans are the mean images, in [0,1]; of a class without images, zeros.
func classMeans(src datasets.Source) [][]float64 {
	in := src.Info()
	means, count := make([][]float64, len(in.Classes)), make([]float64, len(in.Classes))
	for i := range means {
		means[i] = make([]float64, in.Elements())
	}
	x := make([]byte, in.Elements())
	for i := range src.Len() {
		src.Read(i, datasets.Values{U8: x})
		y := src.Label(i)
		count[y]++
		for j, v := range x {
			means[y][j] += float64(v) / 255
		}
	}
	for y, m := range means {
		for j := range m {
			m[j] /= max(count[y], 1)
		}
	}
	return means
}

// match constructs the set that this net cannot tell from the given images. The
// second result is the mean part of the starting distance that is left.
func (n *net) match(ctx context.Context, given datasets.Source) (*datasets.Set, float64, error) {
	noise := n.Start == "noise"
	p := n.dev.NewProgram(n.state, func(batch int) (*graph.Graph, error) {
		return adversarial.MatchGraph(n.model, n.MatchSteps, noise, batch, graph.U8)
	}, engine.Options{})
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
