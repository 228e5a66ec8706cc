package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ratio is a setting with a parser of its own, as ε is.
type ratio struct{ Text string }

func (r ratio) MarshalText() ([]byte, error) { return []byte(r.Text), nil }

func (r *ratio) UnmarshalText(b []byte) error {
	if !strings.Contains(string(b), "/") {
		return fmt.Errorf("%q is no ratio such as 8/255", b)
	}
	r.Text = string(b)
	return nil
}

type optimizer struct {
	LR         float64 `toml:"lr"`
	Momentum   float32 `toml:"momentum"`
	Milestones []int   `toml:"milestones"`
}

type settings struct {
	Name      string      `toml:"name"`
	Epochs    int         `toml:"epochs"`
	Seed      uint32      `toml:"seed"`
	Nesterov  bool        `toml:"nesterov" comment:"look ahead"`
	Epsilon   ratio       `toml:"epsilon"`
	Optimizer optimizer   `toml:"optimizer"`
	Attacks   []optimizer `toml:"attacks"`
	Hidden    int         `toml:"-"`
}

func defaults() settings {
	return settings{
		Name: "resnet", Epochs: 10, Epsilon: ratio{"8/255"},
		Optimizer: optimizer{LR: 0.1, Momentum: 0.9, Milestones: []int{60, 80, 90}},
	}
}

func TestConfigRoundTrip(t *testing.T) {
	dir := t.TempDir()
	want := defaults()
	want.Name = "a \"b\" \\ é\n"
	want.Nesterov = true
	want.Optimizer.LR = 0.1 + 0.2
	want.Attacks = []optimizer{{LR: 1, Milestones: []int{1}}, {LR: 2, Milestones: []int{}}}
	must(t, WriteConfig(dir, &want))
	var got settings
	must(t, ReadConfig(dir, &got))
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	must(t, os.Remove(filepath.Join(dir, ConfigFile)))
	wantError(t, ReadConfig(dir, &got), "read "+dir+"/config.toml: no such file or directory")
}

