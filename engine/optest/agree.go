package optest

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

// Runner computes one step of a graph: a back end, or interp.Run itself. It
// must give each output and each assigned state.
type Runner func(g *graph.Graph, feed interp.Feed) (*interp.Result, error)

// Agree runs every case at each of the types (all, if none is named) and
// compares the results with those of interp.RunRounded.
func Agree(t *testing.T, run Runner, types ...graph.DType) {
	for _, c := range Cases() {
		for _, dt := range c.Types {
			if len(types) > 0 && !slices.Contains(types, dt) {
				continue
			}
			t.Run(c.Name+"/"+dt.String(), func(t *testing.T) {
				if err := c.agree(run, dt); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func (c *Case) agree(run Runner, t graph.DType) error {
	g, err := c.Graph(t)
	if err != nil {
		return err
	}
	want, err := interp.RunRounded(g, c.Feed(t))
	if err != nil {
		return err
	}
	got, err := run(g, c.Feed(t))
	if err != nil {
		return err
	}
	tol := c.Tol
	if t == graph.BF16 && c.TolBF16 != (Tolerance{}) {
		tol = c.TolBF16
	}
	return tol.CompareResults(want, got)
}

// CompareResults is Compare for each output and each assigned state.
func (tol Tolerance) CompareResults(want, got *interp.Result) error {
	for _, r := range []struct {
		kind      string
		want, got map[string]*interp.Tensor
	}{{"output", want.Outputs, got.Outputs}, {"state", want.States, got.States}} {
		for _, name := range slices.Sorted(maps.Keys(r.want)) {
			if err := tol.Compare(r.want[name], r.got[name]); err != nil {
				return fmt.Errorf("%s %q: %w", r.kind, name, err)
			}
		}
	}
	return nil
}
