package features

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Reading is one measurement of a network: the outputs of
// [adversarial.FeatureGraph].
type Reading struct {
	Step    int                  `json:"step"`
	Classes map[string][]float64 `json:"classes"` // k values each
	Values  map[string]float64   `json:"values"`
}

// Value is a figure by its name: a scalar output, or "u", "v" and "v_over_u":
// the means over classes of the largest alignment, and their quotient.
func (r Reading) Value(name string) float64 {
	switch name {
	case "u", "v":
		return mean(r.Classes[name+"_max"])
	case "v_over_u":
		return r.Value("v") / r.Value("u")
	}
	v, ok := r.Values[name]
	if !ok {
		panic(fmt.Sprintf("BUG: features: no figure %q", name))
	}
	return v
}

// Trial is one network's training, measured.
type Trial struct {
	Seed     uint32    `json:"seed"`
	Training string    `json:"training"`
	Readings []Reading `json:"readings"` // at steps 0, 1, every, 2·every, …, steps
}

// Last is the reading at the end.
func (t Trial) Last() Reading { return t.Readings[len(t.Readings)-1] }

// task is one trial to be run.
type task struct {
	settings Settings
	seed     uint32
	training string
}

// tasks are the trials of one experiment, the longest first.
func (s Settings) tasks() []task {
	var list []task
	for _, training := range []string{Adversarial, Standard} {
		for i := range s.Seeds {
			list = append(list, task{s, s.Seed + uint32(i), training})
		}
	}
	return list
}

// runAll runs trials side by side, one thread each, and hands each to found,
// one at a time and in no particular order. The number of workers changes no
// result. A worker keeps its programs as long as the settings stay the same.
func runAll(ctx context.Context, tasks []task, workers int, done func(steps int), found func(i int, t *Trial) error) error {
	queue := make(chan int, len(tasks))
	for i := range tasks {
		queue <- i
	}
	close(queue)
	var one sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for range min(max(workers, 1), len(tasks)) {
		group.Go(func() error {
			var l *lab
			defer func() { l.close() }()
			for i := range queue {
				t := tasks[i]
				if l == nil || l.s != t.settings {
					l.close()
					var err error
					if l, err = newLab(t.settings); err != nil {
						return err
					}
				}
				trial, err := l.run(ctx, t.seed, t.training, done)
				if err != nil {
					return err
				}
				one.Lock()
				err = found(i, trial)
				one.Unlock()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// workers is how many trials run side by side.
func workers(threads int) int {
	if threads > 0 {
		return threads
	}
	return runtime.GOMAXPROCS(0)
}
