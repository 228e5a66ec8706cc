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
	//	fgsm      one step of size ε from x (Goodfellow et al., ICLR 2015)
	//	pgd       projected steps along the steepest direction of the threat
	//	          model's norm (Madry et al., ICLR 2018)
	//	ascent    projected steps along the gradient itself: x + s·∇L (Li and
	//	          Li, arXiv 2410.08503, take one)
	//	mi-fgsm   pgd along a running sum of gradients (Dong et al., CVPR 2018)
	//	ni-fgsm   the same with Nesterov's look-ahead (Lin et al., ICLR 2020)
	//	apgd-ce   Auto-PGD on the cross-entropy (Croce and Hein, ICML 2020; in
	//	          L1: ICML 2021)
	//	apgd-dlr  Auto-PGD on the difference of logits ratio
	//	apgd-t    Auto-PGD on the targeted ratio, towards one class after another
	//	fab       fast adaptive boundary attack (Croce and Hein, ICML 2020)
	//	fab-t     the same, towards one class after another
	//	square    random search over squares; uses no gradients (Andriushchenko
	//	          et al., ECCV 2020)
	//	cw-l2     Carlini and Wagner's L2 attack (S&P 2017)
	//	deepfool  steps to the nearest linearised boundary (Moosavi-Dezfooli et
	//	          al., CVPR 2016)
	//	random-uniform, random-corner
	//	          the worst of many draws from the ball, or from its corners:
	//	          what any attack must beat
	Name string `toml:"name"`

	Steps       int     `toml:"steps"`        // default: fgsm, ascent 1; pgd, mi-fgsm, ni-fgsm 10; square 5000 queries; deepfool 50; cw-l2 1000; else 100
	StepSize    Epsilon `toml:"step_size"`    // default: pgd 2.5·ε/steps, of one step 1.25·ε; mi-fgsm, ni-fgsm ε/steps; ascent 1; cw-l2's rate is 0.01; fgsm's is ε; the others choose their own
	RandomStart bool    `toml:"random_start"` // start from a uniform draw of the ball, else from x
	FreeStart   bool    `toml:"free_start"`   // the random start may leave the domain, as in Wong et al.'s MNIST code; x' may not
	Restarts    int     `toml:"restarts"`     // independent runs, of which each sample keeps the worst; default 1
	Loss        string  `toml:"loss"`         // what it drives up, by name; default ce; the names of apgd say theirs; square's is cw
	Best        bool    `toml:"best"`         // keep each sample's worst iterate, else the last one; only fgsm, pgd, ascent, mi-fgsm and ni-fgsm ask
	Targeted    bool    `toml:"targeted"`     // go towards given labels, not away from the true ones
	Target      string  `toml:"target"`       // chooses the classes of a targeted attack: least-likely or likeliest (at x, but for the label), random, next (label + 1); "": they are given
	Targets     int     `toml:"targets"`      // go towards each of so many classes in turn, the likeliest first; 0: away from the label; default apgd-t, fab-t 9
	Momentum    float64 `toml:"momentum"`     // decay of the running sum of mi-fgsm and ni-fgsm; default 1
	BN          string  `toml:"bn"`           // nn.Mode of batch norm while attacking; default eval
}

// algorithm is what there is to know of an attack's name.
type algorithm struct {
	known Attack // the settings that it is known by
	title string // in the field's notation
	norms []Norm // where it is defined; nil: all
	kind  kind
}

// kind says which settings an attack has.
type kind int

const (
	steps        kind = iota // first-order steps of a given size
	adaptive                 // chooses its own step size; keeps the worst point
	minimal                  // looks for the nearest point that the network gets wrong
	gradientFree             // uses no gradients; keeps the worst point
)

// targetRules choose a class that is not the label.
var targetRules = []string{"least-likely", "likeliest", "random", "next"}

