package features

import (
	"fmt"
	"image"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
)

// Figures draws the result: the accuracies on the constructed sets over the
// epochs, and the images.
func (r *ImageResult) Figures() []Figure {
	return []Figure{r.curves(), r.gallery.figure(r.Settings)}
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
		p.Y.Tick.Marker = shares
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
	title := fmt.Sprintf("Accuracy on the constructed data sets of %s over the epochs, %s.%s", r.Settings.Dataset, seeds(len(r.pairs())), words)
	return beside("images-curves", title, 760, 320, plots...)
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

// figure draws the gallery, a row for each kind of image.
func (g *gallery) figure(s ImageSettings) Figure {
	p := newPlot(fmt.Sprintf("%s: the images, one of each class", s.Dataset), "", "")
	p.HideX()
	rows := len(g.rows)
	var ticks plot.ConstantTicks
	for y, row := range g.rows {
		at := float64(rows - 1 - y)
		ticks = append(ticks, plot.Tick{Value: at, Label: row.label})
		for x, pixels := range row.images {
			p.Add(plotter.NewImage(g.picture(pixels), float64(x)-0.48, at-0.48, float64(x)+0.48, at+0.48))
		}
	}
	p.Y.Tick.Marker = ticks
	p.Y.Tick.LineStyle.Width, p.Y.LineStyle.Width = 0, 0
	p.Y.Tick.Label.XAlign, p.Y.Tick.Label.YAlign = text.XRight, text.YCenter
	columns := len(g.rows[0].images)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = -0.5, float64(columns)-0.5, -0.5, float64(rows)-0.5
	const side = 56
	title := fmt.Sprintf("Images of %s, one of each class: as given; as constructed from the features of an adversarially trained net (D_R), a standardly trained one (D_NR) and an untrained one (control); and the perturbations of the evaluation's attack on the scored nets, ±ε as white and black.", s.Dataset)
	return beside("images-gallery", title, vg.Length(columns*side+110), vg.Length(rows*side+40), p)
}

// picture makes an image of bytes (C,H,W), grey or RGB, each pixel enlarged so
// that viewers do not blur it.
func (g *gallery) picture(pixels []byte) image.Image {
	const zoom = 3
	h, w := g.info.Height, g.info.Width
	img := image.NewNRGBA(image.Rect(0, 0, w*zoom, h*zoom))
	for y := range h * zoom {
		for x := range w * zoom {
			at := y/zoom*w + x/zoom
			c := color.NRGBA{pixels[at], pixels[at], pixels[at], 0xFF}
			if g.info.Channels == 3 {
				c.G, c.B = pixels[h*w+at], pixels[2*h*w+at]
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}
