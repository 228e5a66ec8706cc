package features

import (
	"context"
	"fmt"
	"slices"

	"temper/datasets"
	"temper/engine"
	"temper/nn"
)

// ImageRun is what Images needs besides settings.
type ImageRun struct {
	Dir      string // of the data sets
	Device   string
	Threads  int
	Known    []SeedResult                                              // what an earlier start has done
	Done     func(SeedResult) error                                    // a seed's result, to be kept
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
	compile, err := compileOptions(s.Precision)
	if err != nil {
		return nil, err
	}
	dev, err := engine.Open(run.Device, engine.DeviceOptions{Threads: run.Threads})
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	sizes := s.sizes(train.Len(), test.Len())
	st := &studio{ImageSettings: s, ImageRun: run, dev: dev, compile: compile, model: m, test: test, means: classMeans(train)}
	r := &ImageResult{Settings: s, Sizes: sizes, Matched: map[string][]float64{}}
	st.total = (s.Seeds - len(run.Known)) * st.batches(sizes)
	for i := range s.Seeds {
		if i < len(run.Known) {
			r.add(run.Known[i])
			continue
		}
		one, err := st.seed(ctx, s.Seed+uint32(i), train)
		if err != nil {
			return nil, err
		}
		if err := run.Done(*one); err != nil {
			return nil, err
		}
		r.add(*one)
	}
	slices.SortStableFunc(r.Trials, func(a, b ImageTrial) int {
		return slices.Index(Trainings(), a.Training) - slices.Index(Trainings(), b.Training)
	})
	r.Claims = r.verdicts()
	return r, nil
}

func (r *ImageResult) add(one SeedResult) {
	for set, left := range one.Matched {
		r.Matched[set] = append(r.Matched[set], left)
	}
	r.Trials = append(r.Trials, one.Trials...)
	if one.Gallery != nil {
		r.gallery = one.Gallery
	}
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
	compile     engine.Options
	model       *nn.Model
	test        datasets.Source
	means       [][]float64 // of the training images, by class
	done, total int
}

// batches is the number of steps of one seed: training batches, and descent
// batches at their price in steps.
func (st *studio) batches(n ImageSizes) int {
	per := func(n int) int { return (n + st.BatchSize - 1) / st.BatchSize }
	return 2*st.Epochs*(per(n.Generators)+per(n.Scored)) + len(ConstructedSets())*per(n.Set)
}

func (st *studio) advance() {
	st.done++
	st.Progress(st.done, st.total)
}

// seed is the whole protocol for one seed. Every net has a seed of its own.
func (st *studio) seed(ctx context.Context, seed uint32, train datasets.Source) (*SeedResult, error) {
	one := &SeedResult{Seed: seed, Matched: map[string]float64{}}
	scoredOn, made, err := datasets.HoldOut(train, train.Len()/2, seed, true)
	if err != nil {
		return nil, err
	}
	given := made
	if st.MatchN < made.Len() {
		if given, err = datasets.Take(made, st.MatchN); err != nil {
			return nil, err
		}
	}
	var pictures *gallery
	if seed == st.Seed {
		pictures = newGallery(given)
		one.Gallery = pictures
	}
	sets := map[string]datasets.Source{}
	for i, name := range ConstructedSets() {
		set, left, err := st.construct(ctx, netSeed(seed, i), name, made, given)
		if err == nil {
			err = st.Keep(seed, name, set)
		}
		if err != nil {
			return nil, err
		}
		sets[name], one.Matched[name] = set, left
		pictures.addSet(setLabels[name], set)
		st.Say(fmt.Sprintf("seed %d: %s made of %d images; %.0f %% of the distance is left", seed, setLabels[name], set.Len(), 100*left))
	}
	for i, training := range Trainings() {
		trial := ImageTrial{Seed: seed, Training: training}
		err := st.follow(ctx, netSeed(seed, len(sets)+i), &trial, scoredOn, sets, pictures)
		if err != nil {
			return nil, err
		}
		one.Trials = append(one.Trials, trial)
	}
	return one, nil
}

// construct makes one of the constructed sets by a generator of its own, trained
// on made. The second result is what match gives.
func (st *studio) construct(ctx context.Context, seed uint32, name string, made, given datasets.Source) (*datasets.Set, float64, error) {
	net, err := st.newNet(seed)
	if err != nil {
		return nil, 0, err
	}
	defer net.close()
	silent := func(int) error { return nil }
	switch name {
	case RobustSet:
		err = net.train(ctx, made, Adversarial, silent)
	case NonRobustSet:
		err = net.train(ctx, made, Standard, silent)
	}
	if err != nil {
		return nil, 0, err
	}
	return net.match(ctx, given)
}

// follow trains a net on src, scores it on the constructed sets before the
// first and after every epoch, and adds its pictures.
func (st *studio) follow(ctx context.Context, seed uint32, trial *ImageTrial, src datasets.Source, sets map[string]datasets.Source, pictures *gallery) error {
	net, err := st.newNet(seed)
	if err != nil {
		return err
	}
	defer net.close()
	score := func(epoch int) error {
		values, err := net.score(ctx, sets)
		if err != nil {
			return err
		}
		trial.Epochs = append(trial.Epochs, EpochReading{epoch, values})
		st.Say(fmt.Sprintf("seed %d: %s training, epoch %d: clean %.3f, robust %.3f, D_R %.3f, D_NR %.3f, control %.3f", trial.Seed, trial.Training, epoch,
			values["clean"], values["robust"], values[RobustSet], values[NonRobustSet], values[ControlSet]))
		return nil
	}
	if err := score(0); err != nil {
		return err
	}
	if err := net.train(ctx, src, trial.Training, score); err != nil {
		return err
	}
	return pictures.addNet(net, trial.Training)
}

// netSeed keeps the nets of all seeds apart.
func netSeed(seed uint32, i int) uint32 { return seed*16 + uint32(i) }

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
