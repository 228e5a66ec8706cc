package report

import (
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"temper/adversarial/figure"
	"temper/adversarial/run"
)

// Plot is a figure with the table behind it.
type Plot struct {
	Title   string
	SVG     template.HTML
	Note    string // what the figure does not show
	Columns []string
	Rows    [][]string
}

// The size of a plot: two stand side by side on a desk, one on a phone.
const (
	plotWidth  = 380
	plotHeight = 240
	mostRows   = 40 // of the table behind it
	mostDrawn  = 256
)

// line is a series to be drawn.
type line struct {
	label string
	color color.NRGBA
	from  *Series
	band  bool // show smallest and largest values, where a point stands for several
}

// chart describes a plot.
type chart struct {
	title, x, y string
	share       bool // the numbers are shares, from 0 to 1
	lines       []line
}

// plot draws a chart. The lines may differ in their steps.
func (c chart) plot() Plot {
	p := figure.NewPlot(c.title, c.x, c.y)
	figure.Grid(p)
	lo, hi, last := math.Inf(1), math.Inf(-1), 0.0
	out := Plot{Title: c.title, Columns: []string{"step"}}
	title := c.title + "."
	for _, l := range c.lines {
		points := l.from.Thinned(mostDrawn)
		var x, y []float64
		var outline plotter.XYs
		for _, q := range points {
			x, y = append(x, float64(q.Step)), append(y, q.Mean)
			lo, hi = min(lo, q.Mean), max(hi, q.Mean)
		}
		if l.band {
			for _, q := range points {
				outline = append(outline, plotter.XY{X: float64(q.Step), Y: q.Max})
				lo, hi = min(lo, q.Min), max(hi, q.Max)
			}
			for i := len(points) - 1; i >= 0; i-- {
				outline = append(outline, plotter.XY{X: float64(points[i].Step), Y: points[i].Min})
			}
			area := figure.Must(plotter.NewPolygon(outline))
			area.Color, area.LineStyle.Width = figure.Faded(l.color, 0.2), 0
			p.Add(area)
		}
		last = max(last, x[len(x)-1])
		curve := figure.Curve(x, y, l.color, 1.6)
		p.Add(curve)
		if len(x) <= 30 { // few points are marked: a single one is no line
			dots := figure.Must(plotter.NewScatter(curve.XYs))
			dots.GlyphStyle = draw.GlyphStyle{Color: l.color, Radius: 2, Shape: draw.CircleGlyph{}}
			p.Add(dots)
		}
		if len(c.lines) > 1 {
			p.Legend.Add(short(l.label), curve)
		}
		title += fmt.Sprintf(" %s: %s at step %d, %s at step %d.", l.label, number(y[0]), points[0].Step, number(y[len(y)-1]), points[len(points)-1].Step)
		if l.from.Bad > 0 {
			out.Note += fmt.Sprintf("%s: %d values are not finite, the first at step %d. ", l.label, l.from.Bad, l.from.BadAt)
		}
	}
	p.X.Min, p.X.Max = 0, max(last, 1)
	p.Y.Min, p.Y.Max = frame(lo, hi, c.share)
	if c.share {
		p.Y.Tick.Marker = figure.Shares
	}
	if len(c.lines) > 1 {
		p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, true, 6, -4
		p.Y.Max += (p.Y.Max - p.Y.Min) * min(0.1+0.09*float64(len(c.lines)), 0.9) // room for it
	}
	f := figure.Beside("", title, "", plotWidth, plotHeight, p)
	out.SVG = template.HTML(f.SVG())
	out.table(c.lines)
	return out
}

// short bounds a name in a legend.
func short(s string) string {
	if runes := []rune(s); len(runes) > 40 {
		return string(runes[:18]) + "…" + string(runes[len(runes)-20:])
	}
	return s
}

// frame is the range of an axis with room around the numbers. It is never so
// narrow that the ticks cannot be told apart.
func frame(lo, hi float64, share bool) (float64, float64) {
	if share {
		return 0, 1
	}
	if lo >= 0 && lo < hi/2 {
		lo = 0
	}
	if size := max(math.Abs(lo), math.Abs(hi)); hi-lo < 1e-6*size {
		lo, hi = lo-0.1*size, hi+0.1*size
	}
	if hi == lo {
		return lo - 1, hi + 1
	}
	return lo, hi + 0.05*(hi-lo)
}

// table writes the numbers of the lines below each other by step.
func (p *Plot) table(lines []line) {
	cells := map[int64][]string{}
	var steps []int64
	for i, l := range lines {
		p.Columns = append(p.Columns, l.label)
		points := l.from.Thinned(mostRows)
		for _, q := range points {
			if cells[q.Step] == nil {
				cells[q.Step] = make([]string, len(lines))
				steps = append(steps, q.Step)
			}
			cells[q.Step][i] = number(q.Mean)
			if q.Min != q.Max {
				cells[q.Step][i] = fmt.Sprintf("%s (%s to %s)", number(q.Mean), number(q.Min), number(q.Max))
			}
		}
	}
	slices.Sort(steps)
	for _, s := range steps {
		p.Rows = append(p.Rows, append([]string{strconv.FormatInt(s, 10)}, cells[s]...))
	}
}

