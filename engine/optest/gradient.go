package optest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"

	"temper/engine/autodiff"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/rng"
)

// Gradient compares the first derivatives of every case that has them, and
// the second ones where it is smooth, with central differences. The
// derivatives are computed by run in f64, the differences by interp.Run.
func Gradient(t *testing.T, run Runner) {
	for _, c := range Cases() {
		if !c.diff {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			if err := c.checkGradient(run, 1); err != nil {
				t.Error(err)
			}
			if c.smooth {
				if err := c.checkGradient(run, 2); err != nil {
					t.Errorf("second derivative: %v", err)
				}
			}
		})
	}
}

// checkGradient checks the derivative of the case's projection: a scalar that
// is a random combination of its results or, of order 2, of the gradient of
// that scalar.
func (c *Case) checkGradient(run Runner, order int) error {
	g := graph.New(c.Name)
	all := c.declare(g, graph.F64)
	x := floats(all)
	s := project(c.build(all), "results")
	for range order - 1 {
		s = project(autodiff.Grad(s, x...), "gradients")
	}
	g.Output("s", s)
	value, err := interp.Run(g, c.Feed(graph.F64)) // before the gradient is built: only the value is live
	if err != nil {
		return err
	}
	feed := c.Feed(graph.F64)
	diffs := make([][]difference, len(x))
	for i, n := range x {
		for d := range 3 {
			stream := rng.NewStream(uint32(d), c.Name, uint32(i))
			diff, err := central(g, feed, interp.Key(n), uniform(-1, 1)(stream, graph.F64, n.Size()))
			if err != nil {
				return err
			}
			diffs[i] = append(diffs[i], diff)
		}
	}
	for i, d := range autodiff.Grad(s, x...) {
		g.Output("d"+strconv.Itoa(i), d)
	}
	r, err := run(g, feed)
	if err != nil {
		return err
	}
	if err := (Tolerance{Abs: 1 << 12}).Compare(value.Outputs["s"], r.Outputs["s"]); err != nil {
		return fmt.Errorf("the projection's value: %w", err)
	}
	for i := range x {
		for _, d := range diffs[i] {
			got, size := d.along(r.Outputs["d"+strconv.Itoa(i)].Data)
			if e := math.Abs(got - d.slope); !(e <= 1e-8*(size+d.noise)) {
				return fmt.Errorf("operand %d: derivative %.12g, by differences %.12g", i, got, d.slope)
			}
		}
	}
	return nil
}

// project is the sum of all elements, each times a fixed random number.
func project(ys nodes, site string) *graph.Node {
	ys = floats(ys)
	total := ys[0].C(0)
	for i, y := range ys {
		r := y.Graph().Const(y.DType(), uniform(0.5, 1.5)(rng.NewStream(2, site, uint32(i)), y.DType(), y.Size()), y.Shape()...)
		total = total.Add(y.Mul(r).Sum())
	}
	return total
}

// difference is a measured slope along a direction.
type difference struct {
	direction    []float64
	slope, noise float64
}

// along is the slope that a gradient has in the direction, and the size of
// the terms that make it.
func (d difference) along(gradient []float64) (slope, size float64) {
	for i, v := range gradient {
		slope += v * d.direction[i]
		size += math.Abs(v * d.direction[i])
	}
	return slope, size
}

// central measures the slope of output "s" with the four-point rule, whose
// error is of order h⁴. The noise is the size of what it cancels.
func central(g *graph.Graph, feed interp.Feed, key string, direction []float64) (difference, error) {
	const h = 1e-4
	x := feed[key]
	slope, noise := 0.0, 0.0
	for _, p := range []struct{ step, weight float64 }{{-2, 1}, {-1, -8}, {1, 8}, {2, -1}} {
		moved := interp.New(x.DType, x.Shape, x.Data...)
		for i, d := range direction {
			moved.Data[i] += p.step * h * d
		}
		feed[key] = moved
		r, err := interp.Run(g, feed)
		feed[key] = x
		if err != nil {
			return difference{}, err
		}
		s := r.Outputs["s"].Data[0]
		slope += p.weight * s / (12 * h)
		noise = max(noise, math.Abs(s))
	}
	return difference{slices.Clone(direction), slope, noise}, nil
}