// attacks are the algorithms by their names.
var attacks = named(map[string]algorithm{
	"fgsm":           {Attack{Steps: 1}, "FGSM", nil, steps},
	"pgd":            {Attack{Steps: 10, RandomStart: true}, "PGD", nil, steps},
	"ascent":         {Attack{Steps: 1, StepSize: MustEpsilon("1")}, "Gradient ascent", nil, steps},
	"mi-fgsm":        {Attack{Steps: 10, Momentum: 1}, "MI-FGSM", standard, steps},
	"ni-fgsm":        {Attack{Steps: 10, Momentum: 1}, "NI-FGSM", standard, steps},
	"apgd-ce":        {Attack{Steps: 100, RandomStart: true, Loss: "ce"}, "APGD-CE", standard, adaptive},
	"apgd-dlr":       {Attack{Steps: 100, RandomStart: true, Loss: "dlr"}, "APGD-DLR", standard, adaptive},
	"apgd-t":         {Attack{Steps: 100, RandomStart: true, Loss: "dlr", Targets: 9}, "APGD-T", standard, adaptive},
	"fab":            {Attack{Steps: 100}, "FAB", standard, minimal},
	"fab-t":          {Attack{Steps: 100, Targets: 9}, "FAB-T", standard, minimal},
	"square":         {Attack{Steps: 5000, Loss: "cw"}, "Square", standard, gradientFree},
	"cw-l2":          {Attack{Steps: 1000, StepSize: MustEpsilon("0.01"), Loss: "cw"}, "C&W", []Norm{L2}, minimal},
	"deepfool":       {Attack{Steps: 50}, "DeepFool", []Norm{Linf, L2}, minimal},
	"random-uniform": {Attack{Steps: 100}, "Random", nil, gradientFree},
	"random-corner":  {Attack{Steps: 100}, "Random corners", []Norm{Linf}, gradientFree},
})

// standard are the norms of AutoAttack.
var standard = []Norm{Linf, L2, L1}

func named(m map[string]algorithm) map[string]algorithm {
	for name, a := range m {
		a.known.Name = name
		m[name] = a
	}
	return m
}

// AttackNames lists the attacks.
func AttackNames() []string { return slices.Sorted(maps.Keys(attacks)) }

// LookupAttack is the attack of that name with the settings it is known by.
func LookupAttack(name string) (Attack, error) {
	if a, ok := attacks[name]; ok {
		return a.known, nil
	}
	return Attack{}, unknown("attack", name, AttackNames())
}

// Validate reports the first setting that makes no sense.
func (a Attack) Validate() error {
	known, err := LookupAttack(a.Name)
	if err != nil {
		return err
	}
	if err := checkLoss(cmp.Or(a.Loss, "ce")); err != nil {
		return err
	}
	mode, err := a.mode()
	if err != nil {
		return err
	}
	if a.Target != "" && !slices.Contains(targetRules, a.Target) {
		return unknown("target", a.Target, targetRules)
	}
	a.Targeted = a.Targeted || a.Target != ""
	kind := attacks[a.Name].kind
	restarting := a.RandomStart || kind == gradientFree || a.Name == "fab" || a.Name == "fab-t" // these draw from the second run on
	switch {
	case a.Steps < 0 || a.Restarts < 0 || a.Targets < 0:
		return fmt.Errorf("attack %s: %d steps, %d restarts and %d targets: want at least 1, 1 and 0", a.Name, a.Steps, a.Restarts, a.Targets)
	case a.StepSize.IsSet() && !inRange(a.StepSize):
		return fmt.Errorf("attack %s: step_size is %v: want a positive number of float32", a.Name, a.StepSize)
	case a.StepSize.IsSet() && kind != steps && !known.StepSize.IsSet():
		return fmt.Errorf("attack %s chooses its own steps: leave step_size out", a.Name)
	case a.Name == "fgsm" && (a.Steps > 1 || a.StepSize.IsSet() || a.RandomStart):
		return fmt.Errorf("attack fgsm is one step of size ε from x: for other steps, step_size or random_start use pgd")
	case known.Loss != "" && a.Loss != "" && a.Loss != known.Loss:
		return fmt.Errorf("attack %s has the loss %s, not %s: leave loss out", a.Name, known.Loss, a.Loss)
	case kind == minimal && a.Loss != "" && a.Loss != "ce" && a.Loss != known.Loss:
		return fmt.Errorf("attack %s looks for the nearest boundary and has no loss: leave loss out", a.Name)
	case kind != steps && a.Best:
		return fmt.Errorf("attack %s keeps the worst point anyway: leave best out", a.Name)
	case a.Momentum < 0 || a.Momentum > 0 && known.Momentum == 0:
		return fmt.Errorf("attack %s with momentum %v: it belongs to mi-fgsm and ni-fgsm, and is not negative", a.Name, a.Momentum)
	case a.Targeted && a.Targets > 0:
		return fmt.Errorf("attack %s: targeted goes towards given labels, targets = %d towards classes of its own choice: take one of them", a.Name, a.Targets)
	case known.Targets > 0 && a.Targeted:
		return fmt.Errorf("attack %s chooses its targets: for given ones use %s", a.Name, map[string]string{"apgd-t": "apgd-dlr", "fab-t": "fab"}[a.Name])
	case a.FreeStart && (!a.RandomStart || a.Best || kind != steps):
		return fmt.Errorf("attack %s: free_start is for a random start, and best would keep one that left the domain", a.Name)
	case a.RandomStart && kind != steps && kind != adaptive:
		return fmt.Errorf("attack %s has its own start: leave random_start out", a.Name)
	case a.Restarts > 1 && !restarting:
		return fmt.Errorf("attack %s: %d restarts without random_start would all be the same", a.Name, a.Restarts)
	case mode == nn.BatchUpdate && kind != steps:
		return fmt.Errorf("attack %s: bn = %q belongs to the steps of fgsm, pgd and ascent: want %q or %q", a.Name, mode, nn.Eval, nn.Batch)
	}
	return nil
}

