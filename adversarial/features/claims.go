package features

import (
	"math"
	"slices"
)

// A claim is a statement about both trainings, decided by a number of each
// seed and a threshold. The thresholds were set before the runs under
// docs/results were made, and are nowhere else.
type claim struct {
	id        string
	source    string // paper: arXiv 2410.08503 claims it; derived: by us; ours
	text      string
	statistic string
	relation  string // ≥ or ≤
	threshold float64
	within    limits // of the number
	of        func(p pair) float64
}

var claims = []claim{
	{"standard-learns-v", "paper", "standard training learns the non-robust features",
		"v/u of standard training, each the mean over classes of max_r ⟨w, ·⟩", "≥", 5, anywhere,
		func(p pair) float64 { return p.standard.Last().Value("v_over_u") }},
	{"standard-attacked-along-v", "paper", "its adversarial examples point along the negative non-robust features",
		"cos(δ, −v_y on J_N) of standard training", "≥", 0.95, signed,
		func(p pair) float64 { return p.standard.Last().Value("cos_minus_v") }},
	{"standard-not-robust", "paper", "so it is not robust",
		"accuracy of standard training under the training attack", "≤", 0.25, share,
		func(p pair) float64 { return p.standard.Last().Value("robust_trained") }},
	{"adversarial-strengthens-u", "paper", "adversarial training strengthens the learning of robust features",
		"u of adversarial over u of standard training", "≥", 5, anywhere,
		func(p pair) float64 { return p.adversarial.Last().Value("u") / p.standard.Last().Value("u") }},
	{"adversarial-suppresses-v", "paper", "and suppresses that of non-robust ones",
		"v of adversarial over v of standard training", "≤", 0.8, anywhere,
		func(p pair) float64 { return p.adversarial.Last().Value("v") / p.standard.Last().Value("v") }},
	{"adversarial-robust", "paper", "and robustness follows, against the attack trained with",
		"accuracy of adversarial training under it", "≥", 0.9, share,
		func(p pair) float64 { return p.adversarial.Last().Value("robust_trained") }},
	{"adversarial-gains", "paper", "which standard training has not",
		"that accuracy, adversarial minus standard", "≥", 0.5, signed,
		func(p pair) float64 {
			return p.adversarial.Last().Value("robust_trained") - p.standard.Last().Value("robust_trained")
		}},
	{"both-clean", "paper", "both learn the task",
		"clean accuracy, the lower of the two", "≥", 0.99, share,
		func(p pair) float64 {
			return math.Min(p.standard.Last().Value("acc"), p.adversarial.Last().Value("acc"))
		}},
	{"plateau", "derived", "adversarial training stalls v where the attack cancels β",
		"|v/w_v* − 1| of adversarial training", "≤", 0.15, distance,
		func(p pair) float64 { return math.Abs(p.adversarial.Last().Value("v")/p.s.plateau() - 1) }},
	{"injection", "derived", "an adversary that writes ε·u_y' on all of J_N beats the adversarially trained network",
		"accuracy of adversarial training under injection", "≤", 0.05, share,
		func(p pair) float64 { return p.adversarial.Last().Value("robust_inject_u") }},
}

// Verdict is a claim decided.
type Verdict struct {
	ID        string   `json:"id"`
	Source    string   `json:"source"`
	Claim     string   `json:"claim"`
	Statistic string   `json:"statistic"`
	Relation  string   `json:"relation"`
	Threshold float64  `json:"threshold"`
	Value     Estimate `json:"value"`
	// Holds is whether the mean over seeds satisfies the relation: the rule that
	// the bands of run S are read by, too.
	Holds bool `json:"holds"`
	// Settled is whether the whole interval is on the mean's side of the
	// threshold. If it is not, more seeds may turn the verdict.
	Settled bool `json:"settled"`
}

