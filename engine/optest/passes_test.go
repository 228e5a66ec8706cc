package optest

import (
	"flag"
	"testing"

	"temper/engine/interp"
	"temper/engine/passes"
)

// More programs than a test needs: go test -run PassesKeepValues -args -first 60 -programs 2000.
var (
	firstProgram = flag.Int("first", 0, "the first random program's seed")
	programs     = flag.Int("programs", 60, "how many random programs")
)

// What the passes make of a random program has its value, but for rounding:
// computed in float64 by the interpreter, no back end takes part and nothing that
// is ill-conditioned hides a difference.
func TestPassesKeepValues(t *testing.T) {
	targets := map[string]passes.Target{
		"cpu":     {ChannelsLast: true, PackedFilters: true},
		"by rows": {ChannelsLast: true, PackedFilters: true, RowBytes: 1},
		"cuda":    {ChannelsLast: true, BF16: true},
		"plain":   {},
	}
	for seed := uint32(*firstProgram); seed < uint32(*firstProgram+*programs); seed++ {
		g := Random(seed)
		if hasBF16(g) {
			continue // which jumps
		}
		feed := RandomFeed(g, seed)
		want, err := interp.Run(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		for name, target := range targets {
			h, err := passes.Run(g, passes.Options{Target: target})
			if err != nil {
				t.Fatal(err)
			}
			got, err := interp.Run(h, feed)
			if err == nil {
				err = (Tolerance{Rel: 64, Abs: 64, Floor: 1e-6}).CompareResults(want, got)
			}
			if err != nil {
				t.Errorf("program %d, %s: %v", seed, name, err)
			}
		}
	}
}
