package features

import (
	"fmt"
	"image/color"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"

	"temper/adversarial/figure"
)

// Figures draws the result: the two features over training, how they end, and
// the accuracy under each attack.
func (r *Result) Figures() []figure.Figure {
	return []figure.Figure{r.curves(), r.bars(), r.robustness()}
}

// The labels of the vertical axes.
const (
	alignment = "alignment, max over filters of ⟨w, feature⟩"
	accuracy  = "accuracy"
)

// curves shows u and v over the steps: a thin line for each class (mean over
// seeds), a thick one for their mean, with its t-interval over seeds.
func (r *Result) curves() figure.Figure {
	var plots []*plot.Plot
	top := 0.0
	for _, training := range Trainings() {
		p := figure.NewPlot(training+" training", "training step", alignment)
		figure.Grid(p)
		top = max(top, addSeries(p, 0,
			r.learning(training, "v", "non-robust v", figure.Vermilion), r.learning(training, "u", "robust u", figure.Blue)))
		if training == Adversarial && r.Settings.plateauApplies() && r.Settings.Eps.Float64() >= r.Settings.Beta {
			w := r.Settings.plateau()
			line := figure.Curve([]float64{0, float64(r.Settings.Steps)}, []float64{w, w}, figure.Ink, 1)
			line.Dashes = []vg.Length{4, 3}
			p.Add(line)
			p.Legend.Add("w_v*, predicted plateau of v", line)
			top = max(top, w)
		}
		p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, true, 6, -4
		plots = append(plots, p)
	}
	for _, p := range plots { // one scale, and room for the legend
		p.Y.Min, p.Y.Max, p.X.Min, p.X.Max = 0, 1.3*top, 0, float64(r.Settings.Steps)
	}
	note := r.spread("thick lines: means over classes and %s; bands: their 95 %% t-intervals; thin lines: each class", "thick lines: means over classes; thin lines: each class; %s")
	title := fmt.Sprintf("Alignment of the filters with the robust feature u and the non-robust feature v over training, %s. Standard training ends at u = %v and v = %v, adversarial training at u = %v and v = %v.",
		seeds(len(r.pairs())), r.Final(Standard, "u"), r.Final(Standard, "v"), r.Final(Adversarial, "u"), r.Final(Adversarial, "v"))
	return figure.Beside("features-curves", title, note, 760, 330, plots...)
}

// learning is one feature over the steps of a training, by class.
func (r *Result) learning(training, feature, label string, c color.NRGBA) series {
	l := series{label: label, color: c, thin: make([][]float64, r.Settings.K)}
	for i, reading := range r.pairs()[0].of(training).Readings {
		l.x = append(l.x, float64(reading.Step))
		l.y = append(l.y, r.over(anywhere, func(p pair) float64 { return p.of(training).Readings[i].Value(feature) }))
		for class := range l.thin {
			e := r.over(anywhere, func(p pair) float64 { return p.of(training).Readings[i].Classes[feature+"_max"][class] })
			l.thin[class] = append(l.thin[class], e.Mean)
		}
	}
	return l
}

// bars shows how aligned the filters are at the end, class by class.
func (r *Result) bars() figure.Figure {
	var plots []*plot.Plot
	top := 0.0
	for _, training := range Trainings() {
		p := figure.NewPlot(training+" training", "class", alignment)
		figure.Grid(p)
		names := make([]string, r.Settings.K)
		for i := range names {
			names[i] = fmt.Sprint(i)
		}
		top = max(top,
			r.addBars(p, -0.2, "non-robust v", figure.Vermilion, anywhere, r.Settings.K, func(q pair, i int) float64 { return q.of(training).Last().Classes["v_max"][i] }),
			r.addBars(p, 0.2, "robust u", figure.Blue, anywhere, r.Settings.K, func(q pair, i int) float64 { return q.of(training).Last().Classes["u_max"][i] }))
		p.NominalX(names...)
		p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, true, 6, -4
		plots = append(plots, p)
	}
	for _, p := range plots {
		p.Y.Min, p.Y.Max = 0, 1.25*top
		p.X.Min, p.X.Max = -0.6, float64(r.Settings.K)-0.4
	}
	title := fmt.Sprintf("Final alignment of each class's filters with its robust and its non-robust feature, %s.", seeds(len(r.pairs())))
	return figure.Beside("features-bars", title, r.spread(barNote, "%s"), 760, 300, plots...)
}

