package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"
)

// Change is a case beside an earlier measurement of it.
type Change struct {
	Name string `json:"name"`
	// Ratio is the median of now over that of then, Low and High what the two
	// intervals allow it to be.
	Ratio   float64 `json:"ratio"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Verdict string  `json:"verdict"`
	then    Times
	now     Times
}

// The verdicts. Only intervals that do not touch make a difference.
const (
	Faster = "faster"
	Slower = "slower"
	Noise  = "within noise"
	TooFew = "too few runs to tell"
)

// fewest is how many runs a median's interval of 95 % takes: with fewer, the
// smallest and the largest time do not hold it that surely.
const fewest = 6

// ReadReport reads a report that was printed as JSON.
func ReadReport(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w: want what temper bench --format json printed", path, err)
	}
	for _, c := range r.Results {
		if c == nil || len(c.Times) == 0 || slices.ContainsFunc(c.Times, func(t float64) bool { return !(t > 0) }) {
			return nil, fmt.Errorf("%s: a case without times: want what temper bench --format json printed", path)
		}
		slices.Sort(c.Times)
	}
	if len(r.Results) == 0 {
		return nil, fmt.Errorf("%s: no case: want what temper bench --format json printed", path)
	}
	return r, nil
}

// Against compares the cases that both reports have.
func (r *Report) Against(then *Report) (list []Change) {
	for _, c := range r.Results {
		i := slices.IndexFunc(then.Results, func(o *Result) bool { return o.Name == c.Name })
		if i >= 0 {
			list = append(list, change(c.Name, then.Results[i].Times, c.Times))
		}
	}
	return list
}

func change(name string, then, now Times) Change {
	lo, hi := now.Interval()
	wasLo, wasHi := then.Interval()
	c := Change{Name: name, Ratio: now.Median() / then.Median(), Low: lo / wasHi, High: hi / wasLo, then: then, now: now}
	switch {
	case len(now) < fewest || len(then) < fewest:
		c.Verdict = TooFew
	case c.High < 1:
		c.Verdict = Faster
	case c.Low > 1:
		c.Verdict = Slower
	default:
		c.Verdict = Noise
	}
	return c
}

// Mismatches names what makes two reports not comparable: another machine, device
// or precision, another speed of the machine itself; and that the code is another
// one, which is as a rule what is to be compared.
func (r *Report) Mismatches(then *Report) (list []string) {
	for _, f := range []struct{ what, was, is string }{
		{"device", then.Device.Name, r.Device.Name}, {"device's detail", then.Device.Detail, r.Device.Detail},
		{"precision", then.Precision, r.Precision}, {"commit", then.Commit, r.Commit}, {"Go", then.Go, r.Go},
	} {
		if f.was != f.is {
			list = append(list, fmt.Sprintf("the %s was %q, it is %q", f.what, f.was, f.is))
		}
	}
	if then.Ceilings != nil && r.Ceilings != nil {
		if ratio := r.Ceilings.FLOPs / then.Ceilings.FLOPs; math.Abs(ratio-1) > 0.05 {
			list = append(list, fmt.Sprintf("the machine's own ceiling is %.2f times what it was: other programs, or another clock", ratio))
		}
	}
	return list
}

// writeAgainst writes the comparison for people.
func (r *Report) writeAgainst(w io.Writer, then *Report, file string) {
	fmt.Fprintf(w, "\nagainst %s\n", file)
	for _, m := range r.Mismatches(then) {
		fmt.Fprintf(w, "  note: %s\n", m)
	}
	changes := r.Against(then)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\ncase\tthen ms\t95 %\tnow ms\t95 %\tnow/then\tbounds\t\n")
	for _, c := range changes {
		lo, hi := c.now.Interval()
		wasLo, wasHi := c.then.Interval()
		fmt.Fprintf(t, "%s\t%s\t%s–%s\t%s\t%s–%s\t%.3f\t%.3f–%.3f\t%s\n", c.Name, ms(c.then.Median()), ms(wasLo), ms(wasHi), ms(c.now.Median()), ms(lo), ms(hi), c.Ratio, c.Low, c.High, c.Verdict)
	}
	t.Flush()
	if n := len(r.Results) - len(changes); n > 0 {
		fmt.Fprintf(w, "%d cases are not in %s\n", n, file)
	}
}
