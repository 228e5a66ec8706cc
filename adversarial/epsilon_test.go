package adversarial

import (
	"strings"
	"testing"

	"temper/adversarial/run"
)

func TestParseEpsilon(t *testing.T) {
	for _, c := range []struct {
		in    string
		value float64
		text  string
	}{
		{"8/255", 8.0 / 255, "8/255"},
		{" 8 / 255 ", 8.0 / 255, "8/255"},
		{"0.3", 0.3, "0.3"},
		{".3", 0.3, ".3"},
		{"8./255.", 8.0 / 255, "8./255."},
		{"0", 0, "0"},
		{"0/255", 0, "0/255"},
		{"0.4/255", 0.4 / 255, "0.4/255"},
		{"1e-3", 1e-3, "1e-3"},
		{"0.0313725508749485", 0.0313725508749485, "0.0313725508749485"},
	} {
		e, err := ParseEpsilon(c.in)
		if err != nil || e.Float64() != c.value || e.String() != c.text || !e.IsSet() {
			t.Errorf("%q is %v (%q), %v: want %v", c.in, e.Float64(), e, err, c.value)
		}
	}
	for in, why := range map[string]string{
		"": "no distance", " ": "no distance", "8/0": "divides by zero", "8/0.0": "divides by zero",
		"-0.3": "negative", "8/-255": "negative", "NaN": "no number", "inf": "no number", "1/2/3": "no number",
		"8/": "no number", ".": "no number", "/255": "no number", "0x8": "no number", "1_0": "no number", "eight": "no number", "1e999": "no number", "8 255": "no number",
	} {
		_, err := ParseEpsilon(in)
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "8/255") {
			t.Errorf("%q: %v: want one that says %q and shows how it is done", in, err, why)
		}
	}
}

// A product is exact and written in the manner of the factor.
func TestEpsilonTimes(t *testing.T) {
	for _, c := range []struct {
		in       string
		num, den int64
		want     string
	}{
		{"8/255", 5, 4, "10/255"},
		{"8/255", 5, 100, "0.4/255"},
		{"8/255", 5, 6, "4/153"},
		{"0.3", 5, 4, "0.375"},
		{"0.3", 5, 14, "3/28"},
		{"1e-2", 1, 2, "0.005"},
		{"1e-30", 5, 4, "0.00000000000000000000000000000125"},
		{"1e30", 5, 4, "1250000000000000000000000000000"},
		{"1e-60", 5, 4, "1.25e-60"},
		{"1e99/3", 5, 6, "2.7777777777777775e+98"},
		{"1e-99", 5, 5000, "1e-102"},
		{"", 5, 4, ""},
	} {
		var e Epsilon
		must(t, e.UnmarshalText([]byte(c.in)))
		if got := e.Times(c.num, c.den); got.String() != c.want || c.want != "" && got != MustEpsilon(c.want) {
			t.Errorf("%s·%d/%d is %s, want %s", c.in, c.num, c.den, got, c.want)
		}
	}
}

// The settings of this package live in a run's config.toml and behind --set.
func TestSettingsRoundTrip(t *testing.T) {
	type settings struct {
		Threat   ThreatModel `toml:"threat"`
		Training Training    `toml:"training"`
	}
	threat := ThreatModel{Linf, MustEpsilon("8/255"), Unit}
	training, err := LookupTraining("pgd-at")
	must(t, err)
	want := settings{threat, training.Resolve(threat)}
	dir := t.TempDir()
	must(t, run.WriteConfig(dir, want))
	var got settings
	must(t, run.ReadConfig(dir, &got))
	if got != want {
		t.Errorf("read back\n%+v\nwant\n%+v", got, want)
	}
	must(t, run.ApplySet(&got, "training.attack.step_size=2/255"))
	must(t, run.ApplySet(&got, "threat.norm=l2"))
	if got.Training.Attack.StepSize != MustEpsilon("2/255") || got.Threat.Norm != L2 {
		t.Errorf("after two settings: %+v", got)
	}
	if err := run.ApplySet(&got, "threat.eps=8/0"); err == nil || !strings.Contains(err.Error(), "divides by zero") {
		t.Errorf("eps=8/0: %v", err)
	}
}
