package job

import (
	"fmt"
	"slices"
	"testing"

	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/plan"
)

// Plans has every batch size that a run meets, without the data.
func TestPlans(t *testing.T) {
	for _, c := range []struct {
		set  []string
		want []string // program and batch
	}{
		{[]string{"data.name=mnist", "batches.size=256"}, // 60000 examples, watched on 1000, tested on 10000
			[]string{"eval 200", "init 0", "step 256", "step 96"}},
		{[]string{"data.name=mnist", "data.limit=1000", "data.held_out=100", "batches.size=400", "batches.drop_last=true", "eval.batch_size=75"},
			[]string{"eval 25", "eval 75", "init 0", "step 400"}},
		{[]string{"training.method=standard", "eval.batch_size=1000"}, // structured: 40 examples, tested on 200
			[]string{"eval 200", "init 0", "step 40"}},
	} {
		plans, err := Plans(user(c.set...), func(graph.Precision) passes.Target { return passes.Target{} })
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range plans {
			kind, batch := "init", 0
			for _, b := range p.Buffers {
				if b.Kind == plan.Input && b.Name == "x" {
					kind, batch = "eval", b.Shape[0]
				}
			}
			if len(p.Graph.Assigns()) > 0 && kind == "eval" {
				kind = "step"
			}
			got = append(got, fmt.Sprint(kind, " ", batch))
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %q, want %q", c.set, got, c.want)
		}
	}
}
