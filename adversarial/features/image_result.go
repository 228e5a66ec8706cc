package features

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"temper/datasets"
	"temper/engine"
)

// imagePair holds the two scored nets of one seed.
type imagePair struct{ standard, adversarial ImageTrial }

func (p imagePair) of(training string) ImageTrial {
	if training == Standard {
		return p.standard
	}
	return p.adversarial
}

// preference is by how much a net is better on D_NR than on D_R.
func preference(t ImageTrial) float64 { return t.last(NonRobustSet) - t.last(RobustSet) }

// imageClaims are decided as strictly as they are stated: the whole t-interval
// over seeds, or the one seed's value, lies beyond the threshold. They were
// written before any run on real images.
var imageClaims = []struct {
	id, source, text, statistic string
	threshold                   float64
	of                          func(p imagePair) float64
}{
	{"standard-prefers-nonrobust", "ours", "standard training's accuracy on D_NR exceeds its accuracy on D_R by more than adversarial training's does",
		"(D_NR − D_R) of standard minus that of adversarial training", 0,
		func(p imagePair) float64 { return preference(p.standard) - preference(p.adversarial) }},
	{"adversarial-learns-robust", "ours", "adversarial training learns the robust features better than standard training",
		"accuracy on D_R, adversarial minus standard training", 0,
		func(p imagePair) float64 { return p.adversarial.last(RobustSet) - p.standard.last(RobustSet) }},
	{"standard-learns-nonrobust", "ours", "standard training learns the non-robust features better than adversarial training",
		"accuracy on D_NR, standard minus adversarial training", 0,
		func(p imagePair) float64 { return p.standard.last(NonRobustSet) - p.adversarial.last(NonRobustSet) }},
	{"adversarial-robust", "ours", "and adversarial training is the more robust one",
		"accuracy under PGD, adversarial minus standard training", 0,
		func(p imagePair) float64 { return p.adversarial.last("robust") - p.standard.last("robust") }},
}

func (r *ImageResult) pairs() []imagePair {
	n := len(r.Trials) / 2
	list := make([]imagePair, n)
	for i := range list {
		list[i] = imagePair{r.Trials[i], r.Trials[n+i]}
	}
	return list
}

func (r *ImageResult) over(f func(p imagePair) float64) Estimate {
	var values []float64
	for _, p := range r.pairs() {
		values = append(values, f(p))
	}
	return estimate(values)
}

func (r *ImageResult) verdicts() []Verdict {
	var list []Verdict
	for _, c := range imageClaims {
		e := r.over(c.of)
		list = append(list, Verdict{ID: c.id, Source: c.source, Claim: c.text, Statistic: c.statistic, Relation: ">", Threshold: c.threshold,
			Value: e, Holds: e.Low > c.threshold, Settled: len(e.Values) > 1 && (e.Low > c.threshold || e.High <= c.threshold)})
	}
	return list
}

// accuracies are the rows of the table.
var accuracies = []figure{
	{"clean", "clean, test images"},
	{"robust", "robust, test images under PGD"},
	{NonRobustSet, "on D_NR, made with a standard generator"},
	{RobustSet, "on D_R, made with an adversarial generator"},
	{ControlSet, "on the control, made with an untrained net"},
}

// WriteText prints the final accuracies and every claim.
func (r *ImageResult) WriteText(out io.Writer) {
	s := r.Settings
	fmt.Fprintf(out, "%s: %s trained both ways on one half, scored on %d images made with the other half's nets (%s, %d steps of ℓ₂ length %v)\n",
		s.Dataset, s.Model, s.MatchN, s.Start, s.MatchSteps, s.MatchRate)
	fmt.Fprintf(out, "%s from %d, %d epochs; means with %.0f %% t-intervals over seeds; %s\n\n", seeds(s.Seeds), s.Seed, s.Epochs, 100*Confidence,
		s.attack(s.TestSteps).Describe(s.threat()))
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "accuracy\tstandard\tadversarial")
	for _, f := range accuracies {
		value := func(training string) Estimate {
			return r.over(func(p imagePair) float64 { return p.of(training).last(f.name) })
		}
		fmt.Fprintf(w, "%s\t%v\t%v\n", f.label, value(Standard), value(Adversarial))
	}
	w.Flush()
	fmt.Fprintln(out)
	for _, training := range Trainings() {
		fmt.Fprintf(out, "perturbations of the %s net: cosine %v with the way from the class's mean image to the nearest other\n", training,
			r.over(func(p imagePair) float64 { return p.of(training).last("to_means") }))
	}
	for _, set := range ConstructedSets() {
		fmt.Fprintf(out, "%s: %v of the starting distance of features is left\n", set, estimate(r.Matched[set]))
	}
	fmt.Fprintln(out, "\nclaims: the whole interval against the threshold")
	for _, v := range r.Claims {
		fmt.Fprintf(out, "  %s  [%s] %s\n      %s: %v, threshold %s %v%s\n", v.verdict(), v.Source, v.Claim, v.Statistic, v.Value, v.Relation, v.Threshold, v.caveat())
	}
}

// gallery is the pictures of one seed: a column for each class, as bytes
// (C,H,W), by row.
type gallery struct {
	info datasets.Info
	rows []galleryRow
}

type galleryRow struct {
	label  string
	images [][]byte
}

// picture adds a scored net's perturbations to the gallery, and before the
// first one's the given and the constructed images.
func (r *ImageResult) picture(n *net, given datasets.Source, sets map[string]datasets.Source, training string) error {
	in := given.Info()
	var index []int
	for class := range in.Classes {
		for i := range given.Len() {
			if int(given.Label(i)) == class {
				index = append(index, i)
				break
			}
		}
	}
	column := func(src datasets.Source) (images [][]byte) {
		for _, i := range index {
			x := make([]byte, in.Elements())
			src.Read(i, datasets.Values{U8: x})
			images = append(images, x)
		}
		return images
	}
	if r.gallery == nil {
		r.gallery = &gallery{info: in, rows: []galleryRow{{"given image", column(given)}}}
		for _, row := range []struct{ name, label string }{{RobustSet, "D_R"}, {NonRobustSet, "D_NR"}, {ControlSet, "control"}} {
			r.gallery.rows = append(r.gallery.rows, galleryRow{row.label, column(sets[row.name])})
		}
	}
	x := column(given)
	moved, err := n.attacked(x, given, index)
	if err != nil {
		return err
	}
	r.gallery.rows = append(r.gallery.rows, galleryRow{"δ, " + training, moved})
	return nil
}

// attacked gives the perturbations of images under the evaluation's attack, ±ε
// drawn as black and white.
func (n *net) attacked(images [][]byte, given datasets.Source, index []int) ([][]byte, error) {
	e, err := n.hard.For(len(index))
	if err != nil {
		return nil, err
	}
	labels, ids := make([]int32, len(index)), make([]uint32, len(index))
	for i, at := range index {
		labels[i], ids[i] = given.Label(at), given.ID(at)
	}
	if err := feed(e, map[string][]byte{"x": slices.Concat(images...), "y": engine.Bytes(labels), "ids": engine.Bytes(ids)}); err != nil {
		return nil, err
	}
	if err := e.Run(); err != nil {
		return nil, err
	}
	adv, err := floats(e, "x_adv")
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(images))
	for i, x := range images {
		out[i] = make([]byte, len(x))
		for j, v := range x {
			delta := adv[i*len(x)+j] - float64(v)/255
			out[i][j] = byte(max(0, min(255, 127.5+127.5*delta/n.Eps.Float64())))
		}
	}
	return out, nil
}
