package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestFeatures is temper features, small: its manual, its table, its JSON, and
// what it says to mistakes.
func TestFeatures(t *testing.T) {
	dir := t.TempDir()
	golden(t, "help-features", dir, must(t, dir, nil, "features", "--help"))
	golden(t, "features", dir, must(t, dir, nil, "features", "--seeds", "2", "--set", "steps=10", "--set", "test_n=20"))

	o := must(t, dir, []string{"TEMPER_SEEDS=1"}, "features", "--set", "k=10", "--set", "steps=2", "--set", "test_n=20", "--json")
	var result struct {
		Settings struct{ K, D, Seeds int }
		Claims   []struct{ Holds bool }
	}
	if err := json.Unmarshal([]byte(o.stdout), &result); err != nil || result.Settings.K != 10 || result.Settings.D != 20 || result.Settings.Seeds != 1 || len(result.Claims) == 0 {
		t.Errorf("%v, %+v", err, result)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--set", "d=9"}, "d = 9 < 2k = 10"},
		{[]string{"--set", "eps=0"}, "want eps > 0"},
		{[]string{"--set", "p=7"}, "r + n = 1 + 80 is not p = 7"},
		{[]string{"--set", "q=1"}, "q ≥ 2"},
		{[]string{"--seeds", "0"}, "seeds = 0: want at least 1"},
		{[]string{"--sweep", "beta=1"}, "write ratio="},
		{[]string{"--dataset", "imagenet"}, "structured, mnist, cifar10 and svhn"},
	} {
		o := temper(t, dir, nil, append([]string{"features"}, c.args...)...)
		if o.code != 2 || strings.Count(o.stderr, "\n") > 2 || !strings.Contains(o.stderr, c.want) || o.stdout != "" {
			t.Errorf("%v: exit code %d, %q; want %q", c.args, o.code, o.stderr, c.want)
		}
	}
}
