package bench

import (
	"fmt"
	"io"
	"text/tabwriter"

	"temper/engine"
)

// Report is a whole run.
type Report struct {
	Device    engine.Info `json:"device"`
	Precision string      `json:"precision"` // of temper's products
	Ceilings  *Ceilings   `json:"ceilings,omitempty"`
	Peer      string      `json:"peer,omitempty"`
	Commit    string      `json:"commit,omitempty"` // of temper, with a + where the checkout differed; "" if the build did not record one
	Go        string      `json:"go"`
	Changes   []Change    `json:"against,omitempty"`
	Results   []*Result   `json:"results"`
}

// Table writes the report for people: medians with their interval, the best
// time, images a second of the training steps, the rates of the contractions and
// of what kernels read and write, with their shares of the ceilings, the memory
// that the program holds beside its state, and how many times as long the peer's
// best variant takes.
func (r *Report) Table(w io.Writer) {
	fmt.Fprintf(w, "%s: %s, %s; precision %s\n", r.Device.Spec, r.Device.Name, r.Device.Detail, r.Precision)
	if c := r.Ceilings; c != nil {
		fmt.Fprintf(w, "ceilings: %.1f GFLOP/s, %.1f GB/s of memory (100 %%; what caches and Winograd save is counted)\n", c.FLOPs*1e-9, c.Bytes*1e-9)
	}
	if r.Peer != "" {
		fmt.Fprintf(w, "peer: %s, at the same threads, in turn\n", r.Peer)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\ncase\tmedian ms\t95 %\tbest\timages/s\tGFLOP/s\tceiling\tGB/s\tceiling\tMB")
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
	images, limits := "-", Ceilings{}
	if c.Images > 0 {
		images = fmt.Sprintf("%.4g", float64(c.Images)/c.Times.Median())
	}
	if r.Ceilings != nil {
		limits = *r.Ceilings
	}
	rate := func(amount, ceiling float64) string {
		share := "-"
		if ceiling > 0 {
			share = fmt.Sprintf("%.0f %%", 100*amount/c.Times.Best()/ceiling)
		}
		return fmt.Sprintf("%.1f\t%s", amount/c.Times.Best()*1e-9, share)
	}
	fmt.Fprintf(w, "%s\t%s\t%s–%s\t%s\t%s\t%s\t%s\t%.3g", c.Name, ms(c.Times.Median()), ms(lo), ms(hi), ms(c.Times.Best()),
		images, rate(c.FLOPs, limits.FLOPs), rate(c.Bytes, limits.Bytes), float64(c.Memory)*1e-6)
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
