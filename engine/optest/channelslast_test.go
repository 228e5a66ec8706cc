package optest

import (
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
			err = (Tolerance{Rel: 2000, Abs: 2000}).CompareResults(want, got)
		}
		if err != nil {
			t.Errorf("random program %d: %v", seed, err)
		}
	}
}