// mode is batch norm's mode during the attack.
func (a Attack) mode() (nn.Mode, error) { return nn.ParseMode(cmp.Or(a.BN, nn.Eval.String())) }

// Resolve fills in the defaults, for a threat model. An invalid attack comes
// back as it is.
func (a Attack) Resolve(t ThreatModel) Attack {
	known, err := LookupAttack(a.Name)
	if err != nil {
		return a
	}
	a.Steps = cmp.Or(a.Steps, known.Steps)
	a.Restarts = cmp.Or(a.Restarts, 1)
	a.Loss = cmp.Or(a.Loss, known.Loss, "ce")
	a.Targets = cmp.Or(a.Targets, known.Targets)
	a.Targeted = a.Targeted || a.Target != ""
	a.Momentum = cmp.Or(a.Momentum, known.Momentum)
	a.BN = cmp.Or(a.BN, nn.Eval.String())
	switch {
	case a.StepSize.IsSet() || a.Name == "fgsm" || attacks[a.Name].kind != steps && !known.StepSize.IsSet():
	case known.StepSize.IsSet():
		a.StepSize = known.StepSize
	case known.Momentum > 0:
		a.StepSize = t.Epsilon.Times(1, int64(a.Steps))
	case a.Steps == 1:
		a.StepSize = t.Epsilon.Times(5, 4)
	default:
		a.StepSize = t.Epsilon.Times(5, 2*int64(a.Steps))
	}
	return a
}

// Alpha is the step size for the step block: the attack's own, its default,
// fgsm's ε, or unset where the attack chooses its own.
func (a Attack) Alpha(t ThreatModel) Epsilon {
	if a.Name == "fgsm" {
		return t.Epsilon
	}
	return a.Resolve(t).StepSize
}

// FallsShort reports whether steps of a given size add up to less than ε: then
// there is much of the ball that the attack never sees.
func (a Attack) FallsShort(t ThreatModel) bool {
	a = a.Resolve(t)
	if attacks[a.Name].kind != steps || a.Name == "fgsm" || a.Name == "ascent" { // whose steps are ε, and in units of the gradient
		return false
	}
	return float64(a.Steps)*a.StepSize.Float64() < t.Epsilon.Float64()*(1-1e-9)
}

// InNorm is the attack without a step size that was made for another norm: a step
// of 2/255 is large in L∞ and nothing in L1. Those of ascent are of no norm.
func (a Attack) InNorm(now, madeFor Norm) Attack {
	if now != madeFor && a.Name != "ascent" {
		a.StepSize = Epsilon{}
	}
	return a
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
	algorithm := attacks[a.Name]
	s := cmp.Or(algorithm.title, a.Name)
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
	if a.Targets > 0 {
		s += fmt.Sprintf(", %d targets", a.Targets)
	}
	if algorithm.kind == steps {
		s += ", loss " + a.Loss
	}
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
	if a.Target != "" {
		s += ": " + a.Target
	}
	if a.BN != nn.Eval.String() {
		s += ", bn " + a.BN
	}
	return s
}

// BlackBox reports whether the attack uses no gradients.
func (a Attack) BlackBox() bool { return attacks[a.Name].kind == gradientFree }
