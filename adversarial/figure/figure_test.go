package figure

import (
	"slices"
	"testing"
)

func TestNumbered(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   []string
	}{
		{-0.15, 0.7, []string{"0", "0.2", "0.4", "0.6"}},
		{-2, 2, []string{"−2", "−1", "0", "1", "2"}},
		{0, 5e6, []string{"0", "1e+06", "2e+06", "3e+06", "4e+06", "5e+06"}},
		{1, 1, nil},
	} {
		var got []string
		for _, tick := range Numbered(c.lo, c.hi) {
			got = append(got, tick.Label)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v to %v: %q, want %q", c.lo, c.hi, got, c.want)
		}
	}
}
