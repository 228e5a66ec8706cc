package features

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"

	"temper/adversarial"
	"temper/datasets"
	"temper/engine/graph"

	"temper/adversarial/figure"
)

// gallery is the pictures of one seed: a column for each class, as bytes
// (C,H,W), by row. A nil gallery keeps nothing.
type gallery struct {
	Channels int          `json:"channels"`
	Height   int          `json:"height"`
	Width    int          `json:"width"`
	Classes  []string     `json:"classes"` // of the columns
	Rows     []galleryRow `json:"rows"`    // the given images, the constructed sets, then each scored net's
	given    datasets.Source
	index    []int // of the columns in given
}

type galleryRow struct {
	Label  string   `json:"label"`
	Images [][]byte `json:"images"`
}

// newGallery begins with the first given image of each class.
func newGallery(given datasets.Source) *gallery {
	in := given.Info()
	g := &gallery{Channels: in.Channels, Height: in.Height, Width: in.Width, given: given}
	for class, name := range in.Classes {
		for i := range given.Len() {
			if int(given.Label(i)) == class {
				g.index, g.Classes = append(g.index, i), append(g.Classes, name)
				break
			}
		}
	}
	g.addSet("given", given)
	return g
}

// addSet adds the images that set has in the place of the columns' ones.
func (g *gallery) addSet(label string, set datasets.Source) {
	if g == nil {
		return
	}
	row := galleryRow{Label: label}
	for _, i := range g.index {
		x := make([]byte, g.Channels*g.Height*g.Width)
		set.Read(i, datasets.Values{U8: x})
		row.Images = append(row.Images, x)
	}
	g.Rows = append(g.Rows, row)
}

// addNet adds what a net makes of the columns' images: the perturbations of the
// evaluation's attack, and the gradient of the loss.
func (g *gallery) addNet(n *net, training string) error {
	if g == nil {
		return nil
	}
	perturbations, err := g.perturbations(n)
	if err != nil {
		return err
	}
	gradients, err := g.gradients(n)
	if err != nil {
		return err
	}
	g.Rows = append(g.Rows, galleryRow{"δ, " + training, perturbations}, galleryRow{"∂L/∂x, " + training, gradients})
	return nil
}

// batch is the columns' images as one.
func (g *gallery) batch() *datasets.Batch {
	b := &datasets.Batch{N: len(g.index), Values: datasets.Values{U8: slices.Concat(g.Rows[0].Images...)}}
	for _, i := range g.index {
		b.Labels, b.IDs = append(b.Labels, g.given.Label(i)), append(b.IDs, g.given.ID(i))
	}
	return b
}

// perturbations shows −ε as black, 0 as grey and ε as white.
func (g *gallery) perturbations(n *net) ([][]byte, error) {
	b := g.batch()
	e, err := runBatch(n.hard, b, nil)
	if err != nil {
		return nil, err
	}
	moved, err := floats(e, "x_adv")
	if err != nil {
		return nil, err
	}
	for i, x := range b.U8 {
		moved[i] = (moved[i] - float64(x)/255) / n.Eps.Float64()
	}
	return g.shades(moved), nil
}

// gradients shows each image's −3 standard deviations as black, 0 as grey and 3
// as white.
func (g *gallery) gradients(n *net) ([][]byte, error) {
	p := n.dev.NewProgram(n.state, func(batch int) (*graph.Graph, error) {
		return adversarial.GradientGraph(n.model, batch, graph.U8)
	}, n.compile)
	defer p.Close()
	e, err := runBatch(p, g.batch(), nil)
	if err != nil {
		return nil, err
	}
	slope, err := floats(e, "gradient")
	if err != nil {
		return nil, err
	}
	for one := range slices.Chunk(slope, len(slope)/len(g.index)) {
		sum := 0.0
		for _, v := range one {
			sum += v * v
		}
		deviation := math.Sqrt(sum / float64(len(one)))
		if deviation == 0 {
			continue
		}
		for i := range one {
			one[i] /= 3 * deviation
		}
	}
	return g.shades(slope), nil
}

// shades makes an image of each column's values, from −1, black, to 1, white.
func (g *gallery) shades(values []float64) (images [][]byte) {
	for one := range slices.Chunk(values, len(values)/len(g.index)) {
		x := make([]byte, len(one))
		for i, v := range one {
			x[i] = byte(math.Round(127.5 + 127.5*max(-1, min(1, v))))
		}
		images = append(images, x)
	}
	return images
}

// figures draws the gallery: what was constructed, and what the nets look at.
func (g *gallery) figures(s ImageSettings) []figure.Figure {
	given, made, nets := g.Rows[:1], g.Rows[1:1+len(ConstructedSets())], g.Rows[1+len(ConstructedSets()):]
	return []figure.Figure{
		g.figure("images-sets", s.Dataset+": the constructed sets", slices.Concat(given, made),
			fmt.Sprintf("Images of %s, one of each class, and what was constructed from their features in an adversarially trained net (D_R), a standardly trained one (D_NR) and an untrained one (control).", s.Dataset),
			fmt.Sprintf("descent of %d steps from %s towards the features of the given image", s.MatchSteps, s.Start)),
		g.figure("images-perturbations", s.Dataset+": what the attack changes, and where the loss rises", slices.Concat(given, nets),
			fmt.Sprintf("For images of %s, one of each class: the perturbation δ that the evaluation's attack finds on the net of each training, and the gradient of its loss by the image.", s.Dataset),
			fmt.Sprintf("black, grey, white: −ε, 0, ε of δ (ε = %v); −3, 0, 3 standard deviations of the gradient", s.Eps)),
	}
}

func (g *gallery) figure(name, heading string, shown []galleryRow, title, note string) figure.Figure {
	p := figure.NewPlot(heading, "", "")
	rows, columns := len(shown), len(shown[0].Images)
	for y, row := range shown {
		at := float64(rows - 1 - y)
		for x, pixels := range row.Images {
			p.Add(plotter.NewImage(g.picture(pixels), float64(x)-0.48, at-0.48, float64(x)+0.48, at+0.48))
		}
	}
	p.X.Tick.Marker = figure.Ordinal(len(g.Classes), func(i int) string { return g.Classes[i] })
	p.Y.Tick.Marker = figure.Ordinal(rows, func(i int) string { return shown[rows-1-i].Label })
	figure.Bare(p)
	p.Y.Tick.Label.XAlign, p.Y.Tick.Label.YAlign = text.XRight, text.YCenter
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = -0.5, float64(columns)-0.5, -0.5, float64(rows)-0.5
	const side, labels, frame = 56, 110, 56
	return figure.Beside(name, title, note, vg.Length(columns*side+labels), vg.Length(rows*side+frame), p)
}

// picture makes an image of bytes (C,H,W), grey or RGB, each pixel enlarged so
// that viewers do not blur it.
func (g *gallery) picture(pixels []byte) image.Image {
	const zoom = 3
	h, w := g.Height, g.Width
	img := image.NewNRGBA(image.Rect(0, 0, w*zoom, h*zoom))
	for y := range h * zoom {
		for x := range w * zoom {
			at := y/zoom*w + x/zoom
			c := color.NRGBA{pixels[at], pixels[at], pixels[at], 0xFF}
			if g.Channels == 3 {
				c.G, c.B = pixels[h*w+at], pixels[2*h*w+at]
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}