func TestParseConfigOverlays(t *testing.T) {
	got := defaults()
	must(t, ParseConfig("recipe", []byte("epochs = 3\n[optimizer]\nlr = 1 # an integer will do\nmilestones = [7]\n"), &got))
	want := defaults()
	want.Epochs = 3
	want.Optimizer.LR = 1
	want.Optimizer.Milestones = []int{7}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseConfigErrors(t *testing.T) {
	for _, c := range []struct{ toml, want string }{
		{"epocs = 3", `line 1: unknown key "epocs" (did you mean "epochs"?)`},
		{"\n[optimizer]\nlearning_rate = 1", `line 3: unknown key "optimizer.learning_rate"`},
		{"[optimizer]\nmomentun = 1", `line 2: unknown key "optimizer.momentun" (did you mean "optimizer.momentum"?)`},
		{"[optimiser]\nlr = 1", `line 1: unknown key "optimiser" (did you mean "optimizer"?)`},
		{"lr = 1", `line 1: unknown key "lr" (did you mean "optimizer.lr"?)`},
		{"train.lr = 1", `line 1: unknown key "train.lr" (did you mean "optimizer.lr"?)`},
		{"Hidden = 1", `line 1: unknown key "Hidden"`},
		{"zzzz = 1\nepocs = 2", `line 1: unknown key "zzzz"; line 2: unknown key "epocs" (did you mean "epochs"?)`},
		{"optimizer.lr = 'x'", `line 1: optimizer.lr must be a number`},
		{"\n[optimizer]\nlr = true", `line 3: optimizer.lr must be a number`},
		{"epochs = 1.0", `line 1: epochs must be an integer of 64 bits`},
		{"epochs = 99999999999999999999", `line 1: epochs must be an integer of 64 bits`},
		{"seed = -1", `line 1: seed must be an integer of 32 bits, not negative`},
		{"seed = 4294967296", `line 1: seed must be an integer of 32 bits, not negative`},
		{"nesterov = 1", `line 1: nesterov must be true or false`},
		{"name = 1", `line 1: name must be a string`},
		{"optimizer = 1", `line 1: optimizer must be a table`},
		{"optimizer.milestones = ['x']", `line 1: optimizer.milestones must be a list, each an integer of 64 bits`},
		{"epsilon = '8'", `line 1: epsilon: "8" is no ratio such as 8/255`},
		{"epsilon = 0.5", `"0.5" is no ratio such as 8/255`},
		{"optimizer.momentum = 1e300", `line 1: optimizer.momentum must be a number`},
		{"name = 'a'\nname = 'b'", `line 2: key name is already defined`},
		{"name =", `line 1: expected value, not end of input`},
		{"name = \"a\nb\"", `line 1: basic strings cannot have new lines`},
	} {
		var s settings
		wantError(t, ParseConfig("c.toml", []byte(c.toml), &s), "c.toml: "+c.want)
	}
}

func TestApplySet(t *testing.T) {
	for _, c := range []struct {
		set    string
		change func(*settings)
	}{
		{"name=wrn", func(s *settings) { s.Name = "wrn" }},
		{"name=", func(s *settings) { s.Name = "" }},
		{"name=a=b", func(s *settings) { s.Name = "a=b" }},
		{`name="wrn"`, func(s *settings) { s.Name = "wrn" }},
		{`name='wrn'`, func(s *settings) { s.Name = "wrn" }},
		{"name=8", func(s *settings) { s.Name = "8" }},
		{"epochs = 3", func(s *settings) { s.Epochs = 3 }},
		{"epochs=-3", func(s *settings) { s.Epochs = -3 }},
		{"seed=4294967295", func(s *settings) { s.Seed = 4294967295 }},
		{"nesterov=true", func(s *settings) { s.Nesterov = true }},
		{"epsilon=4/255", func(s *settings) { s.Epsilon = ratio{"4/255"} }},
		{"optimizer.lr=.5", func(s *settings) { s.Optimizer.LR = 0.5 }},
		{"optimizer.lr=1e-3", func(s *settings) { s.Optimizer.LR = 1e-3 }},
		{"optimizer.milestones=[1, 2]", func(s *settings) { s.Optimizer.Milestones = []int{1, 2} }},
		{"optimizer.milestones=[]", func(s *settings) { s.Optimizer.Milestones = []int{} }},
		{"attacks=[{lr=2}]", func(s *settings) { s.Attacks = []optimizer{{LR: 2}} }},
	} {
		got, want := defaults(), defaults()
		c.change(&want)
		if err := ApplySet(&got, c.set); err != nil {
			t.Errorf("%s: %v", c.set, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", c.set, d)
		}
	}
}

func TestApplySetErrors(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"epochs", `"epochs" is not key=value`},
		{"=3", `"=3" is not key=value`},
		{"optimiser.lr=3", `unknown key "optimiser.lr" (did you mean "optimizer.lr"?)`},
		{"lr=3", `unknown key "lr" (did you mean "optimizer.lr"?)`},
		{"attacks.lr=3", `unknown key "attacks.lr" (did you mean "attacks"?)`},
		{"Hidden=3", `unknown key "Hidden"`},
		{"epochs=ten", `epochs=ten: must be an integer of 64 bits`},
		{"epochs=1.0", `epochs=1.0: must be an integer of 64 bits`},
		{"seed=-1", `seed=-1: must be an integer of 32 bits, not negative`},
		{"nesterov=1", `nesterov=1: must be true or false`},
		{"epsilon=8", `epsilon=8: "8" is no ratio such as 8/255`},
		{"optimizer.lr=fast", `optimizer.lr=fast: must be a number`},
		{"optimizer=fast", `optimizer=fast: optimizer is a table: set one of its keys, optimizer.…`},
		{"optimizer.milestones=60", `optimizer.milestones=60: must be a list, each an integer of 64 bits`},
		{"optimizer.milestones=[60", `optimizer.milestones=[60: must be a list, each an integer of 64 bits`},
		{"optimizer.milestones=[60]\nname=1", "optimizer.milestones=[60]\nname=1: must be a list, each an integer of 64 bits"},
		{"attacks=[{lf=2}]", `attacks=[{lf=2}]: must be a list, each a table`},
		{`name="x`, `name="x: must be a string`},
	} {
		got := defaults()
		wantError(t, ApplySet(&got, c.set), c.want)
		if d := cmp.Diff(defaults(), got); d != "" {
			t.Errorf("%s changed %s", c.set, d)
		}
	}
}

func TestEmbeddedSettings(t *testing.T) {
	type outer struct {
		Common
		Untagged int
	}
	dir := t.TempDir()
	want := outer{Common: Common{Workers: 3}, Untagged: 4}
	must(t, WriteConfig(dir, &want))
	var got outer
	must(t, ReadConfig(dir, &got))
	must(t, ApplySet(&got, "workers=5"))
	must(t, ApplySet(&got, "Untagged=6"))
	if got.Workers != 5 || got.Untagged != 6 {
		t.Errorf("%+v", got)
	}
	wantError(t, ApplySet(&got, "worker=1"), `unknown key "worker" (did you mean "workers"?)`)
}

// Common is embedded by settings that share it.
type Common struct {
	Workers int `toml:"workers"`
}

// scalar has a parser that the TOML library would pass over.
type scalar string

func (*scalar) UnmarshalText([]byte) error { return nil }

func TestSettingsMisuse(t *testing.T) {
	wantPanic(t, "no pointer", func() { ParseConfig("x", nil, settings{}) })
	wantPanic(t, "no struct", func() { ParseConfig("x", nil, new(int)) })
	wantPanic(t, "scalar with a parser", func() {
		ParseConfig("x", nil, &struct{ S scalar }{})
	})
}
