package adversarial

import (
	"fmt"
	"maps"
	"slices"
)

// Training is a training method's settings.
type Training struct {
	// Method is the algorithm:
	//
	//	standard  the loss at the inputs; no attack
	//	pgd-at    the loss at x' (Madry et al., ICLR 2018)
	//	fgsm-rs   pgd-at with one step from a random start (Wong et al., ICLR
	//	          2020)
	Method string `toml:"method"`

	Attack         Attack  `toml:"attack"`          // makes x'; standard does without. Its BN is the attack_bn of the literature
	LabelSmoothing float64 `toml:"label_smoothing"` // of the descent's loss, as PyTorch's
	ClipGrad       float64 `toml:"clip_grad"`       // largest ℓ₂ norm of the whole gradient; 0: no limit
	Augment        Augment `toml:"augment"`
}

// methods are the training methods, each with the settings that it is known
// by and its builder.
var methods = map[string]struct {
	known Training
	build func(*step) outcome
}{
	"standard": {Training{Method: "standard"}, standardStep},
	"pgd-at":   {Training{Method: "pgd-at", Attack: attacks["pgd"].known}, adversarialStep},
	"fgsm-rs":  {Training{Method: "fgsm-rs", Attack: Attack{Name: "pgd", Steps: 1, RandomStart: true}}, adversarialStep},
}

// MethodNames lists the training methods.
func MethodNames() []string { return slices.Sorted(maps.Keys(methods)) }

// LookupTraining is the training method of that name with the settings it is
// known by.
func LookupTraining(method string) (Training, error) {
	if m, ok := methods[method]; ok {
		return m.known, nil
	}
	return Training{}, unknown("training method", method, MethodNames())
}

// Validate reports the first setting that makes no sense.
func (t Training) Validate() error {
	known, err := LookupTraining(t.Method)
	if err != nil {
		return err
	}
	switch {
	case t.LabelSmoothing < 0 || t.LabelSmoothing >= 1:
		return fmt.Errorf("label_smoothing %v: want at least 0 and less than 1", t.LabelSmoothing)
	case t.ClipGrad < 0:
		return fmt.Errorf("clip_grad %v: want a positive norm, or 0 for no limit", t.ClipGrad)
	}
	if err := t.Augment.Validate(); err != nil {
		return err
	}
	if known.Attack.Name == "" {
		return nil
	}
	if err := t.Attack.Validate(); err != nil {
		return fmt.Errorf("method %s: %w", t.Method, err)
	}
	switch a := t.Attack; {
	case a.Targeted:
		return fmt.Errorf("method %s: training has no target labels for a targeted attack", t.Method)
	case t.Method == "fgsm-rs" && (a.Name != "pgd" || a.Steps > 1 || !a.RandomStart || a.Restarts > 1):
		return fmt.Errorf("method fgsm-rs is pgd of one step from a random start: for other attacks use pgd-at")
	}
	return nil
}

// Attacks reports whether the method has an attack.
func (t Training) Attacks() bool { return methods[t.Method].known.Attack.Name != "" }

// Resolve fills in the defaults, for a threat model. Invalid settings come
// back as they are; an attack that the method does without is cleared.
func (t Training) Resolve(threat ThreatModel) Training {
	if !t.Attacks() {
		t.Attack = Attack{}
		return t
	}
	if t.Method == "fgsm-rs" {
		t.Attack.Steps = 1
	}
	t.Attack = t.Attack.Resolve(threat)
	return t
}