// number writes four digits.
func number(v float64) string {
	if a := math.Abs(v); a >= 1000 && a < 1e7 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// plots draws what there is of a run's curves.
func (r *Run) plots() (list []Plot) {
	shown := map[string]bool{}
	add := func(c chart, names ...[2]string) {
		colors := []color.NRGBA{figure.Blue, figure.Vermilion, figure.Green, figure.Amber}
		for i, n := range names {
			shown[n[0]] = true
			if s := r.Curves.Get(n[0]); s != nil {
				c.lines = append(c.lines, line{n[1], colors[i%len(colors)], s, len(names) == 1 || strings.HasPrefix(n[0], "train/")})
			}
		}
		if len(c.lines) > 0 {
			list = append(list, c.plot())
		}
	}
	watched := "test"
	if r.Curves.Get("held-out/clean") != nil {
		watched = "held-out"
	}
	add(chart{title: "Accuracy", x: "step", y: "share of examples", share: true},
		[2]string{watched + "/clean", "clean, " + watched}, [2]string{watched + "/robust", "robust, " + watched}, [2]string{"epoch/accuracy", "training examples, epoch"})
	add(chart{title: "Training loss", x: "step", y: "loss"}, [2]string{"train/loss", "a step"})
	add(chart{title: "Learning rate", x: "step", y: "learning rate"}, [2]string{"train/lr", "learning rate"})
	add(chart{title: "Momentum", x: "step", y: "momentum"}, [2]string{"train/momentum", "momentum"})
	add(chart{title: "ε in training", x: "step", y: "ε"}, [2]string{"train/eps", "ε"})
	if p, ok := r.timePlot(); ok {
		list = append(list, p)
	}
	add(chart{title: "Training speed", x: "step", y: "images/s"}, [2]string{"time/images_per_second", "images/s"})
	add(chart{title: "Probe of the alarms: accuracy", x: "step", y: "share of the probe", share: true},
		[2]string{"probe/single_step", "under one step"}, [2]string{"probe/multi_step", "under ten steps of PGD"})
	add(chart{title: "Probe of the alarms: signs of trouble", x: "step", y: "share of the probe", share: true},
		[2]string{"probe/top_class", "taken for one class"}, [2]string{"probe/search_beats", "beaten by Square alone"}, [2]string{"probe/surface_beats", "worse off by a random draw than by PGD"})
	add(chart{title: "Gradient norm", x: "step", y: "norm"}, [2]string{"train/grad_norm", "before clipping"})
	for _, n := range []string{"train/accuracy", "epoch/loss", "time/step", "time/data", "time/attack", "time/update", run.MemoryUsed} {
		shown[n] = true
	}
	for _, name := range r.Curves.Names() {
		if !shown[name] && !strings.HasPrefix(name, alarmPrefix) && len(list) < 24 {
			add(chart{title: clip(name), x: "step", y: ""}, [2]string{name, clip(name)})
		}
	}
	return list
}

// timePlot shows where the time of a step goes, as stacked areas in milliseconds.
func (r *Run) timePlot() (Plot, bool) {
	total := r.Curves.Get("time/step")
	if total == nil {
		return Plot{}, false
	}
	p := figure.NewPlot("Time of a step", "step", "milliseconds")
	figure.Grid(p)
	out := Plot{Title: "Time of a step", Columns: []string{"step", "all, ms"}}
	points := total.Thinned(mostRows)
	floor, top := make([]float64, len(points)), 0.0
	title := fmt.Sprintf("Time of a step, the mean since the evaluation before, by part. In the end %s ms.", number(1e3*total.Last))
	columns := [][]string{}
	for _, part := range []struct {
		name, label string
		color       color.NRGBA
	}{{"time/data", "waiting for data", figure.Amber}, {"time/attack", "attack", figure.Vermilion}, {"time/update", "update", figure.Blue}} {
		s := r.Curves.Get(part.name)
		if s == nil {
			continue
		}
		outline, roof, column := plotter.XYs{}, make([]float64, len(points)), make([]string, len(points))
		for i, q := range s.Thinned(mostRows) {
			if i < len(points) {
				roof[i], column[i] = floor[i]+1e3*max(q.Mean, 0), number(1e3*q.Mean)
				top = max(top, roof[i])
			}
		}
		for i, q := range points {
			outline = append(outline, plotter.XY{X: float64(q.Step), Y: roof[i]})
		}
		for i := len(points) - 1; i >= 0; i-- {
			outline = append(outline, plotter.XY{X: float64(points[i].Step), Y: floor[i]})
		}
		outline = append(plotter.XYs{{X: 0, Y: floor[0]}, {X: 0, Y: roof[0]}}, outline...)
		area := figure.Must(plotter.NewPolygon(outline))
		area.Color, area.LineStyle.Width = part.color, 0
		p.Add(area)
		p.Legend.Add(part.label, area)
		out.Columns, columns, floor = append(out.Columns, part.label), append(columns, column), roof
		title += fmt.Sprintf(" %s: %s ms.", part.label, number(1e3*s.Last))
	}
	var x, y []float64
	for i, q := range points {
		x, y = append(x, float64(q.Step)), append(y, 1e3*q.Mean)
		top = max(top, 1e3*q.Mean)
		row := []string{strconv.FormatInt(q.Step, 10), number(1e3 * q.Mean)}
		for _, c := range columns {
			row = append(row, c[i])
		}
		out.Rows = append(out.Rows, row)
	}
	all := figure.Curve(append([]float64{0}, x...), append([]float64{y[0]}, y...), figure.Ink, 1)
	all.Dashes = []vg.Length{4, 3}
	p.Add(all)
	p.Legend.Add("all of the step", all)
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.YOffs = true, true, 6, -4
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, max(x[len(x)-1], 1), 0, 1.45*max(top, 1e-9)
	out.SVG = template.HTML(figure.Beside("", title, "", plotWidth, plotHeight, p).SVG())
	return out, true
}
