package features

import (
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"temper/adversarial/figure"
)

// series is a quantity over training: a thick line for its mean, a band for the
// interval, thin lines for what it is the mean of.
type series struct {
	label string
	color color.NRGBA
	x     []float64
	y     []Estimate
	thin  [][]float64 // by line, then as x
}

// seedLines makes the values of single seeds the thin lines.
func (s series) seedLines() series {
	for seed := range s.y[0].Values {
		var line []float64
		for _, e := range s.y {
			line = append(line, e.Values[seed])
		}
		s.thin = append(s.thin, line)
	}
	return s
}

// addSeries draws all bands, cut at low, below all lines, and returns the largest
// value.
func addSeries(p *plot.Plot, low float64, all ...series) (top float64) {
	for _, s := range all {
		var outline plotter.XYs
		for i, e := range s.y {
			outline = append(outline, plotter.XY{X: s.x[i], Y: e.High})
			top = max(top, e.High)
		}
		for i, e := range slices.Backward(s.y) {
			outline = append(outline, plotter.XY{X: s.x[i], Y: math.Max(e.Low, low)})
		}
		area := figure.Must(plotter.NewPolygon(outline))
		area.Color, area.LineStyle.Width = figure.Faded(s.color, 0.18), 0
		p.Add(area)
	}
	for _, s := range all {
		for _, values := range s.thin {
			p.Add(figure.Curve(s.x, values, figure.Faded(s.color, 0.5), 0.6))
			top = max(top, slices.Max(values))
		}
	}
	for _, s := range all {
		var means []float64
		for _, e := range s.y {
			means = append(means, e.Mean)
		}
		thick := figure.Curve(s.x, means, s.color, 2)
		p.Add(thick)
		p.Legend.Add(s.label, thick)
	}
	return top
}
