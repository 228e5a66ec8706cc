package features

import (
	"fmt"
	"math"

	"temper/adversarial"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
	"temper/nn"
)

// Settings decide an experiment on structured data. The defaults are the
// reference run S of docs/paper.md.
type Settings struct {
	Seeds int    `toml:"seeds" json:"seeds"` // how many
	Seed  uint32 `toml:"seed" json:"seed"`   // the first one

	// The data; see [datasets.Structured]. D and P that nobody gives follow: d is 16
	// or, if that is too small, 2k; p is r + n.
	K        int     `toml:"k" json:"k"`
	D        int     `toml:"d" json:"d"`
	P        int     `toml:"p" json:"p"`
	R        int     `toml:"r" json:"r"`
	N        int     `toml:"n" json:"n"`
	Alpha    float64 `toml:"alpha" json:"alpha"`
	Beta     float64 `toml:"beta" json:"beta"`
	Jitter   float64 `toml:"jitter" json:"jitter"`
	NoiseStd float64 `toml:"noise_std" json:"noise_std"`
	TrainN   int     `toml:"train_n" json:"train_n"`
	TestN    int     `toml:"test_n" json:"test_n"`

	// The network; see [nn.SmoothedReLU].
	Q     float64 `toml:"q" json:"q"`
	Rho   float64 `toml:"rho" json:"rho"`
	M     int     `toml:"m" json:"m"`         // filters per class
	Sigma float64 `toml:"sigma" json:"sigma"` // standard deviation of the initial filters

	// The training.
	LR    float64 `toml:"lr" json:"lr"`
	Steps int     `toml:"steps" json:"steps"`
	Batch int     `toml:"batch" json:"batch"` // default: all training examples
	Every int     `toml:"every" json:"every"` // steps from measurement to measurement
	// Precision of products, as [graph.Precision] has them; or, to see what
	// rounding does, float64: the same graphs with every float32 operation in
	// float64, much slower.
	Precision string `toml:"precision" json:"precision"`

	// The adversary.
	Norm        string              `toml:"norm" json:"norm"`
	Eps         adversarial.Epsilon `toml:"eps" json:"eps"`
	Attack      string              `toml:"attack" json:"attack"` // ascent, fgsm or pgd
	AttackSteps int                 `toml:"attack_steps" json:"attack_steps"`
	StepSize    adversarial.Epsilon `toml:"step_size" json:"step_size"`
	AttackLoss  string              `toml:"attack_loss" json:"attack_loss"` // lse-margin or ce
}

// float64Everywhere is the precision that only structured data have.
const float64Everywhere = "float64"

// compileOptions are the engine's.
func (s Settings) compileOptions() (engine.Options, error) {
	if s.Precision == float64Everywhere {
		return engine.Options{}, nil
	}
	o, err := compileOptions(s.Precision)
	if err != nil {
		err = fmt.Errorf("%w, or %s", err, float64Everywhere)
	}
	return o, err
}

// compileOptions are the engine's for a precision by its name.
func compileOptions(precision string) (engine.Options, error) {
	p, err := graph.ParsePrecision(precision)
	return engine.Options{Precision: p}, err
}

// Defaults are the settings of run S.
func Defaults() Settings {
	d := datasets.DefaultStructured()
	return Settings{
		Seeds: 5,
		K:     d.K, R: d.R, N: d.N, Alpha: d.Alpha, Beta: d.Beta, Jitter: d.Jitter,
		NoiseStd: d.NoiseStd, TrainN: d.TrainN, TestN: d.TestN,
		Q: 3, Rho: 0.5, M: 16, Sigma: 0.05,
		LR: 0.1, Steps: 300, Every: 25, Precision: graph.PrecisionFloat32.String(),
		Norm: string(adversarial.PatchL2), Eps: adversarial.MustEpsilon("0.6"),
		Attack: "ascent", AttackSteps: 1, StepSize: adversarial.MustEpsilon("2"), AttackLoss: "lse-margin",
	}
}

// Resolve fills in d and p, and reports the first setting that makes no sense.
func (s Settings) Resolve() (Settings, error) {
	if s.D == 0 {
		s.D = max(16, 2*s.K)
	}
	if s.P == 0 {
		s.P = s.R + s.N
	}
	if s.Batch == 0 {
		s.Batch = s.TrainN
	}
	s.Batch = min(s.Batch, s.TrainN)
	return s, s.validate()
}

// What is refused, so that no setting ends as a lack of memory or outside
// float32.
const (
	maxSeeds       = 1000
	maxActivations = 1 << 28 // of a layer, on all examples at once
	maxReach       = 1e6     // of ε and the attack's step; the least is its inverse
)

func checkSeeds(first uint32, n int) error {
	switch {
	case n < 1:
		return fmt.Errorf("seeds = %d: want at least 1", n)
	case n > maxSeeds:
		return fmt.Errorf("seeds = %d: at most %d are possible", n, maxSeeds)
	case uint64(first)+uint64(n) > 1<<32:
		return fmt.Errorf("seed = %d, seeds = %d: the last seed would be beyond %d", first, n, uint32(math.MaxUint32))
	}
	return nil
}

