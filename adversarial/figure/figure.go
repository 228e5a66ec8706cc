package figure

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// All figures look alike: sans-serif text, light grid, and the colours of Okabe
// and Ito (2008), which colour-blind readers can tell apart. Blue is always the
// robust feature or adversarial training's side, Vermilion the non-robust or
// standard one.
var (
	Blue      = color.NRGBA{0x00, 0x72, 0xB2, 0xFF}
	Vermilion = color.NRGBA{0xD5, 0x5E, 0x00, 0xFF}
	Sky       = color.NRGBA{0x56, 0xB4, 0xE9, 0xFF}
	Amber     = color.NRGBA{0xE6, 0x9F, 0x00, 0xFF}
	Green     = color.NRGBA{0x00, 0x9E, 0x73, 0xFF}
	Ink       = color.NRGBA{0x22, 0x22, 0x22, 0xFF}
	Faint     = color.NRGBA{0xD4, 0xD4, 0xD4, 0xFF}
)

// sans is what the library measures text with; readers without it see another
// of its widths.
var sans = font.Font{Typeface: "Liberation", Variant: "Sans"}

const families = "Liberation Sans,Arial,Helvetica,sans-serif"

func init() { plot.DefaultFont, plotter.DefaultFont = sans, sans }

// Faded is a colour at a part of its opacity.
func Faded(c color.NRGBA, part float64) color.NRGBA {
	c.A = uint8(math.Round(255 * part))
	return c
}

// NewPlot is an empty plot with labelled axes.
func NewPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.TextStyle.Font.Size, p.Title.Padding = 12, 6
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font.Size, a.Tick.Label.Font.Size = 11, 10
		a.LineStyle.Color, a.Tick.LineStyle.Color = Ink, Ink
		a.Label.Padding, a.Tick.Marker = 4, Numbered
	}
	p.Legend.TextStyle.Font.Size = 10
	p.Legend.ThumbnailWidth, p.Legend.Padding = 18, 3
	return p
}

// Numbered puts a tick at every multiple of 1, 2 or 5 times a power of ten, so
// that there are four to nine of them.
var Numbered = plot.TickerFunc(func(lo, hi float64) []plot.Tick {
	if !(hi > lo) {
		return nil
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/4)))
	for _, factor := range []float64{5, 2} {
		if (hi-lo)/(factor*step) >= 4 {
			step *= factor
			break
		}
	}
	var ticks []plot.Tick
	for i := math.Ceil(lo / step); i*step <= hi; i++ {
		v, _ := strconv.ParseFloat(strconv.FormatFloat(i*step, 'g', 6, 64), 64)
		v += 0 // which makes 0 of −0
		format := byte('f')
		if a := math.Abs(v); v != 0 && (a < 1e-4 || a >= 1e6) {
			format = 'g'
		}
		label := strings.ReplaceAll(strconv.FormatFloat(v, format, -1, 64), "-", "−")
		ticks = append(ticks, plot.Tick{Value: v, Label: label})
	}
	return ticks
})

// Whole are Numbered's ticks at whole numbers.
var Whole = plot.TickerFunc(func(lo, hi float64) []plot.Tick {
	return slices.DeleteFunc(Numbered(lo, hi), func(t plot.Tick) bool { return t.Value != math.Trunc(t.Value) })
})

// Shares are the ticks of an axis that ends above 1 to make room.
var Shares = plot.ConstantTicks{{Value: 0, Label: "0"}, {Value: .25}, {Value: .5, Label: "0.5"}, {Value: .75}, {Value: 1, Label: "1"}}

// Ordinal puts a tick at 0, 1, … n−1.
func Ordinal(n int, label func(i int) string) plot.ConstantTicks {
	var t plot.ConstantTicks
	for i := range n {
		t = append(t, plot.Tick{Value: float64(i), Label: label(i)})
	}
	return t
}

// Bare takes the lines of the axes away and leaves their labels.
func Bare(p *plot.Plot) {
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle.Width, a.Tick.LineStyle.Width, a.Tick.Length, a.Padding = 0, 0, 2, 0
	}
}

// Grid puts horizontal lines behind the data.
func Grid(p *plot.Plot) {
	g := plotter.NewGrid()
	g.Vertical.Width = 0
	g.Horizontal.Color = Faint
	p.Add(g)
}

