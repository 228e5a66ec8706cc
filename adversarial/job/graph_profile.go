package job

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"temper/adversarial/report"
)

// Profile is what temper graph --profile measures: the shortest of some runs of the
// training step, with every part timed.
type Profile struct {
	Program   string        `json:"program"`
	Device    string        `json:"device"`
	Precision string        `json:"precision"`
	Batch     int           `json:"batch"`   // examples a step
	Seconds   float64       `json:"seconds"` // of the whole step
	Bytes     int           `json:"bytes"`   // that it moves, each buffer of a kernel counted once
	Steps     []ProfileStep `json:"steps"`   // of the plan, those that took longest first
}

// ProfileStep is one step of the plan in all its runs within the training step.
type ProfileStep struct {
	Name    string   `json:"name"` // as temper graph --plan has it
	Part    string   `json:"part"` // attack or update
	Runs    int      `json:"runs"`
	Seconds float64  `json:"seconds"`
	Bytes   int      `json:"bytes"`
	FLOPs   float64  `json:"flops"`
	Kernels []string `json:"kernels"` // what the device ran for it
}

// profile sums up a listing that was run, of a step of the settings.
func (l *listing) profile(device string, s *Settings) *Profile {
	r := &Profile{Program: l.Plan().Graph.Name(), Device: device, Precision: precisionLine(s.Precision, s.ExactConv), Batch: l.batch, Seconds: l.trace.Total.Seconds()}
	attack := ofAttack(l.Plan())
	for step, at := range l.times {
		name, _, _ := strings.Cut(strings.TrimSpace(l.Plan().Text(step)), "\n")
		one := ProfileStep{Name: name, Part: "update", Runs: at.runs, Seconds: at.total.Seconds(), Bytes: at.runs * l.bytes(step),
			FLOPs: float64(at.runs) * l.Plan().Cost(step).FLOPs, Kernels: []string{}}
		if attack[step] {
			one.Part = "attack"
		}
		for _, k := range l.Kernels(step) {
			one.Kernels = append(one.Kernels, k.Name)
		}
		r.Steps, r.Bytes = append(r.Steps, one), r.Bytes+one.Bytes
	}
	slices.SortFunc(r.Steps, func(a, b ProfileStep) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(a.Name, b.Name))
	})
	return r
}

// print lists the steps that took longest.
func (r *Profile) print(w io.Writer) {
	fmt.Fprintf(w, "a step takes %.4g ms and moves %s, each buffer of a kernel counted once: %.4g GB/s\n\n", r.Seconds*1e3, report.Bytes(r.Bytes), float64(r.Bytes)/r.Seconds/1e9)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "ms\tshare\truns\tbytes\tGB/s\tpart\tstep\n")
	for _, s := range r.Steps[:min(len(r.Steps), 30)] {
		fmt.Fprintf(t, "%.3g\t%.0f %%\t%d\t%s\t%.3g\t%s\t%s\n", s.Seconds*1e3, 100*s.Seconds/r.Seconds, s.Runs,
			report.Bytes(s.Bytes), float64(s.Bytes)/max(s.Seconds, 1e-9)/1e9, s.Part, s.Name)
	}
	t.Flush()
}
