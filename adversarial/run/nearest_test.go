package run

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0},
		{"abc", "ab", 1}, {"abc", "xabc", 1}, {"abc", "axc", 1},
		{"abc", "acb", 1}, {"abcd", "badc", 2}, {"ca", "abc", 3},
		{"kitten", "sitting", 3},
	} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	models := []string{"mnist-cnn", "preactresnet18", "wideresnet-28-10", "wideresnet-34-10", "patch-cnn"}
	for _, c := range []struct {
		name string
		want []string
	}{
		{"preactresnet81", []string{"preactresnet18"}},
		{"PreActResNet-18", []string{"preactresnet18"}},
		{"resnet18", []string{"preactresnet18"}},
		{"wideresnet-34", []string{"wideresnet-34-10"}},
		{"wideresnet-24-10", []string{"wideresnet-28-10", "wideresnet-34-10"}},
		{"cnn", []string{"mnist-cnn", "patch-cnn"}},
		{"x", nil},
		{"", nil},
		{"transformer", nil},
	} {
		if d := cmp.Diff(c.want, Nearest(c.name, models)); d != "" {
			t.Errorf("%q: %s", c.name, d)
		}
	}
	if got, want := DidYouMean("cnn", models), ` (did you mean "mnist-cnn" or "patch-cnn"?)`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := DidYouMean("transformer", models); got != "" {
		t.Errorf("%q", got)
	}
}
