package job

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine/graph"
)

// EvalSettings decide an evaluation of a trained network. They start from those
// of the run.
type EvalSettings struct {
	Checkpoint string `toml:"checkpoint"` // last, best, or a name; by default the one that counts
	Weights    string `toml:"weights"`    // average or raw; by default the average, if the run has one
	Split      string `toml:"split"`      // test, train, held-out, or npz:FILE, whose images are then evaluated
	// SplitSHA256 is that of the FILE. Nobody needs to give it; who does has it
	// checked.
	SplitSHA256 string                  `toml:"split_sha256,omitempty"`
	Limit       int                     `toml:"limit"` // only the first n examples; 0: all
	BatchSize   int                     `toml:"batch_size"`
	Seed        uint32                  `toml:"seed"`
	DataDir     string                  `toml:"data_dir"`
	Device      string                  `toml:"device"`
	Threads     int                     `toml:"threads"`
	Precision   string                  `toml:"precision"` // float32, whatever the run's, unless somebody says otherwise; under autoattack-mixed that of the search, by default bf16
	ExactConv   bool                    `toml:"exact_conv"`
	Threat      adversarial.ThreatModel `toml:"threat"`
	Attack      adversarial.Attack      `toml:"attack"` // of several, only their names
	// TargetLabels is a file of the classes that a targeted attack goes towards:
	// a number for each example, one a line.
	TargetLabels string `toml:"target_labels"`
	entries      []entry
}

// entry is an attack, or a suite of attacks, to be reported as one.
type entry struct {
	name    string
	suite   bool
	note    string // what goes with a suite's name wherever it is written
	attacks []adversarial.Attack
}

// upperBound is what is said of every number of autoattack-mixed.
const upperBound = "an upper bound on robust accuracy"

const (
	lastCheckpoint = "last"
	heldOut        = "held-out"
)

