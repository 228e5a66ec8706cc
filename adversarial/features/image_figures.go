package features

import (
	"fmt"
	"image/color"

	"gonum.org/v1/plot"

	"temper/adversarial/figure"
)

// Figures draws the result: the accuracies on the constructed sets over the
// epochs, and the images.
func (r *ImageResult) Figures() []figure.Figure {
	return append([]figure.Figure{r.curves()}, r.gallery.figures(r.Settings)...)
}

func (r *ImageResult) curves() figure.Figure {
	var plots []*plot.Plot
	words := ""
	for _, training := range Trainings() {
		p := figure.NewPlot(training+" training", "epoch", "feature-learning accuracy")
		figure.Grid(p)
		on := func(set string, c color.NRGBA) series {
			return r.epochs(setLabels[set], share, c, func(p imagePair, i int) float64 { return p.of(training).Epochs[i].Values[set] })
		}
		nonRobust, robust, control := on(NonRobustSet, figure.Vermilion), on(RobustSet, figure.Blue), on(ControlSet, figure.Ink)
		addSeries(p, 0, nonRobust, robust, control)
		p.Y.Tick.Marker = figure.Shares
		p.Y.Min, p.Y.Max = 0, 1.35
		plots = append(plots, p)
		end := r.Settings.Epochs
		words += fmt.Sprintf(" After %s training D_R %v, D_NR %v, control %v.", training, robust.y[end], nonRobust.y[end], control.y[end])
	}
	plots = append(plots, r.differencePlot())
	for _, p := range plots {
		p.X.Tick.Marker = figure.Whole
		p.X.Min, p.X.Max = 0, float64(r.Settings.Epochs)
		p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, true, 6, -2
	}
	note := "D_R, D_NR, control: made from the features of an adversarially trained, a standardly trained and an untrained net"
	if n := len(r.pairs()); n > 1 {
		note += fmt.Sprintf("; %d seeds: mean, 95 %% t-interval and each (thin)", n)
	}
	title := fmt.Sprintf("Accuracy on the constructed data sets of %s over the epochs, %s.%s", r.Settings.Dataset, seeds(len(r.pairs())), words)
	return figure.Beside("images-curves", title, note, 840, 300, plots...)
}

// differencePlot shows the statistic of the first claim, beside 0.
func (r *ImageResult) differencePlot() *plot.Plot {
	p := figure.NewPlot("the difference of the two", "epoch", "(D_NR − D_R), standard − adversarial")
	figure.Grid(p)
	difference := r.epochs("claim: above 0", preferences, figure.Green, func(p imagePair, i int) float64 {
		return p.standard.Epochs[i].preference() - p.adversarial.Epochs[i].preference()
	})
	zero := figure.Curve([]float64{0, float64(r.Settings.Epochs)}, []float64{0, 0}, figure.Ink, 1)
	p.Add(zero)
	top, bottom := addSeries(p, -2, difference), 0.0
	for _, e := range difference.y {
		bottom = min(bottom, e.Low)
	}
	p.Y.Min, p.Y.Max = max(bottom, -2)-0.1, 1.35*min(max(top, 0.5), 2)
	return p
}

// epochs is a number that each seed gives after each epoch.
func (r *ImageResult) epochs(label string, within limits, c color.NRGBA, of func(p imagePair, epoch int) float64) series {
	s := series{label: label, color: c}
	for i := range r.Trials[0].Epochs {
		s.x = append(s.x, float64(r.Trials[0].Epochs[i].Epoch))
		s.y = append(s.y, r.over(within, func(p imagePair) float64 { return of(p, i) }))
	}
	return s.seedLines()
}
