package job

import (
	"errors"
	"fmt"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
)

// EvalSettings decide an evaluation of a trained network. They start from those
// of the run.
type EvalSettings struct {
	Checkpoint string                  `toml:"checkpoint"` // last, best, or a name; by default the one that counts
	Split      string                  `toml:"split"`      // test, train, or held-out
	Limit      int                     `toml:"limit"`      // only the first n examples; 0: all
	BatchSize  int                     `toml:"batch_size"`
	Seed       uint32                  `toml:"seed"`
	DataDir    string                  `toml:"data_dir"`
	Device     string                  `toml:"device"`
	Threads    int                     `toml:"threads"`
	Threat     adversarial.ThreatModel `toml:"threat"`
	Attack     adversarial.Attack      `toml:"attack"`
}

const (
	lastCheckpoint = "last"
	heldOut        = "held-out"
)

// evalSettings makes the settings of an evaluation of a run: the run's own,
// then the user's assignments.
func evalSettings(s *Settings, user []Assignment) (*EvalSettings, error) {
	e := &EvalSettings{
		Checkpoint: s.counts(), Split: string(datasets.Test), BatchSize: s.Eval.BatchSize, Seed: s.Seed,
		DataDir: s.Data.Dir, Device: s.Device, Threads: s.Threads, Threat: s.Threat, Attack: s.Eval.Attack,
	}
	for _, a := range user {
		if a.Key == "attack.name" {
			if err := setAttack(&e.Attack, a.Value); err != nil {
				return nil, fmt.Errorf("%s: %w", a.Source, err)
			}
		}
	}
	if err := applyAll(e, user); err != nil {
		return nil, err
	}
	e.Attack = e.Attack.Resolve(e.Threat)
	switch {
	case e.Limit < 0 || e.BatchSize < 1 || e.Threads < 0:
		return nil, fmt.Errorf("limit %d, batch size %d, threads %d: want at least 0, 1 and 0", e.Limit, e.BatchSize, e.Threads)
	case e.Attack.Targeted:
		return nil, errors.New("attack.targeted needs target labels, which no data set has")
	}
	if err := e.Threat.Validate(); err != nil {
		return nil, err
	}
	return e, e.Attack.Validate()
}

// applyAll makes the user's assignments on settings.
func applyAll(settings any, user []Assignment) error {
	for _, a := range user {
		if a.Key == "" {
			return usage("%s %s: want key=value", a.Source, a.Value)
		}
		err := run.ApplySet(settings, a.Key+"="+a.Value)
		if reason := errors.Unwrap(err); reason != nil && a.Source != setFlag {
			return fmt.Errorf("%s %s: %w", a.Source, a.Value, reason) // its key need not be known
		}
		if err != nil {
			return fmt.Errorf("%s %w", a.Source, err)
		}
	}
	return nil
}

// examples opens the split to evaluate.
func (e *EvalSettings) examples(s *Settings) (datasets.Source, error) {
	switch e.Split {
	case string(datasets.Test):
		return s.open(datasets.Test)
	case string(datasets.Train):
		rest, _, err := s.trainingSet()
		return rest, err
	case heldOut:
		_, held, err := s.trainingSet()
		if err == nil && held == nil {
			err = errors.New("this run held no examples out")
		}
		return held, err
	}
	return nil, fmt.Errorf("unknown split %q%s: want test, train or held-out", e.Split, run.DidYouMean(e.Split, []string{"test", "train", heldOut}))
}

// load loads the checkpoint that the settings name.
func (e *EvalSettings) load(dir string) (*run.Checkpoint, error) {
	if e.Checkpoint == lastCheckpoint {
		return run.LatestCheckpoint(dir)
	}
	return run.LoadCheckpoint(dir, e.Checkpoint)
}
