package job

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/plan"
)

// Plans has every batch size that a run meets, without the data; the alarms'
// probes among them, of 100 examples where there are so many.
func TestPlans(t *testing.T) {
	for _, c := range []struct {
		set  []string
		want []string // program and batch
	}{
		{[]string{"data.name=mnist", "batches.size=256"}, // 60000 examples, watched on 1000, tested on 10000
			[]string{"eval 100", "eval 100", "eval 100", "eval 100", "eval 200", "init 0", "step 256", "step 96"}},
		{[]string{"data.name=mnist", "data.limit=1000", "data.held_out=100", "batches.size=400", "batches.drop_last=true", "eval.batch_size=75"},
			[]string{"eval 100", "eval 100", "eval 100", "eval 100", "eval 25", "eval 75", "init 0", "step 400"}},
		{[]string{"training.method=standard", "eval.batch_size=1000"}, // structured: 40 examples, tested on 200
			[]string{"eval 200", "eval 40", "init 0", "step 40"}},
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

// With exact_conv, no program of training holds Winograd's algorithm; an
// evaluation takes the setting from the run.
func TestExactConv(t *testing.T) {
	target := func(graph.Precision) passes.Target { return passes.Target{ChannelsLast: true, PackedFilters: true} }
	for exact, want := range map[string]bool{"false": true, "true": false} {
		assignments := user("data.name=mnist", "model.name=mnist-madry", "exact_conv="+exact)
		plans, err := Plans(assignments, target)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(plans, func(p *plan.Plan) bool { return strings.Contains(p.Graph.String(), "winograd") }); got != want {
			t.Errorf("exact_conv %s: Winograd %v", exact, got)
		}
		s := one(t, "data.name=mnist", "exact_conv="+exact)
		list, err := evalSettings(&s, nil)
		if err != nil || list[0].ExactConv != s.ExactConv {
			t.Errorf("exact_conv %s: the evaluation's %+v, %v", exact, list, err)
		}
	}
}
