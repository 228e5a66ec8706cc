package adversarial

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"temper/nn"
)

// Attack is an attack's settings. Zero fields take their default; Resolve
// makes the defaults visible.
type Attack struct {
	// Name is the algorithm:
	//
	//	fgsm    one step of size ε from x (Goodfellow et al., ICLR 2015)
	//	pgd     projected steps along the steepest direction of the threat
	//	        model's norm (Madry et al., ICLR 2018)
	//	ascent  projected steps along the gradient itself: x + s·∇L (Li and Li,
	//	        arXiv 2410.08503, take one)
	Name string `toml:"name"`

	Steps       int     `toml:"steps"`        // default: pgd 10, else 1
	StepSize    Epsilon `toml:"step_size"`    // default: pgd 2.5·ε/steps, of one step 1.25·ε; ascent 1; fgsm's is ε
	RandomStart bool    `toml:"random_start"` // start from a uniform draw of the ball, else from x
	FreeStart   bool    `toml:"free_start"`   // the random start may leave the domain, as in Wong et al.'s MNIST code; x' may not
	Restarts    int     `toml:"restarts"`     // independent runs, of which each sample keeps the worst; default 1
	Loss        string  `toml:"loss"`         // what it drives up, by name; default ce
	Best        bool    `toml:"best"`         // keep each sample's worst iterate, else the last one
	Targeted    bool    `toml:"targeted"`     // go towards given labels, not away from the true ones
	BN          string  `toml:"bn"`           // nn.Mode of batch norm while attacking; default eval
}

// attacks are the algorithms, each with the settings that it is known by.
var attacks = map[string]Attack{
	"fgsm":   {Name: "fgsm", Steps: 1},
	"pgd":    {Name: "pgd", Steps: 10, RandomStart: true},
	"ascent": {Name: "ascent", Steps: 1, StepSize: MustEpsilon("1")},
}

// AttackNames lists the attacks.
func AttackNames() []string { return slices.Sorted(maps.Keys(attacks)) }

// LookupAttack is the attack of that name with the settings it is known by.
func LookupAttack(name string) (Attack, error) {
	if a, ok := attacks[name]; ok {
		return a, nil
	}
	return Attack{}, unknown("attack", name, AttackNames())
}

// Validate reports the first setting that makes no sense.
func (a Attack) Validate() error {
	if _, err := LookupAttack(a.Name); err != nil {
		return err
	}
	if err := checkLoss(cmp.Or(a.Loss, "ce")); err != nil {
		return err
	}
	if _, err := a.mode(); err != nil {
		return err
	}
	switch {
	case a.Steps < 0 || a.Restarts < 0:
		return fmt.Errorf("attack %s: %d steps and %d restarts: want at least 1 of each", a.Name, a.Steps, a.Restarts)
	case a.StepSize.IsSet() && a.StepSize.Float64() == 0:
		return fmt.Errorf("attack %s: step_size is 0: it would not move", a.Name)
	case a.Name == "fgsm" && (a.Steps > 1 || a.StepSize.IsSet() || a.RandomStart):
		return fmt.Errorf("attack fgsm is one step of size ε from x: for other steps, step_size or random_start use pgd")
	case a.FreeStart && (!a.RandomStart || a.Best):
		return fmt.Errorf("attack %s: free_start is for a random start, and best would keep one that left the domain", a.Name)
	case a.Restarts > 1 && !a.RandomStart:
		return fmt.Errorf("attack %s: %d restarts without random_start would all be the same", a.Name, a.Restarts)
	}
	return nil
}

// mode is batch norm's mode during the attack.
func (a Attack) mode() (nn.Mode, error) { return nn.ParseMode(cmp.Or(a.BN, nn.Eval.String())) }

// Resolve fills in the defaults, for a threat model. An invalid attack comes
// back as it is.
func (a Attack) Resolve(t ThreatModel) Attack {
	known, ok := attacks[a.Name]
	if !ok {
		return a
	}
	a.Steps = cmp.Or(a.Steps, known.Steps)
	a.Restarts = cmp.Or(a.Restarts, 1)
	a.Loss = cmp.Or(a.Loss, "ce")
	a.BN = cmp.Or(a.BN, nn.Eval.String())
	switch {
	case a.StepSize.IsSet() || a.Name == "fgsm":
	case known.StepSize.IsSet():
		a.StepSize = known.StepSize
	case a.Steps == 1:
		a.StepSize = t.Epsilon.Times(5, 4)
	default:
		a.StepSize = t.Epsilon.Times(5, 2*int64(a.Steps))
	}
	return a
}

// Alpha is the step size for the step block: the attack's own, its default, or
// fgsm's ε.
func (a Attack) Alpha(t ThreatModel) Epsilon {
	if a.Name == "fgsm" {
		return t.Epsilon
	}
	return a.Resolve(t).StepSize
}

// Describe is the attack on a threat model in the field's notation:
// "PGD-50-10, L∞ 8/255, step 2/255, loss ce".
func (a Attack) Describe(t ThreatModel) string {
	return a.Resolve(t).describe(", " + t.String())
}

// String is Describe without the threat model, and without defaults that
// depend on one.
func (a Attack) String() string { return a.Resolve(ThreatModel{}).describe("") }

func (a Attack) describe(threat string) string {
	if a.Name == "" {
		return "no attack"
	}
	s := cmp.Or(map[string]string{"fgsm": "FGSM", "pgd": "PGD", "ascent": "Gradient ascent"}[a.Name], a.Name)
	if a.Name != "fgsm" {
		s += fmt.Sprintf("-%d", a.Steps)
		if a.Restarts > 1 {
			s += fmt.Sprintf("-%d", a.Restarts)
		}
	}
	s += threat
	if a.StepSize.IsSet() {
		s += ", step " + a.StepSize.String()
	}
	s += ", loss " + a.Loss
	if a.Name == "pgd" && !a.RandomStart {
		s += ", from x"
	}
	if a.Name == "ascent" && a.RandomStart {
		s += ", random start"
	}
	if a.FreeStart {
		s += ", free start"
	}
	if a.Best {
		s += ", best iterate"
	}
	if a.Targeted {
		s += ", targeted"
	}
	if a.BN != nn.Eval.String() {
		s += ", bn " + a.BN
	}
	return s
}
