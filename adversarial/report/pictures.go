package report

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"path"
	"slices"
	"strings"

	"temper/adversarial/run"
)

// Picture is an image in the page.
type Picture struct {
	Src  template.URL
	Alt  string
	W, H int // pixels on the page
}

// Figure is a plot of an experiment with the numbers behind it, if it has any.
type Figure struct {
	Picture
	Table *run.Table
}

// Example is an attacked example: before, the perturbation, after.
type Example struct {
	X, Delta, Adv       Picture
	Label, Before, Next string // classes
	Fooled, WrongBefore bool
}

// Gallery is the pictures of a run.
type Gallery struct {
	Attack   string
	Step     int64
	Factor   string // by which perturbations are magnified
	Largest  string // the largest element of a perturbation
	Examples []Example
	Scale    string // how values became greys, where they are no images
	Spared   bool   // examples that were wrong before have no perturbation
	Smaller  int    // every so many pixels are shown; 1: all
	Filters  *Picture
	Layer    string // of the filters
	Shape    string
	Shown    int // filters
}

const (
	mostSide    = 96 // pixels of a picture
	mostFilters = 64
)

// gallery makes the pictures; nil without any.
func gallery(p *run.Pictures) *Gallery {
	if p == nil {
		return nil
	}
	g := &Gallery{Attack: clip(p.Attack), Step: p.Step, Smaller: 1}
	if len(p.Labels) > 0 {
		g.examples(p)
	}
	if p.Filters.Name != "" && len(p.Filters.Values) > 0 {
		g.filters(p.Filters)
	}
	return g
}

func (g *Gallery) examples(p *run.Pictures) {
	size, images := len(p.X.Values)/len(p.Labels), p.Domain == "unit"
	lo, hi, largest := float32(0), float32(1), float32(0)
	for i, v := range p.X.Values {
		if !images {
			hi = max(hi, abs(v), abs(p.Adv.Values[i]))
		}
		largest = max(largest, abs(p.Adv.Values[i]-v))
	}
	if !images {
		lo = -hi
		g.Scale = fmt.Sprintf("black is %s, white %s", number(float64(lo)), number(float64(hi)))
	}
	g.Largest = number(float64(largest))
	factor := float32(1)
	if largest > 0 {
		factor = (hi - lo) / 2 / largest
	}
	g.Factor = number(float64(factor))
	s := sheet{shape: p.X.Shape[1:]}
	g.Smaller = s.skip()
	for i := range p.Labels {
		x, adv := p.X.Values[i*size:][:size], p.Adv.Values[i*size:][:size]
		delta := make([]float32, size)
		for k := range delta {
			delta[k] = adv[k] - x[k]
		}
		e := Example{Label: clip(p.Classes[p.Labels[i]]), Before: clip(p.Classes[p.Clean[i]]), Next: clip(p.Classes[p.Pred[i]])}
		e.WrongBefore, e.Fooled = p.Clean[i] != p.Labels[i], p.Clean[i] == p.Labels[i] && p.Pred[i] != p.Labels[i]
		g.Spared = g.Spared || e.WrongBefore && slices.Equal(x, adv)
		grey := func(v float32) float32 { return (v - lo) / (hi - lo) }
		e.X = s.picture(x, grey, e.Label+", predicted as "+e.Before)
		e.Delta = s.picture(delta, func(v float32) float32 { return 0.5 + v*factor/(hi-lo) }, "its perturbation, times "+g.Factor)
		e.Adv = s.picture(adv, grey, "the sum of the two, predicted as "+e.Next)
		g.Examples = append(g.Examples, e)
	}
}

func abs(v float32) float32 { return float32(math.Abs(float64(v))) }

// sheet turns values (C,H,W) into pixels: RGB of three channels, grey of one,
// the mean of others. An example of one row is shown as a matrix (C,W).
type sheet struct{ shape []int }

func (s sheet) dims() (c, h, w int) {
	c, h, w = s.shape[0], s.shape[1], s.shape[2]
	if h == 1 && c > 1 {
		return 1, c, w
	}
	return c, h, w
}

// skip is how many pixels one stands for, so that the picture is not too large.
func (s sheet) skip() int {
	_, h, w := s.dims()
	return (max(h, w) + mostSide - 1) / mostSide
}

func (s sheet) picture(v []float32, grey func(float32) float32, alt string) Picture {
	_, h, w := s.dims()
	k := s.skip()
	img := image.NewNRGBA(image.Rect(0, 0, max(w/k, 1), max(h/k, 1)))
	s.draw(img, 0, 0, k, 1, v, grey)
	return picture(img, alt)
}

