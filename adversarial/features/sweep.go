package features

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"temper/adversarial"
)

// Grid is what a sweep varies: the race's ratio Nβ^q/(Rα^q), by the number N of
// non-robust patches, and ε/β, by ε.
type Grid struct {
	Ratio []float64 `toml:"ratio" json:"ratio"`
	Eps   []float64 `toml:"eps" json:"eps"` // of ε/β
}

// DefaultGrid spans both sides of both thresholds.
func DefaultGrid() Grid {
	return Grid{Ratio: []float64{0.3, 0.6, 1.2, 2.3, 4.5, 9}, Eps: []float64{0.4, 0.8, 1.2, 1.6, 2.4}}
}

// maxAxis bounds the values of one axis, maxPatches the N that a ratio needs.
const (
	maxAxis    = 50
	maxPatches = 100000
)

// ParseGrid reads "ratio=0.5:1:4.5,eps=0.8:1.2". An axis without values, or
// none at all, takes those of DefaultGrid.
func ParseGrid(text string) (Grid, error) {
	g := DefaultGrid()
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		name, values, given := strings.Cut(strings.TrimSpace(part), "=")
		axis := map[string]*[]float64{"ratio": &g.Ratio, "eps": &g.Eps}[name]
		if axis == nil || seen[name] {
			return g, fmt.Errorf("sweep %q: write ratio=0.5:1:4.5,eps=0.8:1.2, each axis at most once; eps is of ε/β; to vary another setting, run temper features --set KEY=VALUE for each value, and temper report on all of the runs", text)
		}
		seen[name] = true
		if !given {
			continue
		}
		*axis = nil
		for field := range strings.SplitSeq(values, ":") {
			v, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
			if err != nil || !(v > 0 && v <= 1e6) {
				return g, fmt.Errorf("sweep %s: %q is no positive number", name, field)
			}
			*axis = append(*axis, v)
		}
		slices.Sort(*axis)
		*axis = slices.Compact(*axis)
		if len(*axis) > maxAxis {
			return g, fmt.Errorf("sweep %s: %d values, at most %d are possible", name, len(*axis), maxAxis)
		}
	}
	return g, nil
}

// at is the experiment of one cell. The ratio is met as nearly as a whole N
// allows. Only beginning and end of a training are measured.
func (s Settings) at(ratio, eps float64) (Settings, error) {
	n := math.Round(ratio * float64(s.R) * math.Pow(s.Alpha/s.Beta, s.Q))
	if !(n >= 1 && n <= maxPatches) {
		return s, fmt.Errorf("sweep: ratio %v needs n = %.3g non-robust patches: 1 to %d are possible", ratio, n, maxPatches)
	}
	s.N, s.P = int(n), 0
	s.Every = s.Steps
	e, err := adversarial.ParseEpsilon(strconv.FormatFloat(eps*s.Beta, 'f', 6, 64))
	if err == nil {
		s.Eps = e
		s, err = s.Resolve()
	}
	if err != nil {
		return s, fmt.Errorf("sweep: ratio %v, ε/β %v: %w", ratio, eps, err)
	}
	return s, nil
}

// check reports the first cell that is impossible.
func (g Grid) check(s Settings) error {
	for _, ratio := range g.Ratio {
		for _, eps := range g.Eps {
			if _, err := s.at(ratio, eps); err != nil {
				return err
			}
		}
	}
	return nil
}

// What a cell can show. A network is broken if it fails claim
// standard-not-robust's threshold; adversarial training succeeds if both
// adversarial-strengthens-u and adversarial-robust hold.
const (
	AsStated  = "as stated" // standard training learns v and is broken; adversarial training succeeds
	InPart    = "in part"   // the same, but adversarial training meets one of its two claims only
	NoGain    = "no gain"   // the same, but it meets none
	Unbroken  = "unbroken"  // standard training learns v, and the attack does not break it
	NoContest = "u learned" // standard training learns u, or both
)

// Cell is one experiment of a sweep.
type Cell struct {
	Ratio    float64  `json:"ratio"` // as asked; Settings' N gives the nearest possible
	EpsRatio float64  `json:"eps_over_beta"`
	N        int      `json:"n"`
	Outcome  string   `json:"outcome"`
	Standard Estimate `json:"robust_standard"` // accuracy under the training attack
	Adv      Estimate `json:"robust_adversarial"`
	U        Estimate `json:"u_adversarial"`
	V        Estimate `json:"v_adversarial"`
	Plateau  float64  `json:"plateau"`
}

