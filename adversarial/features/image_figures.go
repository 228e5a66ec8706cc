package features

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
)

// Figures draws the result: the accuracies on the constructed sets over the
// epochs, and the images.
func (r *ImageResult) Figures() []Figure {
	return append([]Figure{r.curves()}, r.gallery.figures(r.Settings)...)
}

func (r *ImageResult) curves() Figure {
	var plots []*plot.Plot
	for _, training := range Trainings() {
		p := newPlot(training+" training", "epoch", "feature-learning accuracy")
		grid(p)
		for _, line := range []struct {
			set, label string
			color      color.NRGBA
		}{{NonRobustSet, "D_NR", vermilion}, {RobustSet, "D_R", blue}, {ControlSet, "control", ink}} {
			r.addCurve(p, training, line.set, line.label, line.color)
		}
		p.X.Tick.Marker, p.Y.Tick.Marker = whole, shares
		p.Y.Min, p.Y.Max, p.X.Min, p.X.Max = 0, 1.35, 0, float64(r.Settings.Epochs)
		p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, true, 6, -2
		plots = append(plots, p)
	}
	words := ""
	for _, training := range Trainings() {
		last := func(set string) Estimate {
			return r.over(func(p imagePair) float64 { return p.of(training).last(set) })
		}
		words += fmt.Sprintf(" %s training ends at D_R %v, D_NR %v, control %v.", training, last(RobustSet), last(NonRobustSet), last(ControlSet))
	}
	note := "accuracy on sets constructed from the features of an adversarially trained net (D_R), a standardly trained one (D_NR), an untrained one (control)"
	if n := len(r.pairs()); n > 1 {
		note += fmt.Sprintf("; bands: 95 %% t-intervals over %d seeds", n)
	}
	title := fmt.Sprintf("Accuracy on the constructed data sets of %s over the epochs, %s.%s", r.Settings.Dataset, seeds(len(r.pairs())), words)
	return beside("images-curves", title, note, 760, 320, plots...)
}

func (r *ImageResult) addCurve(p *plot.Plot, training, set, label string, c color.NRGBA) {
	var line, upper, lower plotter.XYs
	for i, reading := range r.Trials[0].Epochs {
		e := r.over(func(q imagePair) float64 { return q.of(training).Epochs[i].Values[set] })
		x := float64(reading.Epoch)
		line = append(line, plotter.XY{X: x, Y: e.Mean})
		upper = append(upper, plotter.XY{X: x, Y: math.Min(e.High, 1)})
		lower = append(lower, plotter.XY{X: x, Y: math.Max(e.Low, 0)})
	}
	addBand(p, upper, lower, c)
	thick := must(plotter.NewLine(line))
	thick.Color, thick.Width = c, 2
	p.Add(thick)
	p.Legend.Add(label, thick)
}
