package features

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// The constructed sets: images matched to the features of a generator net.
const (
	RobustSet    = "d_r"     // the generator was trained adversarially
	NonRobustSet = "d_nr"    // in the standard way
	ControlSet   = "control" // not at all
)

// ConstructedSets lists them.
func ConstructedSets() []string { return []string{RobustSet, NonRobustSet, ControlSet} }

// setLabels are their names for people.
var setLabels = map[string]string{RobustSet: "D_R", NonRobustSet: "D_NR", ControlSet: "control"}

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

// end is the reading after the last epoch, last a value of it.
func (t ImageTrial) end() EpochReading { return t.Epochs[len(t.Epochs)-1] }

func (t ImageTrial) last(name string) float64 { return t.end().Values[name] }

// ImageResult is the experiment on real images.
type ImageResult struct {
	Settings ImageSettings `json:"settings"`
	Sizes    ImageSizes    `json:"sizes"`
	// Matched is how much of the starting distance to the features of the
	// images the constructions leave, the mean over images, by set and seed.
	Matched map[string][]float64 `json:"matched"`
	Trials  []ImageTrial         `json:"trials"` // standard then adversarial, seeds in order
	Claims  []Verdict            `json:"claims"`
	gallery *gallery             // of the first seed
}

// ImageSizes counts images.
type ImageSizes struct {
	Generators int `json:"generators"` // trained on
	Scored     int `json:"scored"`     // trained on
	Set        int `json:"set"`        // of a constructed set
	Test       int `json:"test"`
}

// sizes are those of an experiment with so many training and test images.
func (s ImageSettings) sizes(train, test int) ImageSizes {
	half := train / 2
	return ImageSizes{Generators: half, Scored: train - half, Set: min(s.MatchN, half), Test: test}
}

// SeedResult is what one seed of the experiment gives.
type SeedResult struct {
	Seed    uint32             `json:"seed"`
	Matched map[string]float64 `json:"matched"`
	Trials  []ImageTrial       `json:"trials"`
	Gallery *gallery           `json:"gallery"` // of the first seed only
}

// imagePair holds the two scored nets of one seed.
type imagePair struct{ standard, adversarial ImageTrial }

func (p imagePair) of(training string) ImageTrial {
	if training == Standard {
		return p.standard
	}
	return p.adversarial
}

// preference is by how much a net is better on D_NR than on D_R.
func (e EpochReading) preference() float64 { return e.Values[NonRobustSet] - e.Values[RobustSet] }

// preferences are the limits of one preference minus another.
var preferences = limits{-2, 2}

// imageClaims are decided as strictly as they are stated: they hold if the whole
// t-interval over seeds lies beyond the threshold, which one seed does not have.
// They were written before any run on real images.
var imageClaims = []struct {
	id, source, text, statistic string
	threshold                   float64
	within                      limits
	of                          func(p imagePair) float64
}{
	{"standard-prefers-nonrobust", "ours", "standard training's accuracy on D_NR exceeds its accuracy on D_R by more than adversarial training's does",
		"(D_NR − D_R) of standard minus that of adversarial training", 0, preferences,
		func(p imagePair) float64 { return p.standard.end().preference() - p.adversarial.end().preference() }},
	{"adversarial-learns-robust", "ours", "adversarial training learns the robust features better than standard training",
		"accuracy on D_R, adversarial minus standard training", 0, signed,
		func(p imagePair) float64 { return p.adversarial.last(RobustSet) - p.standard.last(RobustSet) }},
	{"standard-learns-nonrobust", "ours", "standard training learns the non-robust features better than adversarial training",
		"accuracy on D_NR, standard minus adversarial training", 0, signed,
		func(p imagePair) float64 { return p.standard.last(NonRobustSet) - p.adversarial.last(NonRobustSet) }},
	{"adversarial-robust", "ours", "and adversarial training is the more robust one",
		"accuracy under PGD, adversarial minus standard training", 0, signed,
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

func (r *ImageResult) over(within limits, f func(p imagePair) float64) Estimate {
	var values []float64
	for _, p := range r.pairs() {
		values = append(values, f(p))
	}
	return estimate(values, within)
}

func (r *ImageResult) verdicts() []Verdict {
	var list []Verdict
	for _, c := range imageClaims {
		e := r.over(c.within, c.of)
		several := len(e.Values) > 1
		list = append(list, Verdict{ID: c.id, Source: c.source, Claim: c.text, Statistic: c.statistic, Relation: ">", Threshold: c.threshold,
			Value: e, Holds: several && e.Low > c.threshold, Settled: several && (e.Low > c.threshold || e.High <= c.threshold)})
	}
	return list
}

// accuracies are the rows of the table.
var accuracies = []quantity{
	{"clean", "clean, test images", share},
	{"robust", "robust, test images under PGD", share},
	{NonRobustSet, "on D_NR, made with a standard generator", share},
	{RobustSet, "on D_R, made with an adversarial generator", share},
	{ControlSet, "on the control, made with an untrained net", share},
}

// WriteText prints the final accuracies and every claim.
func (r *ImageResult) WriteText(out io.Writer) {
	s := r.Settings
	fmt.Fprintf(out, "%s, %s: generators trained on %d images, scored nets on %d others; %d images a set, by %d steps of ℓ₂ length %v from %s; %d test images\n",
		s.Dataset, s.Model, r.Sizes.Generators, r.Sizes.Scored, r.Sizes.Set, s.MatchSteps, s.MatchRate, s.Start, r.Sizes.Test)
	fmt.Fprintf(out, "%s; %d epochs; evaluation's attack: %s\n\n", sample(s.Seed, s.Seeds), s.Epochs, s.attack(s.TestSteps).Describe(s.threat()))
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "accuracy\tstandard\tadversarial")
	for _, f := range accuracies {
		value := func(training string) Estimate {
			return r.over(f.within, func(p imagePair) float64 { return p.of(training).last(f.name) })
		}
		fmt.Fprintf(w, "%s\t%v\t%v\n", f.label, value(Standard), value(Adversarial))
	}
	w.Flush()
	fmt.Fprintln(out)
	for _, training := range Trainings() {
		fmt.Fprintf(out, "perturbations of the %s net: cosine %v with the way from the class's mean image to the nearest other\n", training,
			r.over(signed, func(p imagePair) float64 { return p.of(training).last("to_means") }))
	}
	for _, set := range ConstructedSets() {
		fmt.Fprintf(out, "%s: %v of the starting distance of features is left\n", setLabels[set], estimate(r.Matched[set], distance))
	}
	fmt.Fprintln(out, "\nclaims: the whole interval against the threshold")
	for _, v := range r.Claims {
		fmt.Fprintf(out, "  %s  [%s] %s\n      %s: %v, threshold %s %v%s\n", v.verdict(), v.Source, v.Claim, v.Statistic, v.Value, v.Relation, v.Threshold, v.caveat())
	}
}