func (s Settings) validate() error {
	positive := func(x float64) bool { return x > 0 && !math.IsInf(x, 1) }
	reachable := func(e adversarial.Epsilon) bool { return e.Float64() >= 1/maxReach && e.Float64() <= maxReach }
	if err := checkSeeds(s.Seed, s.Seeds); err != nil {
		return err
	}
	switch {
	case s.D < 2*s.K:
		return fmt.Errorf("d = %d < 2k = %d: the 2k features cannot be orthonormal; give a larger d, or none", s.D, 2*s.K)
	case s.R+s.N != s.P:
		return fmt.Errorf("r + n = %d + %d is not p = %d: every patch carries one feature; change one of them, or give no p", s.R, s.N, s.P)
	case s.R < 1 || s.N < 1:
		return fmt.Errorf("r = %d, n = %d: want at least one patch of each kind, or there is nothing to compare", s.R, s.N)
	case !(s.Q >= 2) || math.IsInf(s.Q, 1):
		return fmt.Errorf("q = %v: the smoothed ReLU wants q ≥ 2", s.Q)
	case !positive(s.Rho):
		return fmt.Errorf("rho = %v: want rho > 0", s.Rho)
	case s.M < 1:
		return fmt.Errorf("m = %d filters per class: want at least 1", s.M)
	case !positive(s.Sigma):
		return fmt.Errorf("sigma = %v: want sigma > 0", s.Sigma)
	case !positive(s.LR):
		return fmt.Errorf("lr = %v: want lr > 0", s.LR)
	case s.Steps < 1 || s.Every < 1:
		return fmt.Errorf("steps = %d, every = %d: want at least 1 of each", s.Steps, s.Every)
	case s.Batch < 1 || s.AttackSteps < 1:
		return fmt.Errorf("batch = %d, attack_steps = %d: want at least 1 of each, or no batch for all examples", s.Batch, s.AttackSteps)
	case s.Eps.Float64() <= 0:
		return fmt.Errorf("eps = %v: want eps > 0", s.Eps)
	case !reachable(s.Eps):
		return fmt.Errorf("eps = %v: want %v to %v", s.Eps, 1/maxReach, maxReach)
	case s.StepSize.IsSet() && !reachable(s.StepSize):
		return fmt.Errorf("step_size = %v: want %v to %v", s.StepSize, 1/maxReach, maxReach)
	}
	if _, err := s.compileOptions(); err != nil {
		return err
	}
	if err := s.data().Validate(); err != nil {
		return err
	}
	if n := max(s.TrainN, s.TestN); s.M > maxActivations/s.K/s.P/n {
		return fmt.Errorf("m = %d: %d examples of %d patches and %d filters exceed %d activations; lower m, or the others",
			s.M, n, s.P, s.M*s.K, maxActivations)
	}
	if err := s.threat().Validate(); err != nil {
		return err
	}
	return s.attack().Validate()
}

func (s Settings) data() datasets.Structured {
	return datasets.Structured{K: s.K, D: s.D, P: s.P, R: s.R, N: s.N, Alpha: s.Alpha, Beta: s.Beta,
		Jitter: s.Jitter, NoiseStd: s.NoiseStd, TrainN: s.TrainN, TestN: s.TestN}
}

func (s Settings) threat() adversarial.ThreatModel {
	return adversarial.ThreatModel{Norm: adversarial.Norm(s.Norm), Epsilon: s.Eps, Domain: adversarial.Unbounded}
}

func (s Settings) attack() adversarial.Attack {
	a := adversarial.Attack{Name: s.Attack, Steps: s.AttackSteps, StepSize: s.StepSize, Loss: s.AttackLoss}
	if a.Name == "fgsm" { // its step is ε
		a.StepSize = adversarial.Epsilon{}
	}
	return a
}

func (s Settings) model() (*nn.Model, error) {
	return nn.Lookup("patchcnn", nn.Config{Input: graph.Shape{s.D, 1, s.P}, Classes: s.K,
		Filters: s.M, Q: s.Q, Rho: s.Rho, Sigma: s.Sigma})
}

// ratio is that of the race between the two kinds of features, Nβ^q/(Rα^q):
// above 1 the non-robust ones grow faster.
func (s Settings) ratio() float64 {
	return float64(s.N) * math.Pow(s.Beta, s.Q) / (float64(s.R) * math.Pow(s.Alpha, s.Q))
}

// describe names the experiment in a line.
func (s Settings) describe() string {
	name := "structured data"
	if s.isRunS() {
		name += ", run S"
	}
	return fmt.Sprintf("%s: k %d, d %d, P %d (R %d, N %d), α %v, β %v, ε %v; race Nβ^q/Rα^q = %.3g, ε/β = %.3g",
		name, s.K, s.D, s.P, s.R, s.N, s.Alpha, s.Beta, s.Eps, s.ratio(), s.Eps.Float64()/s.Beta)
}

// isRunS is whether everything but seeds and precision is as in run S: only
// then do its bands apply.
func (s Settings) isRunS() bool {
	d, _ := Defaults().Resolve()
	d.Seeds, d.Seed, d.Every, d.Precision = s.Seeds, s.Seed, s.Every, s.Precision
	return s == d
}
