package features

import (
	"fmt"
	"io"
	"strings"

	"temper/adversarial/figure"
	"temper/adversarial/run"
)

// findings is a result that can be told: as text, as figures, and as tables
// for its page.
type findings interface {
	WriteText(out io.Writer)
	Figures() []figure.Figure
	Findings() run.Findings
}

// Findings are the result's tables: every claim and its verdict, predictions
// beside measurements, and what was measured.
func (r *Result) Findings() run.Findings {
	s := r.Settings
	found := run.Findings{
		Lead: fmt.Sprintf("what standard and adversarial training learn; %s; %s; training attack: %s", s.describe(), sample(s.Seed, len(r.pairs())), s.attack().Describe(s.threat())),
		Figures: map[string]run.Table{
			"features-curves": r.curvesTable(),
			"features-bars":   r.barsTable(),
		},
	}
	predicted := run.Table{Title: "Predicted and measured", Columns: []string{"quantity", "predicted", "measured", "how"}}
	for _, p := range r.Predict {
		predicted.Rows = append(predicted.Rows, []string{p.Name, number(p.Predicted), p.Measured.String(), p.Note})
	}
	measured := run.Table{Title: "Measured at the end", Columns: []string{"quantity", "standard training", "adversarial training"}}
	if r.Bands != nil {
		measured.Columns = append(measured.Columns, "band of run S")
	}
	attacked := run.Table{Columns: []string{"accuracy", "standard training", "adversarial training"}}
	for _, f := range figures {
		row := []string{f.label, r.Final(Standard, f.name).String(), r.Final(Adversarial, f.name).String()}
		if f.name == "acc" || strings.HasPrefix(f.name, "robust") {
			attacked.Rows = append(attacked.Rows, row[:3:3])
		}
		if r.Bands != nil {
			row = append(row, r.bandsOf(f.name))
		}
		measured.Rows = append(measured.Rows, row)
	}
	for _, training := range Trainings() {
		l := r.Learned[training]
		measured.Note += fmt.Sprintf("%s%s training learns %s (v/u = %v).", map[bool]string{true: " "}[measured.Note != ""], strings.ToUpper(training[:1])+training[1:], learnWords[l.Feature], l.VOverU)
	}
	found.Figures["features-robustness"] = attacked
	found.Tables = []run.Table{verdictTable(r.Claims, "the mean over seeds"), predicted, measured}
	return found
}

// verdictTable tells claims, each with what it was decided by.
func verdictTable(claims []Verdict, decides string) run.Table {
	t := run.Table{Title: "Claims and verdicts", Columns: []string{"claim", "verdict", "measured", "threshold", "decided by", "source"},
		Note: "A claim is decided by " + decides + " against a threshold that was set before the runs. Sources: paper, arXiv 2410.08503 claims it; derived, follows from it; ours."}
	for _, v := range claims {
		t.Rows = append(t.Rows, []string{v.Claim, strings.TrimSpace(v.verdict()) + v.caveat(), v.Value.String(), v.Relation + " " + number(v.Threshold), v.Statistic, v.Source})
	}
	return t
}

// mostSteps bounds the rows of a table over training.
const mostSteps = 40

func (r *Result) curvesTable() run.Table {
	t := run.Table{Columns: []string{"step", "u, standard", "v, standard", "u, adversarial", "v, adversarial"}}
	readings := r.pairs()[0].standard.Readings
	stride := (len(readings) + mostSteps - 1) / mostSteps
	for i, reading := range readings {
		if i%stride != 0 && i != len(readings)-1 {
			continue
		}
		row := []string{fmt.Sprint(reading.Step)}
		for _, training := range Trainings() {
			for _, feature := range []string{"u", "v"} {
				row = append(row, r.over(anywhere, func(p pair) float64 { return p.of(training).Readings[i].Value(feature) }).String())
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (r *Result) barsTable() run.Table {
	t := run.Table{Columns: []string{"class", "u, standard", "v, standard", "u, adversarial", "v, adversarial"}}
	for class := range r.Settings.K {
		row := []string{fmt.Sprint(class)}
		for _, training := range Trainings() {
			for _, feature := range []string{"u_max", "v_max"} {
				row = append(row, r.over(anywhere, func(p pair) float64 { return p.of(training).Last().Classes[feature][class] }).String())
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// Findings are the result's tables.
func (r *ImageResult) Findings() run.Findings {
	s := r.Settings
	accuracy := run.Table{Title: "Accuracies at the end", Columns: []string{"accuracy", "standard training", "adversarial training"}}
	value := func(training, name string, within limits) string {
		return r.over(within, func(p imagePair) float64 { return p.of(training).last(name) }).String()
	}
	for _, f := range accuracies {
		accuracy.Rows = append(accuracy.Rows, []string{f.label, value(Standard, f.name, f.within), value(Adversarial, f.name, f.within)})
	}
	accuracy.Rows = append(accuracy.Rows, []string{"cosine of perturbations with the way to the nearest class mean", value(Standard, "to_means", signed), value(Adversarial, "to_means", signed)})
	for _, set := range ConstructedSets() {
		accuracy.Note += fmt.Sprintf("%s: %v of the starting distance of features is left. ", setLabels[set], estimate(r.Matched[set], distance))
	}
	epochs := run.Table{Columns: []string{"epoch"}}
	for _, training := range Trainings() {
		for _, set := range ConstructedSets() {
			epochs.Columns = append(epochs.Columns, setLabels[set]+", "+training)
		}
	}
	for i, e := range r.Trials[0].Epochs {
		row := []string{fmt.Sprint(e.Epoch)}
		for _, training := range Trainings() {
			for _, set := range ConstructedSets() {
				row = append(row, r.over(share, func(p imagePair) float64 { return p.of(training).Epochs[i].Values[set] }).String())
			}
		}
		epochs.Rows = append(epochs.Rows, row)
	}
	return run.Findings{
		Lead:    fmt.Sprintf("what standard and adversarial training learn of %s with %s: %s; %d epochs; evaluation's attack: %s", s.Dataset, s.Model, sample(s.Seed, s.Seeds), s.Epochs, s.attack(s.TestSteps).Describe(s.threat())),
		Tables:  []run.Table{verdictTable(r.Claims, "the whole interval over seeds"), accuracy},
		Figures: map[string]run.Table{"images-curves": epochs},
	}
}

// Findings are the diagram's cells.
func (p *Phase) Findings() run.Findings {
	t := run.Table{Columns: []string{"race ratio", "N", "ε/β", "outcome", "robust, standard", "robust, adversarial", "u, adversarial", "v, adversarial"}}
	for _, c := range p.Cells {
		t.Rows = append(t.Rows, []string{fmt.Sprint(c.Ratio), fmt.Sprint(c.N), fmt.Sprint(c.EpsRatio), c.Outcome, c.Standard.String(), c.Adv.String(), c.U.String(), c.V.String()})
	}
	return run.Findings{
		Lead:    "where the paper's statement holds; " + p.describe() + "; " + Intervals,
		Figures: map[string]run.Table{"features-phase": t},
	}
}
