package features

import (
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"

	"temper/adversarial/figure"
)

var outcomes = []struct {
	name  string
	words string
	color color.NRGBA
	text  color.NRGBA
}{
	{AsStated, "standard training learns v and is broken; adversarial training learns u and is robust", figure.Blue, white},
	{InPart, "standard training learns v and is broken; adversarial training learns u or is robust, not both", figure.Sky, figure.Ink},
	{NoGain, "standard training learns v and is broken; adversarial training reaches neither threshold", figure.Vermilion, white},
	{Unbroken, "standard training learns v, but keeps too much accuracy under attack to count as broken", figure.Amber, figure.Ink},
	{NoContest, "standard training learns u, or both: no premise", figure.Faint, figure.Ink},
}

var white = color.NRGBA{0xFF, 0xFF, 0xFF, 0xFF}

// Figures draws the phase diagram.
func (p *Phase) Figures() []figure.Figure { return []figure.Figure{p.diagram()} }

// diagram has ordinal axes: a cell for each value.
func (p *Phase) diagram() figure.Figure {
	d := figure.NewPlot("where the paper's statement holds", "ε/β", "race ratio Nβ^q/Rα^q")
	figure.Bare(d)
	cols := len(p.Grid.Eps)
	for _, o := range outcomes {
		var key plot.Thumbnailer
		for n, c := range p.Cells {
			if c.Outcome != o.name {
				continue
			}
			key = addCell(d, float64(n%cols), float64(n/cols), c, o.color, o.text)
		}
		if key != nil {
			d.Legend.Add(o.words, key)
		}
	}
	d.X.Tick.Marker = figure.Ordinal(cols, func(i int) string { return fmt.Sprint(p.Grid.Eps[i]) })
	d.Y.Tick.Marker = figure.Ordinal(len(p.Grid.Ratio), func(i int) string {
		return fmt.Sprintf("%v\nN = %d", p.Grid.Ratio[i], p.Cells[i*cols].N)
	})
	rows := float64(len(p.Grid.Ratio))
	d.X.Min, d.X.Max, d.Y.Min, d.Y.Max = -0.5, float64(cols)-0.5, -0.5, 1.24*rows-0.5 // room for the legend
	d.Legend.Top, d.Legend.Left = true, true
	counts := ""
	for _, o := range outcomes {
		n := 0
		for _, c := range p.Cells {
			if c.Outcome == o.name {
				n++
			}
		}
		counts += fmt.Sprintf(" %s: %d of %d cells.", o.words, n, len(p.Cells))
	}
	title := fmt.Sprintf("Phase diagram over the race ratio and ε/β, %s a cell.%s", seeds(p.Settings.Seeds), counts)
	note := fmt.Sprintf("numbers: accuracy under the training attack after standard → adversarial training, means over %s", seeds(p.Settings.Seeds))
	f := figure.Beside("features-phase", title, note, 640, 470, d)
	f.Light = true
	return f
}

// addCell fills a cell and writes its two accuracies.
func addCell(d *plot.Plot, x, y float64, c Cell, fill, ink color.NRGBA) plot.Thumbnailer {
	const half = 0.48
	box := figure.Must(plotter.NewPolygon(plotter.XYs{{X: x - half, Y: y - half}, {X: x - half, Y: y + half}, {X: x + half, Y: y + half}, {X: x + half, Y: y - half}}))
	box.Color, box.LineStyle.Width = fill, 0
	words := figure.Must(plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: y}},
		Labels: []string{number(c.Standard.Mean) + " → " + number(c.Adv.Mean)}}))
	words.TextStyle[0].Color, words.TextStyle[0].Font.Size = ink, 10
	words.TextStyle[0].XAlign, words.TextStyle[0].YAlign = text.XCenter, text.YCenter
	d.Add(box, words)
	return box
}
