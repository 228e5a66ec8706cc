package optest

import (
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/passes"
)

// The pass channels-last must keep every case's value, on the reference
// interpreter: no back end takes part.
func TestChannelsLast(t *testing.T) {
	rewritten := 0
	run := func(g *graph.Graph, feed interp.Feed) (*interp.Result, error) {
		o := passes.Options{Target: passes.Target{ChannelsLast: true}, Dump: func(_ string, g *graph.Graph) {
			for _, n := range g.Root().Nodes() {
				if n.Attrs().Layout == graph.NHWC {
					rewritten++
				}
			}
		}}
		h, err := passes.Run(g, o)
		if err != nil {
			return nil, err
		}
		return interp.RunRounded(h, feed)
	}
	Agree(t, run, graph.F64)
	if rewritten == 0 {
		t.Error("no case has a convolution in NHWC")
	}
	for seed := range uint32(100) {
		g := Random(seed)
		want, err := interp.Run(g, RandomFeed(g, seed))
		if err != nil {
			t.Fatal(err)
		}
		got, err := run(g, RandomFeed(g, seed))
		if err == nil {
			err = RandomTolerance(g).CompareResults(want, got)
		}
		if err != nil {
			t.Errorf("random program %d: %v", seed, err)
		}
	}
}

// Packing filters for products of bf16 changes no value, on the reference
// interpreter.
func TestPairs(t *testing.T) {
	target := passes.Target{ChannelsLast: true, BF16: true, Precision: graph.PrecisionBF16}
	packing := target
	packing.PackedFilters = true
	run := func(g *graph.Graph, feed interp.Feed, target passes.Target) (r *interp.Result, packed int) {
		h, err := passes.Run(g, passes.Options{Target: target})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range h.Root().Nodes() {
			if n.Attrs().Algorithm == graph.Pairs {
				packed++
			}
		}
		if r, err = interp.RunRounded(h, feed); err != nil {
			t.Fatal(err)
		}
		return r, packed
	}
	for _, c := range Cases() {
		if !strings.HasPrefix(c.Name, "conv2d") || strings.HasSuffix(c.Name, "/gradient") {
			continue
		}
		g, err := c.Graph(graph.F32)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := run(g, c.Feed(graph.F32), target)
		got, packed := run(g, c.Feed(graph.F32), packing)
		if packed == 0 && !strings.HasPrefix(c.Name, "conv2d-filter-grad") {
			t.Errorf("%s: no filter is packed", c.Name)
		}
		if err := (Tolerance{Rel: 0x1p16}).CompareResults(want, got); err != nil { // a bf16's last place
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}