const barNote = "bars: means over %s; lines: their 95 %% t-intervals"

// spread is a note on what means and intervals are over; one seed has no
// intervals and takes the other form.
func (r *Result) spread(many, one string) string {
	n := len(r.pairs())
	if n == 1 {
		many = one
	}
	return fmt.Sprintf(many, seeds(n))
}

// addBars adds bars with error bars at i+offset, 0.36 wide, and returns the
// largest value.
func (r *Result) addBars(p *plot.Plot, offset float64, label string, c color.NRGBA, within limits, n int, of func(q pair, i int) float64) (top float64) {
	const half = 0.18
	for i := range n {
		e := r.over(within, func(q pair) float64 { return of(q, i) })
		x, y := float64(i)+offset, e.Mean
		bar := figure.Must(plotter.NewPolygon(plotter.XYs{{X: x - half, Y: 0}, {X: x - half, Y: y}, {X: x + half, Y: y}, {X: x + half, Y: 0}}))
		bar.Color, bar.LineStyle.Width = c, 0
		p.Add(bar)
		if e.High > e.Low {
			whisker := figure.Must(plotter.NewLine(plotter.XYs{{X: x, Y: math.Max(e.Low, 0)}, {X: x, Y: e.High}}))
			whisker.Color, whisker.Width = figure.Ink, 1
			p.Add(whisker)
		}
		if n <= mostNumbers {
			p.Add(above(x, math.Max(e.High, y), number(y)))
		}
		if i == 0 {
			p.Legend.Add(label, bar)
		}
		top = max(top, e.High)
	}
	return top
}

// mostNumbers is how many groups of bars leave room for numbers above them.
const mostNumbers = 10

// above is a small number over a bar.
func above(x, y float64, words string) *plotter.Labels {
	l := figure.Must(plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{words}}))
	l.TextStyle[0].Font.Size, l.TextStyle[0].Color, l.TextStyle[0].XAlign = 8, figure.Ink, text.XCenter
	l.Offset.Y = 2
	return l
}

// robustness shows the accuracy without and under each attack.
func (r *Result) robustness() figure.Figure {
	names := []string{"acc", "robust_random", "robust_trained", "robust_minus_v", "robust_swap_v", "robust_minus_vu", "robust_search", "robust_inject_u"}
	words := []string{"none", "random", "training's", "−ε·v", "v → v′", "−ε·v, −ε·u", "PGD-20", "+ε·u′"}
	p := figure.NewPlot("accuracy under each attack", "attack", accuracy)
	figure.Grid(p)
	of := func(training string) func(q pair, i int) float64 {
		return func(q pair, i int) float64 { return q.of(training).Last().Value(names[i]) }
	}
	r.addBars(p, -0.2, "standard training", figure.Vermilion, share, len(names), of(Standard))
	r.addBars(p, 0.2, "adversarial training", figure.Blue, share, len(names), of(Adversarial))
	p.NominalX(words...)
	p.Y.Min, p.Y.Max, p.X.Min, p.X.Max = 0, 1.3, -0.6, float64(len(names))-0.4
	p.Y.Tick.Marker = figure.Shares
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, true, 6, -2
	var parts []string
	for i, n := range names {
		parts = append(parts, fmt.Sprintf("%s %s and %s", words[i], number(r.Final(Standard, n).Mean), number(r.Final(Adversarial, n).Mean)))
	}
	title := "Accuracy after standard and after adversarial training, without and under each attack: " + strings.Join(parts, "; ") + "."
	note := r.spread(barNote+", cut at 0 and 1; ", "%s; ") + "u, v: the own class's features; u′, v′: another's"
	return figure.Beside("features-robustness", title, note, 760, 310, p)
}