// Figure is a finished picture.
type Figure struct {
	Name string // of its file, without ".svg"
	// Title says what is to be seen, with the numbers: it is the caption, and
	// what those get who cannot see the picture.
	Title string
	// Light figures keep their light background for readers in the dark: those
	// whose words stand on colours.
	Light bool
	note  string // how to read it, a line below the plots
	draw  func(draw.Canvas)
	w, h  vg.Length
}

const (
	margin     = 8
	noteHeight = 14
)

// Beside is a figure of plots in a row, with their axes in line.
func Beside(name, title, note string, w, h vg.Length, plots ...*plot.Plot) Figure {
	return Figure{Name: name, Title: title, note: note, w: w, h: h + noteHeight, draw: func(c draw.Canvas) {
		tiles := draw.Tiles{Rows: 1, Cols: len(plots), PadX: 14}
		for i, canvas := range plot.Align([][]*plot.Plot{plots}, tiles, c)[0] {
			plots[i].Draw(canvas)
		}
	}}
}

// dark is how a figure looks to readers who asked for dark pages: the colours of
// its paper, ink and grid change, and blue, which is dim on black, gets brighter.
const dark = `<style>@media screen and (prefers-color-scheme: dark) {
.temper-figure text { fill: #E4E6E8 !important }
.temper-figure [style*="fill:#FFFFFF"] { fill: #16191D !important }
.temper-figure [style*="fill:#222222"] { fill: #E4E6E8 !important }
.temper-figure [style*="stroke:#222222"] { stroke: #B9BDC2 !important }
.temper-figure [style*="stroke:#D4D4D4"] { stroke: #3A4047 !important }
.temper-figure [style*="stroke:#0072B2"] { stroke: #4FA8E0 !important }
.temper-figure [style*="fill:#0072B2"] { fill: #4FA8E0 !important }
}</style>
`

// WriteSVG writes the figure as one SVG element with its title in it.
func (f Figure) WriteSVG(w io.Writer) error {
	canvas := vgsvg.New(f.w, f.h)
	dc := draw.New(canvas)
	dc.SetColor(color.White)
	dc.Fill(dc.Rectangle.Path())
	low := vg.Length(margin)
	if f.note != "" {
		low += noteHeight
	}
	f.draw(draw.Crop(dc, margin, -margin, low, -margin))
	small := text.Style{Color: Ink, Font: font.From(sans, 9), Handler: plot.DefaultTextHandler, XAlign: text.XCenter}
	dc.FillText(small, vg.Point{X: f.w / 2, Y: margin}, f.note)
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	svg := strings.NewReplacer(
		"data:image/jpg;base64,iVBOR", "data:image/png;base64,iVBOR", // the library mislabels PNG
		"font-family:Liberation Sans;", "font-family:"+families+";",
	).Replace(b.String())
	head, body, ok := strings.Cut(svg, "<svg ")
	if !ok {
		panic("BUG: figure: the plot library wrote no svg element")
	}
	open, rest, _ := strings.Cut(body, ">")
	style, class := dark, "temper-figure"
	if f.Light {
		style, class = "", "temper-figure light"
	}
	_, err := fmt.Fprintf(w, "%s<svg role=\"img\" class=\"%s\" %s>\n<title>%s</title>\n%s%s", head, class, open, html.EscapeString(f.Title), style, rest)
	return err
}

// SVG is the element without the XML declaration, to stand in a page. The words
// in it are escaped.
func (f Figure) SVG() string {
	var b bytes.Buffer
	if err := f.WriteSVG(&b); err != nil {
		panic("BUG: figure: " + err.Error())
	}
	_, inline, _ := strings.Cut(b.String(), "<svg ")
	return "<svg " + inline
}

// Must unwraps what fails only for coordinates that are not numbers.
func Must[T any](v T, err error) T {
	if err != nil {
		panic("BUG: figure: " + err.Error())
	}
	return v
}

// Curve is a line through the points (x[i], y[i]).
func Curve(x, y []float64, c color.Color, width float64) *plotter.Line {
	var points plotter.XYs
	for i := range x {
		points = append(points, plotter.XY{X: x[i], Y: y[i]})
	}
	line := Must(plotter.NewLine(points))
	line.Color, line.Width = c, vg.Length(width)
	return line
}
