package job

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// count turns verdicts into the result's numbers.
func (r *Evaluation) count(classes []string, p *protocol, batches []*verdict) {
	for _, c := range classes {
		r.Classes = append(r.Classes, ClassOutcome{Class: c})
	}
	for _, pl := range p.plans {
		a := AttackResult{Attack: pl.describe(p.threat)}
		if pl.suite {
			for _, s := range pl.stages {
				a.Stages = append(a.Stages, StageResult{Name: s.attack.Name, Attack: s.attack.Describe(p.threat)})
			}
		}
		r.Attacks = append(r.Attacks, a)
	}
	for _, v := range batches {
		for i, y := range v.Labels {
			clean, robust, norm, worst := v.Clean[i] == y, true, 0.0, v.Clean[i]
			for k := range r.Attacks {
				a, f := &r.Attacks[k], v.Fates[k][i]
				norm = max(norm, float64(f.Norm))
				stands := clean && f.Fell < 0
				robust = robust && stands
				if worst == y {
					worst = f.Pred
				}
				if stands {
					a.Robust++
				}
				for j := range a.Stages {
					if clean && (f.Fell < 0 || f.Fell > j) {
						a.Stages[j].Robust++
					}
				}
			}
			r.add(y, clean, clean && robust, norm)
			r.confuse(y, v.Clean[i], worst)
		}
	}
	for k := range r.Attacks {
		r.Attacks[k].Accuracy = accuracy(r.Attacks[k].Robust, r.N)
	}
	r.CleanAccuracy, r.RobustAccuracy = accuracy(r.Clean, r.N), accuracy(r.Robust, r.N)
	r.Warnings = append(r.Warnings, blackBox(r, p)...)
}

func (r *Evaluation) print(w io.Writer) {
	percent := func(k, n int) float64 { return 100 * float64(k) / float64(max(n, 1)) }
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, n, clean, robust int) {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.1f %%\t%d\t%.1f %%\t\n", name, n, clean, percent(clean, n), robust, percent(robust, n))
	}
	fmt.Fprintf(t, "class\texamples\tclean\t\trobust\t\t\n")
	for _, c := range r.Classes {
		if c.N > 0 {
			row(c.Class, c.N, c.Clean, c.Robust)
		}
	}
	row("all", r.N, r.Clean, r.Robust)
	t.Flush()
	fmt.Fprintf(w, "\nclean accuracy   %v\n", r.CleanAccuracy)
	if len(r.Attacks) == 1 {
		fmt.Fprintf(w, "robust accuracy  %v under %s\n", r.RobustAccuracy, r.Attack)
	} else {
		fmt.Fprintf(w, "robust accuracy  %v under the worst of them for each example\n", r.RobustAccuracy)
	}
	for _, a := range r.Attacks {
		if len(r.Attacks) > 1 {
			fmt.Fprintf(w, "                 %v under %s\n", a.Accuracy, a.Attack)
		}
		for _, s := range a.Stages {
			fmt.Fprintf(w, "                   %.1f %% left by %s\n", percent(s.Robust, r.N), s.Attack)
		}
	}
	fmt.Fprintf(w, "Intervals are Clopper–Pearson's, 95 %%. Each of the %d perturbations was checked: the largest has size %.6g.\n", r.N, r.LargestNorm)
}

// warn prints the warnings.
func (r *Evaluation) warn(c Console) {
	for _, w := range r.Warnings {
		c.say("warning: %s: %s; %s", w.Name, w.Text, w.Remedy)
	}
}

// printRadii is the table of several radii.
func printRadii(w io.Writer, evals []*EvalSettings, all []*Evaluation) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "eps\tclean\trobust\tunder\n")
	for i, r := range all {
		fmt.Fprintf(t, "%v\t%v\t%v\t%s\n", evals[i].Threat.Epsilon, r.CleanAccuracy, r.RobustAccuracy, r.Attack)
	}
	t.Flush()
}