// evalSettings makes the settings of an evaluation of a run: the run's own,
// then the user's assignments. There are several where the user gives several
// radii, with commas between them.
func evalSettings(s *Settings, user []Assignment) (list []*EvalSettings, err error) {
	s.findData()
	radii := []string{""}
	var others []Assignment
	source := ""
	for _, a := range user {
		if a.Key == "threat.eps" {
			radii, source = strings.Split(a.Value, ","), a.Source
		} else {
			others = append(others, a)
		}
	}
	for _, eps := range radii {
		each := others
		if source != "" {
			each = append(slices.Clone(others), Assignment{"threat.eps", strings.TrimSpace(eps), source})
		}
		e, err := evalSettingsAt(s, each)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// evalSettingsAt is evalSettings for one radius.
func evalSettingsAt(s *Settings, user []Assignment) (*EvalSettings, error) {
	e := &EvalSettings{
		Checkpoint: s.Checkpoint.Choice, Weights: s.weights(), Split: string(datasets.Test), BatchSize: s.Eval.BatchSize, Seed: s.Seed,
		DataDir: s.Data.Dir, Device: s.Device, Threads: s.Threads, Precision: graph.PrecisionFloat32.String(), ExactConv: s.ExactConv, Threat: s.Threat, Attack: s.Eval.Attack,
	}
	names, source := e.Attack.Name, ""
	var others, ofAttack []Assignment
	for _, a := range user {
		switch {
		case a.Key == "attack.name":
			names, source = a.Value, a.Source
			continue
		case strings.HasPrefix(a.Key, "attack."):
			ofAttack = append(ofAttack, a)
		}
		others = append(others, a)
	}
	if source != "" {
		e.Attack = adversarial.Attack{Name: names}
	}
	if err := applyAll(e, others); err != nil {
		return nil, err
	}
	if !gives(ofAttack, "attack.step_size") {
		e.Attack = e.Attack.InNorm(e.Threat.Norm, s.Threat.Norm)
	}
	if strings.Contains(names, adversarial.MixedSuite) {
		if err := e.mixed(names, others); err != nil {
			return nil, err
		}
	}
	if e.Limit < 0 || e.BatchSize < 1 || e.Threads < 0 {
		return nil, fmt.Errorf("limit %d, batch size %d, threads %d: want at least 0, 1 and 0", e.Limit, e.BatchSize, e.Threads)
	}
	if err := e.complete(); err != nil {
		return nil, err
	}
	if _, err := compileOptions(e.Precision, e.ExactConv); err != nil {
		return nil, err
	}
	if err := e.Threat.Validate(); err != nil {
		return nil, err
	}
	for _, name := range strings.Split(names, ",") {
		entry, err := e.entry(strings.TrimSpace(name), source, ofAttack)
		if err != nil {
			return nil, err
		}
		e.entries = append(e.entries, entry)
	}
	if len(e.entries) == 1 && !e.entries[0].suite {
		e.Attack = e.entries[0].attacks[0]
	}
	return e, nil
}

// mixed settles the precision of a search whose hits float32 confirms.
func (e *EvalSettings) mixed(names string, user []Assignment) error {
	if names != adversarial.MixedSuite {
		return usage("--attack %s: %s is an upper bound on robust accuracy, which stands beside no other number: evaluate it alone", names, adversarial.MixedSuite)
	}
	if !gives(user, "precision") {
		e.Precision = graph.PrecisionBF16.String()
	}
	if e.Precision == graph.PrecisionFloat32.String() {
		return usage("precision float32: %s searches in a reduced one: give --precision bf16, tf32 or tf32x3, or take --attack autoattack", adversarial.MixedSuite)
	}
	return nil
}

// isMixed reports whether a search in reduced precision is confirmed in float32.
func (e *EvalSettings) isMixed() bool { return e.entries[0].name == adversarial.MixedSuite }

// networkPrecision is that in which the network's predictions count.
func (e *EvalSettings) networkPrecision() string {
	if e.isMixed() {
		return graph.PrecisionFloat32.String()
	}
	return e.Precision
}

// entry makes the attack of a name that the user gave in source, or, if that is
// empty, the run's, with the user's settings of it; or a suite.
func (e *EvalSettings) entry(name, source string, user []Assignment) (entry, error) {
	attacks, suite, err := adversarial.LookupSuite(name, e.Threat)
	if err != nil {
		return entry{}, err
	}
	if suite {
		if len(user) > 0 {
			return entry{}, fmt.Errorf("%s %s: %s has its published settings: leave this out, or name its attacks", user[0].Source, user[0].Value, name)
		}
		if e.TargetLabels != "" {
			return entry{}, fmt.Errorf("--target-labels %s: %s is not targeted: leave this out, or name one of its attacks", e.TargetLabels, name)
		}
		if name == adversarial.MixedSuite {
			return entry{name, true, e.Precision + " search, confirmed in float32: " + upperBound, attacks}, nil
		}
		if reference := graph.PrecisionFloat32.String(); e.Precision != reference {
			return entry{}, fmt.Errorf("precision %s: %s is defined in float32; leave --precision out, name its attacks, or take %s", e.Precision, name, adversarial.MixedSuite)
		}
		return entry{name, true, "", attacks}, nil
	}
	one := struct {
		Attack adversarial.Attack `toml:"attack"`
	}{e.Attack}
	if source != "" {
		if one.Attack, err = adversarial.LookupAttack(name); err != nil {
			known := slices.Concat(adversarial.AttackNames(), adversarial.SuiteNames())
			return entry{}, fmt.Errorf("%s: unknown attack %q%s: there are %s", source, name, run.DidYouMean(name, known), strings.Join(known, ", "))
		}
	}
	if err := applyAll(&one, user); err != nil {
		return entry{}, err
	}
	given, a := one, one.Attack.Resolve(e.Threat)
	one.Attack = a
	if err := RefuseReplaced(&given, &one, user); err != nil {
		return entry{}, err
	}
	switch {
	case a.Target != "" && e.TargetLabels != "":
		return entry{}, fmt.Errorf("--target %s and --target-labels %s: take one of them", a.Target, e.TargetLabels)
	case e.TargetLabels != "":
		a.Targeted = true
	case a.Targeted && a.Target == "":
		return entry{}, errors.New("attack.targeted needs targets: choose them with --target, or give them with --target-labels")
	}
	return entry{name, false, "", []adversarial.Attack{a}}, a.Validate()
}

// describe is the attacks in the field's notation.
func (e *EvalSettings) describe() string {
	var all []string
	for _, entry := range e.entries {
		all = append(all, entry.describe(e.Threat))
	}
	return strings.Join(all, "; ")
}

func (e entry) describe(threat adversarial.ThreatModel) string {
	switch {
	case e.suite && e.note != "":
		return fmt.Sprintf("%s (%s), %v", e.name, e.note, threat)
	case e.suite:
		return e.name + ", " + threat.String()
	}
	return e.attacks[0].Describe(threat)
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
	if file, ok := strings.CutPrefix(e.Split, ownData); ok {
		return e.foreign(s, file)
	}
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
	return nil, fmt.Errorf("unknown split %q%s: want test, train, held-out or npz:FILE", e.Split, run.DidYouMean(e.Split, []string{"test", "train", heldOut}))
}

// foreign opens a file of examples like those of the run.
func (e *EvalSettings) foreign(s *Settings, file string) (datasets.Source, error) {
	like, err := datasets.Describe(s.Data.Name, s.Data.Dir, datasets.Test, s.options())
	if err != nil {
		return nil, err
	}
	want := datasets.NPZ{SHA256: e.SplitSHA256, Unit: e.Threat.Domain == adversarial.Unit, Like: &like}
	set, err := datasets.OpenNPZ(file, datasets.Test, want)
	if err != nil {
		return nil, fmt.Errorf("--split %w", err)
	}
	return set, nil
}

// complete notes what is in the file that the split names: an evaluation does not
// go on with another one of the same name.
func (e *EvalSettings) complete() error {
	file, own := strings.CutPrefix(e.Split, ownData)
	if !own && e.SplitSHA256 != "" {
		return usage("split_sha256 is for --split npz:FILE")
	}
	if !own || file == "" || e.SplitSHA256 != "" {
		return nil
	}
	var err error
	if e.SplitSHA256, err = fileSHA256(file); err != nil {
		return fmt.Errorf("--split: %w", err)
	}
	return nil
}

// load loads the checkpoint and of it the weights that the settings name.
func (e *EvalSettings) load(dir string) (ck *run.Checkpoint, err error) {
	if known := []string{averagedWeights, rawWeights}; !slices.Contains(known, e.Weights) {
		return nil, fmt.Errorf("unknown weights %q%s: want average or raw", e.Weights, run.DidYouMean(e.Weights, known))
	}
	if e.Checkpoint == lastCheckpoint {
		ck, err = run.LatestCheckpoint(dir)
	} else {
		ck, err = run.LoadCheckpoint(dir, e.Checkpoint)
	}
	if err == nil {
		ck.Tensors, err = weightsOf(ck.Tensors, e.Weights)
	}
	return ck, err
}
