package bench

import (
	"fmt"
	"io"
	"text/tabwriter"

	"temper/engine"
)

// Report is a whole run.
type Report struct {
	Device    engine.Info      `json:"device"`
	Precision string           `json:"precision"`          // of temper's products
	Ceilings  *engine.Ceilings `json:"ceilings,omitempty"` // the best seen in the run
	Peer      string           `json:"peer,omitempty"`
	Commit    string           `json:"commit,omitempty"` // of temper, with a + where the checkout differed; "" if the build did not record one
	Go        string           `json:"go"`
	Changes   []Change         `json:"against,omitempty"`
	Results   []*Result        `json:"results"`
}

// Table writes the report for people: medians with their interval, the best
// time, the rate of the contractions and its share of the ceiling, the memory that
// the program holds beside its state, and how many times as long the peer's best
// variant takes.
func (r *Report) Table(w io.Writer) {
	fmt.Fprintf(w, "%s: %s, %s; precision %s\n", r.Device.Spec, r.Device.Name, r.Device.Detail, r.Precision)
	if r.Ceilings != nil {
		fmt.Fprintf(w, "multiply-add ceiling %.1f GFLOP/s (100 %%)\n", r.Ceilings.FLOPs*1e-9)
	}
	if r.Peer != "" {
		fmt.Fprintf(w, "peer: %s, at the same threads, in turn\n", r.Peer)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\ncase\tmedian ms\t95 %\tbest\tGFLOP/s\tceiling\tMB")
	if r.Peer != "" {
		fmt.Fprint(t, "\tpeer median\tbest\tits variant\tratio of medians\tof bests")
	}
	fmt.Fprintln(t)
	for _, c := range r.Results {
		r.row(t, c)
	}
	t.Flush()
}

func (r *Report) row(w io.Writer, c *Result) {
	lo, hi := c.Times.Interval()
	share := "-"
	if r.Ceilings != nil {
		share = fmt.Sprintf("%.0f %%", 100*c.FLOPs/c.Times.Best()/r.Ceilings.FLOPs)
	}
	fmt.Fprintf(w, "%s\t%s\t%s–%s\t%s\t%.1f\t%s\t%.3g", c.Name, ms(c.Times.Median()), ms(lo), ms(hi), ms(c.Times.Best()), c.FLOPs/c.Times.Best()*1e-9, share, float64(c.Memory)*1e-6)
	if v := c.BestPeer(); v != "" {
		p := c.Peer[v]
		fmt.Fprintf(w, "\t%s\t%s\t%s\t%.2f\t%.2f", ms(p.Median()), ms(p.Best()), v, p.Median()/c.Times.Median(), p.Best()/c.Times.Best())
	}
	fmt.Fprintln(w)
}

// GoFormat writes Go's benchmark format, which benchstat reads: one line for
// each time.
func (r *Report) GoFormat(w io.Writer) {
	fmt.Fprintf(w, "device: %s, %s\nprecision: %s\n", r.Device.Name, r.Device.Detail, r.Precision)
	line := func(name string, t Times) {
		for _, s := range t {
			fmt.Fprintf(w, "Benchmark%s 1 %.0f ns/op\n", name, s*1e9)
		}
	}
	for _, c := range r.Results {
		line(c.Name, c.Times)
		for _, v := range Variants {
			line(c.Name+"/peer="+v, c.Peer[v])
		}
	}
}

// ms is a time in milliseconds to three digits.
func ms(s float64) string { return fmt.Sprintf("%.3g", s*1e3) }