func (r *Result) verdicts() []Verdict {
	var list []Verdict
	for _, c := range claims {
		e := r.over(c.within, c.of)
		v := Verdict{ID: c.id, Source: c.source, Claim: c.text, Statistic: c.statistic, Relation: c.relation, Threshold: c.threshold, Value: e}
		v.Holds = c.meets(e.Mean)
		v.Settled = len(e.Values) > 1 && c.meets(e.Low) == v.Holds && c.meets(e.High) == v.Holds
		list = append(list, v)
	}
	return list
}

// holds is whether the claim of that id does.
func (r *Result) holds(id string) bool {
	i := slices.IndexFunc(r.Claims, func(v Verdict) bool { return v.ID == id })
	if i < 0 {
		panic("BUG: features: no claim " + id)
	}
	return r.Claims[i].Holds
}

// meets is whether v satisfies the claim; NaN does not.
func (c claim) meets(v float64) bool {
	if c.relation == "≥" {
		return v >= c.threshold
	}
	return v <= c.threshold
}

// learnFactor is how far apart u and v must be for one of them to be called the
// feature that was learned, and how far the larger must have grown.
const learnFactor = 2

// Learn says which features a training has learned.
type Learn struct {
	Feature string   `json:"feature"` // robust, non-robust, both or neither
	VOverU  Estimate `json:"v_over_u"`
}

func (r *Result) learned(training string) Learn {
	l := Learn{VOverU: r.Final(training, "v_over_u")}
	grown := r.over(anywhere, func(p pair) float64 {
		first, last := p.of(training).Readings[0], p.of(training).Last()
		return math.Max(last.Value("u")/first.Value("u"), last.Value("v")/first.Value("v"))
	})
	switch {
	case grown.Mean < learnFactor:
		l.Feature = "neither"
	case l.VOverU.Mean >= learnFactor:
		l.Feature = "non-robust"
	case l.VOverU.Mean <= 1.0/learnFactor:
		l.Feature = "robust"
	default:
		l.Feature = "both"
	}
	return l
}

// band is an interval that a mean over seeds lands in, of run S.
type band struct {
	training, figure string
	low, high        float64
}

var inf = math.Inf(1)

// bandsFive are those for five seeds or more, bandsThree for three or four.
// With fewer there is nothing to say.
var (
	bandsFive = []band{
		{Adversarial, "u", 1.3, inf},
		{Standard, "v_over_u", 5, inf},
		{Adversarial, "v", 0.50, 0.66},
		{Standard, "acc", 0.99, inf},
		{Adversarial, "acc", 0.99, inf},
		{Standard, "robust_trained", -inf, 0.25},
		{Adversarial, "robust_trained", 0.93, inf},
		{Standard, "robust_swap_v", -inf, 0.02},
		{Adversarial, "robust_swap_v", 0.90, inf},
		{Standard, "cos_minus_v", 0.95, inf},
	}
	bandsThree = []band{
		{Adversarial, "u", 1.3, inf},
		{Standard, "v_over_u", 5, inf},
		{Adversarial, "v", 0.48, 0.68},
		{Standard, "robust_trained", -inf, 0.25},
		{Adversarial, "robust_trained", 0.93, inf},
	}
)

// Landing is whether a mean of run S is in its band. An open end is nil.
type Landing struct {
	Training string   `json:"training"`
	Figure   string   `json:"figure"`
	Low      *float64 `json:"low"`
	High     *float64 `json:"high"`
	Mean     float64  `json:"mean"`
	In       bool     `json:"in"`
}

func (r *Result) landings() []Landing {
	bands := bandsFive
	switch n := len(r.pairs()); {
	case n < 3:
		return nil
	case n < 5:
		bands = bandsThree
	}
	end := func(v float64) *float64 {
		if math.IsInf(v, 0) {
			return nil
		}
		return &v
	}
	var list []Landing
	for _, b := range bands {
		m := r.Final(b.training, b.figure).Mean
		list = append(list, Landing{b.training, b.figure, end(b.low), end(b.high), m, b.low <= m && m <= b.high})
	}
	return list
}