func cell(ratio, eps float64, r *Result) Cell {
	c := Cell{Ratio: ratio, EpsRatio: eps, N: r.Settings.N, Plateau: r.Settings.plateau(),
		Standard: r.Final(Standard, "robust_trained"), Adv: r.Final(Adversarial, "robust_trained"),
		U: r.Final(Adversarial, "u"), V: r.Final(Adversarial, "v")}
	strengthens, robust := r.holds("adversarial-strengthens-u"), r.holds("adversarial-robust")
	switch {
	case r.Learned[Standard].Feature != "non-robust":
		c.Outcome = NoContest
	case !r.holds("standard-not-robust"):
		c.Outcome = Unbroken
	case strengthens && robust:
		c.Outcome = AsStated
	case strengthens || robust:
		c.Outcome = InPart
	default:
		c.Outcome = NoGain
	}
	return c
}

// Phase is a finished sweep.
type Phase struct {
	Settings  Settings `json:"settings"` // before ratio and ε are set
	Grid      Grid     `json:"grid"`
	Cells     []Cell   `json:"cells"`     // ratio by ratio
	Intervals string   `json:"intervals"` // what the cells' are
}

// swept is one trial of a sweep, as it is kept for a resume.
type swept struct {
	Ratio    float64 `json:"ratio"`
	EpsRatio float64 `json:"eps_over_beta"`
	Trial    Trial   `json:"trial"`
}

// Sweep runs both trainings for every seed and cell, side by side. Trials that
// are known already are not run again; each new one is passed to keep, one at
// a time.
func Sweep(ctx context.Context, s Settings, g Grid, threads int, known []swept, keep func(swept) error, progress func(done, total int)) (*Phase, error) {
	type key struct {
		ratio, eps float64
		training   string
		seed       uint32
	}
	have := map[key]Trial{}
	for _, k := range known {
		have[key{k.Ratio, k.EpsRatio, k.Trial.Training, k.Trial.Seed}] = k.Trial
	}
	var todo []task
	var keys []key
	for _, ratio := range g.Ratio {
		for _, eps := range g.Eps {
			at, err := s.at(ratio, eps)
			if err != nil {
				return nil, err
			}
			for _, t := range at.tasks() {
				k := key{ratio, eps, t.training, t.seed}
				if _, done := have[k]; !done {
					todo, keys = append(todo, t), append(keys, k)
				}
			}
		}
	}
	err := runAll(ctx, todo, workers(threads), counter(len(todo)*s.Steps, progress), func(i int, t *Trial) error {
		have[keys[i]] = *t
		return keep(swept{keys[i].ratio, keys[i].eps, *t})
	})
	if err != nil {
		return nil, err
	}
	phase := &Phase{Settings: s, Grid: g, Intervals: Intervals}
	for _, ratio := range g.Ratio {
		for _, eps := range g.Eps {
			at, _ := s.at(ratio, eps)
			var trials []Trial
			for _, training := range Trainings() {
				for i := range s.Seeds {
					trials = append(trials, have[key{ratio, eps, training, s.Seed + uint32(i)}])
				}
			}
			phase.Cells = append(phase.Cells, cell(ratio, eps, conclude(at, trials)))
		}
	}
	return phase, nil
}

// describe names the sweep in a line.
func (p *Phase) describe() string {
	s := p.Settings
	return fmt.Sprintf("structured data over the race ratio Nβ^q/Rα^q (by N) and ε/β (by ε), %s a cell: k %d, R %d, α %v, β %v, q %v, m %d", seeds(s.Seeds), s.K, s.R, s.Alpha, s.Beta, s.Q, s.M)
}

// WriteText prints the diagram as a table.
func (p *Phase) WriteText(out io.Writer) {
	fmt.Fprintf(out, "%s\n", p.describe())
	fmt.Fprintf(out, "a cell: accuracy under the training attack, standard > adversarial training, means; their intervals are on the page and in %s\n\n", resultFile)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "ratio")
	for _, e := range p.Grid.Eps {
		fmt.Fprintf(w, "\tε/β %v", e)
	}
	fmt.Fprintln(w)
	for i, ratio := range p.Grid.Ratio {
		fmt.Fprint(w, ratio)
		for j := range p.Grid.Eps {
			c := p.Cells[i*len(p.Grid.Eps)+j]
			fmt.Fprintf(w, "\t%s %s > %s", c.Outcome, number(c.Standard.Mean), number(c.Adv.Mean))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Fprintln(out)
	for _, o := range outcomes {
		fmt.Fprintf(out, "%s: %s\n", o.name, o.words)
	}
}
