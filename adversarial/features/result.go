package features

import (
	"context"
	"slices"
	"sync"
)

// Result is an experiment on structured data.
type Result struct {
	Settings Settings `json:"settings"`
	Trials   []Trial  `json:"trials"` // standard then adversarial, seeds in order
	// Measured is every figure of the table at the end, by training and name.
	Measured  map[string]map[string]Estimate `json:"measured"`
	Intervals string                         `json:"intervals"` // what they are
	Learned   map[string]Learn               `json:"learned"`
	Claims    []Verdict                      `json:"claims"`
	Predict   []Prediction                   `json:"predictions"`
	Bands     []Landing                      `json:"bands,omitempty"` // for run S only
}

// Run trains both ways for every seed, so many trials at a time (0: one a
// core), and draws the conclusions. The result does not depend on that number.
// It calls progress, from any goroutine but never twice at once, with the
// number of training steps done of all.
func Run(ctx context.Context, s Settings, threads int, progress func(done, total int)) (*Result, error) {
	s, err := s.Resolve()
	if err != nil {
		return nil, err
	}
	tasks := s.tasks()
	trials := make([]Trial, len(tasks))
	err = runAll(ctx, tasks, workers(threads), counter(len(tasks)*s.Steps, progress), func(i int, t *Trial) error {
		trials[i] = *t
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(trials, func(a, b Trial) int {
		return slices.Index(Trainings(), a.Training) - slices.Index(Trainings(), b.Training)
	})
	return conclude(s, trials), nil
}

// counter adds up what it is called with and passes the sum on.
func counter(total int, progress func(done, total int)) func(steps int) {
	var mu sync.Mutex
	sum := 0
	return func(steps int) {
		mu.Lock()
		defer mu.Unlock()
		sum += steps
		progress(sum, total)
	}
}

// conclude judges trials, of which there is one of each training and seed.
func conclude(s Settings, trials []Trial) *Result {
	r := &Result{Settings: s, Trials: trials, Intervals: Intervals, Measured: map[string]map[string]Estimate{}, Learned: map[string]Learn{}}
	for _, training := range Trainings() {
		r.Measured[training] = map[string]Estimate{}
		for _, f := range figures {
			r.Measured[training][f.name] = r.Final(training, f.name)
		}
		r.Learned[training] = r.learned(training)
	}
	r.Claims = r.verdicts()
	r.Predict = r.predictions()
	if s.isRunS() {
		r.Bands = r.landings()
	}
	return r
}

// pair holds the two trainings of one seed.
type pair struct {
	s                     Settings
	standard, adversarial Trial
}

func (p pair) of(training string) Trial {
	if training == Standard {
		return p.standard
	}
	return p.adversarial
}

func (r *Result) pairs() []pair {
	n := len(r.Trials) / 2
	list := make([]pair, n)
	for i := range list {
		list[i] = pair{r.Settings, r.Trials[i], r.Trials[n+i]}
	}
	return list
}

// over estimates a number within limits that each seed gives.
func (r *Result) over(within limits, f func(p pair) float64) Estimate {
	var values []float64
	for _, p := range r.pairs() {
		values = append(values, f(p))
	}
	return estimate(values, within)
}

// Final estimates a figure of a training at its end; see [Reading.Value].
func (r *Result) Final(training, figure string) Estimate {
	i := slices.IndexFunc(figures, func(q quantity) bool { return q.name == figure })
	if i < 0 {
		panic("BUG: features: no figure " + figure)
	}
	return r.over(figures[i].within, func(p pair) float64 { return p.of(training).Last().Value(figure) })
}