// draw draws every k-th pixel, zoom times as large, at (x0,y0).
func (s sheet) draw(img *image.NRGBA, x0, y0, k, zoom int, v []float32, grey func(float32) float32) {
	c, h, w := s.dims()
	shade := func(channel, y, x int) uint8 {
		g := grey(v[channel*h*w+y*w+x])
		return uint8(255*max(0, min(1, g)) + 0.5) // NaN is black
	}
	for y := 0; y+k <= max(h, k) && y < h; y += k {
		for x := 0; x+k <= max(w, k) && x < w; x += k {
			p := color.NRGBA{A: 255}
			switch c {
			case 3:
				p.R, p.G, p.B = shade(0, y, x), shade(1, y, x), shade(2, y, x)
			default:
				sum := 0
				for ch := range c {
					sum += int(shade(ch, y, x))
				}
				p.R = uint8(sum / c)
				p.G, p.B = p.R, p.R
			}
			for dy := range zoom {
				for dx := range zoom {
					img.SetNRGBA(x0+x/k*zoom+dx, y0+y/k*zoom+dy, p)
				}
			}
		}
	}
}

func picture(img *image.NRGBA, alt string) Picture {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic("BUG: report: " + err.Error())
	}
	src := "data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())
	return Picture{template.URL(src), alt, img.Rect.Dx(), img.Rect.Dy()}
}

// filters draws the first layer's filters beside each other, each scaled to its
// own largest weight: grey is 0. Filters of one pixel are the rows of a matrix.
func (g *Gallery) filters(a run.Array) {
	n, c, h, w := a.Shape[0], a.Shape[1], a.Shape[2], a.Shape[3]
	g.Layer, g.Shape = clip(a.Name), fmt.Sprintf("%d filters of %d×%d×%d (channels, height, width)", n, c, h, w)
	g.Shown = min(n, mostFilters)
	if h*w == 1 {
		s := sheet{[]int{1, g.Shown, c}}
		if c > 4*mostSide {
			return
		}
		p := image.NewNRGBA(image.Rect(0, 0, c*4, g.Shown*4))
		s.draw(p, 0, 0, 1, 4, scaled(a.Values[:g.Shown*c], c), identity)
		g.put(p)
		return
	}
	if max(h, w) > 16 {
		return
	}
	zoom, columns, gap := max(1, 36/max(h, w)), 16, 4
	rows := (g.Shown + columns - 1) / columns
	columns = min(columns, g.Shown)
	p := image.NewNRGBA(image.Rect(0, 0, columns*(w*zoom+gap)-gap, rows*(h*zoom+gap)-gap))
	s := sheet{[]int{c, h, w}}
	for i := range g.Shown {
		v := a.Values[i*c*h*w:][:c*h*w]
		s.draw(p, i%columns*(w*zoom+gap), i/columns*(h*zoom+gap), 1, zoom, scaled(v, len(v)), identity)
	}
	g.put(p)
}

func (g *Gallery) put(img *image.NRGBA) {
	p := picture(img, fmt.Sprintf("the first %d filters of %s: lighter is more than 0, darker less", g.Shown, g.Layer))
	g.Filters = &p
}

func identity(v float32) float32 { return v }

// scaled maps each row of so many values to [0,1], 0 to ½.
func scaled(v []float32, row int) []float32 {
	out := make([]float32, 0, len(v))
	for some := range slices.Chunk(v, row) {
		largest := float32(0)
		for _, x := range some {
			largest = max(largest, abs(x))
		}
		for _, x := range some {
			if largest > 0 {
				x /= largest
			}
			out = append(out, 0.5+x/2)
		}
	}
	return out
}

// figures takes the plots of temper features over. They stand in the page as
// images, in which nothing can run.
func (r *Run) figures(f *run.Folder) {
	const dir = "figures"
	names, err := f.List(dir, 8)
	r.note(err)
	for _, name := range names {
		if path.Ext(name) != ".svg" {
			continue
		}
		b, err := f.Read(path.Join(dir, name))
		if err == nil && len(b) > 200<<10 {
			err = fmt.Errorf("%s: too large for the page", path.Join(dir, name))
		}
		if err != nil {
			r.note(err)
			continue
		}
		src := "data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString(b)
		figure := Figure{Picture: Picture{Src: template.URL(src), Alt: svgTitle(b)}}
		if t, ok := r.Findings.Figures[strings.TrimSuffix(name, ".svg")]; ok {
			figure.Table = &t
		}
		r.Figures = append(r.Figures, figure)
	}
}

// svgTitle is the text of the title element, "" if there is none.
func svgTitle(svg []byte) string {
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		t, err := d.Token()
		if err != nil {
			return ""
		}
		if start, ok := t.(xml.StartElement); ok && start.Name.Local == "title" {
			var words string
			if err := d.DecodeElement(&words, &start); err != nil && err != io.EOF {
				return ""
			}
			return cut(strings.TrimSpace(words), mostCaption)
		}
	}
}
