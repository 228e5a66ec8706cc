package adversarial

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"temper/nn"
)

// Training is a training method's settings.
type Training struct {
	// Method is the algorithm:
	//
	//	standard  the loss at the inputs; no attack
	//	pgd-at    the loss at x' (Madry et al., ICLR 2018)
	//	fgsm-rs   pgd-at with one step from a random start (Wong et al., ICLR
	//	          2020)
	//	n-fgsm    one FGSM step from x plus uniform noise of size noise·ε, not
	//	          projected back to the ball; L∞ (de Jorge et al., NeurIPS 2022)
	//	free      replays steps on each batch, one backward pass each for weights
	//	          and perturbation, which goes on from batch to batch; L∞
	//	          (Shafahi et al., NeurIPS 2019)
	//	trades    the loss at x, plus beta times the divergence of the outputs at
	//	          x' from those at x, which x' maximises, whatever loss the attack
	//	          names (Zhang et al., ICML 2019)
	//	mart      boosted cross-entropy at x', plus beta times that divergence,
	//	          weighted by how unsure the network is at x (Wang et al., ICLR 2020)
	Method string `toml:"method"`

	Beta    float64 `toml:"beta"`    // trades, mart: weight of the divergence; default 6, 5 (mart with a wide network: theirs is 6)
	Replays int     `toml:"replays"` // free: steps on each batch; default 8
	Noise   float64 `toml:"noise"`   // n-fgsm: the noise's size in units of ε; default 2

	// AWP has the weights perturbed against the loss before each step, every
	// weight matrix by this fraction of its norm (Wu, Xia, Wang, NeurIPS 2020;
	// theirs is 0.005 to 0.01); 0: not.
	AWP float64 `toml:"awp"`
	// GradAlign is the weight of 1 − cos(∇ₓL(x), ∇ₓL(x+η)), η uniform in the L∞
	// ball (Andriushchenko and Flammarion, NeurIPS 2020); 0: none.
	GradAlign float64 `toml:"grad_align"`

	Attack         Attack  `toml:"attack"`          // makes x'; standard does without. Its BN is the attack_bn of the literature
	LabelSmoothing float64 `toml:"label_smoothing"` // of the descent's loss, as PyTorch's
	ClipGrad       float64 `toml:"clip_grad"`       // largest ℓ₂ norm of the whole gradient; 0: no limit
	Augment        Augment `toml:"augment"`
	// Mixup is α of the Beta(α,α) that mixes pairs of samples and their labels
	// (Zhang et al., ICLR 2018); 0: none. The attack ascends the mixed loss.
	Mixup float64 `toml:"mixup"`
	// EpsWarmup is the number of epochs over which ε, and with it the size of the
	// attack's steps, rises from 0, step by step in a straight line.
	EpsWarmup float64 `toml:"eps_warmup"`
	Average   Average `toml:"average"`
}

// fromX is the attack of trades and mart: it starts next to x.
var fromX = Attack{Name: "pgd", Steps: 10}

// methods are the training methods, each with the settings that it is known
// by and its builder.
var methods = map[string]struct {
	known Training
	build func(*step) outcome
}{
	"standard": {Training{Method: "standard"}, standardStep},
	"pgd-at":   {Training{Method: "pgd-at", Attack: attacks["pgd"].known}, adversarialStep},
	"fgsm-rs":  {Training{Method: "fgsm-rs", Attack: Attack{Name: "pgd", Steps: 1, RandomStart: true}}, adversarialStep},
	"n-fgsm":   {Training{Method: "n-fgsm", Attack: attacks["fgsm"].known, Noise: 2}, noisyStep},
	"free":     {Training{Method: "free", Attack: attacks["fgsm"].known, Replays: 8}, freeStep},
	"trades":   {Training{Method: "trades", Attack: fromX, Beta: 6}, tradesStep},
	"mart":     {Training{Method: "mart", Attack: fromX, Beta: 5}, martStep},
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
	case t.AWP < 0 || t.AWP >= 1:
		return fmt.Errorf("awp %v: want a fraction of the weights' norm, at least 0 and less than 1", t.AWP)
	case t.GradAlign < 0:
		return fmt.Errorf("grad_align %v: want a positive weight, or 0 for none", t.GradAlign)
	case t.Mixup < 0:
		return fmt.Errorf("mixup %v: want a positive α, or 0 for none", t.Mixup)
	case t.Mixup > 0 && t.Method == "mart":
		return fmt.Errorf("mixup with method mart: its loss is for one label a sample")
	case t.LabelSmoothing > 0 && t.Method == "mart":
		return fmt.Errorf("label_smoothing with method mart: its loss is for one label a sample")
	case t.Mixup > 0 && t.Attack.Targets > 0:
		return fmt.Errorf("mixup with an attack towards targets: a sample has two labels")
	case t.EpsWarmup < 0:
		return fmt.Errorf("eps_warmup %v: want a number of epochs, at least 0", t.EpsWarmup)
	}
	if err := t.onlyOwn(known); err != nil {
		return err
	}
	if err := t.Augment.Validate(); err != nil {
		return err
	}
	if err := t.Average.validate(); err != nil {
		return err
	}
	if known.Attack.Name == "" {
		return nil
	}
	if err := t.Attack.Validate(); err != nil {
		return fmt.Errorf("method %s: %w", t.Method, err)
	}
	switch a := t.Attack; {
	case (t.Method == "n-fgsm" || t.Method == "free") && a.Name != "fgsm":
		return fmt.Errorf("method %s takes steps of fgsm: for attack %s use pgd-at", t.Method, a.Name)
	case a.Targeted:
		return fmt.Errorf("method %s: training has no target labels for a targeted attack", t.Method)
	case t.Method == "fgsm-rs" && (a.Name != "pgd" || a.Steps > 1 || !a.RandomStart || a.Restarts > 1):
		return fmt.Errorf("method fgsm-rs is pgd of one step from a random start: for other attacks use pgd-at")
	}
	return nil
}

