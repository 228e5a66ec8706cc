package features

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// quantity is a row of the table.
type quantity struct {
	name, label string
	within      limits
}

var figures = []quantity{
	{"u", "robust feature learned, u: mean_i max_r ⟨w_{i,r}, u_i⟩", anywhere},
	{"v", "non-robust feature learned, v: the same with v_i", anywhere},
	{"v_over_u", "v/u", anywhere},
	{"acc", "clean accuracy", share},
	{"robust_trained", "robust: attack of the training", share},
	{"robust_search", "robust: PGD-20", share},
	{"robust_minus_v", "robust: −ε·v_y on J_N", share},
	{"robust_swap_v", "robust: −β·v_y + √(ε²−β²)·v_y' on J_N", share},
	{"robust_minus_vu", "robust: −ε·v_y on J_N, −ε·u_y on J_R", share},
	{"robust_inject_u", "robust: +ε·u_y' on J_N", share},
	{"robust_random", "robust: random, length ε on every patch", share},
	{"cos_minus_v", "cos(δ, −v_y on J_N)", signed},
	{"cos_plus_v", "cos(δ, nearest +v_y' on J_N)", signed},
	{"cos_minus_u", "cos(δ, −u_y on J_R)", signed},
	{"cos_plus_u", "cos(δ, nearest +u_y' on J_N)", signed},
	{"margin", "margin F_y − max F_j", anywhere},
	{"acc_u", "accuracy on robust-only inputs", share},
	{"margin_u", "margin on robust-only inputs", anywhere},
	{"acc_v", "accuracy on non-robust-only inputs", share},
	{"margin_v", "margin on non-robust-only inputs", anywhere},
}

// WriteText prints the table, then every claim and prediction.
func (r *Result) WriteText(out io.Writer) {
	fmt.Fprintf(out, "%s\n", r.Settings.describe())
	fmt.Fprintf(out, "%s; training attack: %s\n\n", sample(r.Settings.Seed, len(r.pairs())), r.Settings.attack().Describe(r.Settings.threat()))
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	header := "\tstandard\tadversarial"
	if r.Bands != nil {
		header += "\tband of run S"
	}
	fmt.Fprintln(w, header)
	for _, f := range figures {
		fmt.Fprintf(w, "%s\t%v\t%v", f.label, r.Final(Standard, f.name), r.Final(Adversarial, f.name))
		if r.Bands != nil {
			fmt.Fprintf(w, "\t%s", r.bandsOf(f.name))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Fprintln(out)
	for _, training := range Trainings() {
		l := r.Learned[training]
		fmt.Fprintf(out, "%s training learns %s  (v/u = %v; a factor of %d decides)\n", training, learnWords[l.Feature], l.VOverU, learnFactor)
	}
	fmt.Fprintln(out, "\nclaims: the mean over seeds against the threshold")
	for _, v := range r.Claims {
		fmt.Fprintf(out, "  %s  [%s] %s\n      %s: %v, threshold %s %v%s\n", v.verdict(), v.Source, v.Claim, v.Statistic, v.Value, v.Relation, v.Threshold, v.caveat())
	}
	fmt.Fprintln(out, "\npredicted and measured")
	for _, p := range r.Predict {
		fmt.Fprintf(out, "  %s: predicted %s, measured %v\n      %s\n", p.Name, number(p.Predicted), p.Measured, p.Note)
	}
}

// sample says what the intervals are of n seeds from first on.
func sample(first uint32, n int) string {
	if n == 1 {
		return fmt.Sprintf("one seed, %d: no intervals", first)
	}
	return fmt.Sprintf("seeds %d to %d; means with %s", first, int(first)+n-1, Intervals)
}

var learnWords = map[string]string{
	"robust":     "the robust feature u",
	"non-robust": "the non-robust feature v",
	"both":       "both features",
	"neither":    "neither feature",
}

func (v Verdict) verdict() string {
	switch {
	case v.undecided():
		return "is not decided    "
	case v.Holds:
		return "holds             "
	}
	return "does not hold here"
}

// undecided is a claim that the whole interval decides, where one seed gives none.
func (v Verdict) undecided() bool { return v.Relation == ">" && len(v.Value.Values) < 2 }

func (v Verdict) caveat() string {
	switch {
	case v.undecided():
		return " (one seed has no interval)"
	case len(v.Value.Values) < 2:
		return " (one seed: not settled)"
	case !v.Settled:
		return fmt.Sprintf(" (the interval crosses it: %d seeds do not settle this)", len(v.Value.Values))
	}
	return ""
}

// bandsOf says where a figure should be, and whether it is.
func (r *Result) bandsOf(figure string) string {
	var parts []string
	for _, b := range r.Bands {
		if b.Figure != figure {
			continue
		}
		word := "in"
		if !b.In {
			word = "OUT"
		}
		parts = append(parts, fmt.Sprintf("%s %s: %s", b.Training, b.interval(), word))
	}
	return strings.Join(parts, "; ")
}

func (b Landing) interval() string {
	switch {
	case b.High == nil:
		return "≥ " + number(*b.Low)
	case b.Low == nil:
		return "≤ " + number(*b.High)
	}
	return number(*b.Low) + "–" + number(*b.High)
}