// fits reports why the method, or its attack, cannot work under a threat model
// on a model.
func (t Training) fits(threat ThreatModel, m *nn.Model) error {
	if (t.Method == "n-fgsm" || t.Method == "free") && threat.Norm != Linf {
		return fmt.Errorf("method %s is defined for the norm %s, not %s", t.Method, Linf, threat.Norm)
	}
	if err := t.Attack.fits(threat, m); err != nil {
		return fmt.Errorf("method %s: %w", t.Method, err)
	}
	return nil
}

// onlyOwn refuses settings that the method does not have.
func (t Training) onlyOwn(known Training) error {
	for _, s := range []struct {
		name  string
		value float64
		has   bool
	}{
		{"beta", t.Beta, known.Beta > 0},
		{"replays", float64(t.Replays), known.Replays > 0},
		{"noise", t.Noise, known.Noise > 0},
	} {
		switch {
		case s.value < 0:
			return fmt.Errorf("%s %v: want a positive number, or 0 for the default", s.name, s.value)
		case s.value > 0 && !s.has:
			return fmt.Errorf("method %s has no %s", t.Method, s.name)
		}
	}
	return nil
}

// Describe is the method in a line, with the settings of its own.
func (t Training) Describe() string {
	text := t.Method
	for _, s := range []struct {
		name  string
		value float64
	}{{"beta", t.Beta}, {"replays", float64(t.Replays)}, {"noise", t.Noise}, {"awp", t.AWP}, {"grad_align", t.GradAlign}, {"mixup", t.Mixup}, {"eps_warmup", t.EpsWarmup}} {
		if s.value != 0 {
			text += fmt.Sprintf(", %s %v", s.name, s.value)
		}
	}
	return text
}

// DescribeAttack is the attack in the field's notation, with the loss that it
// drives up in training.
func (t Training) DescribeAttack(threat ThreatModel) string {
	a := t.Attack
	if t.Method == "trades" {
		a.Loss = "divergence"
	}
	return a.Describe(threat)
}

// Warmup is the share of ε that the step at p attacks with: that of the step's
// end, so that the first one attacks too.
func (t Training) Warmup(p nn.Progress) float64 {
	if t.EpsWarmup == 0 {
		return 1
	}
	return min(float64(p.Step+1)/float64(p.PerEpoch)/t.EpsWarmup, 1)
}

// Radius is ε and the attack's step size for the step block, before the step at
// p; a warm-up raises both.
func (t Training) Radius(threat ThreatModel, p nn.Progress) (eps, alpha float64) {
	share := t.Warmup(p)
	eps, alpha = share*threat.Epsilon.Float64(), t.Attack.Alpha(threat).Float64()
	if t.Attack.Name != "ascent" { // whose steps are in units of the gradient
		alpha *= share
	}
	return eps, alpha
}

// Attacks reports whether the method has an attack.
func (t Training) Attacks() bool { return methods[t.Method].known.Attack.Name != "" }

// Resolve fills in the defaults, for a threat model. Invalid settings come
// back as they are; an attack that the method does without is cleared, and so
// is its warm-up.
func (t Training) Resolve(threat ThreatModel) Training {
	t.Average = t.Average.resolve()
	if !t.Attacks() {
		t.Attack, t.EpsWarmup = Attack{}, 0
		return t
	}
	known := methods[t.Method].known
	t.Beta, t.Replays, t.Noise = cmp.Or(t.Beta, known.Beta), cmp.Or(t.Replays, known.Replays), cmp.Or(t.Noise, known.Noise)
	if t.Method == "fgsm-rs" {
		t.Attack.Steps = 1
	}
	t.Attack = t.Attack.Resolve(threat)
	return t
}
