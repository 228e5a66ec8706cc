package job

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/pelletier/go-toml/v2"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/passes"
)

// Settings decide a training run. All fields are resolved: a run's config.toml
// holds every one, whoever set it.
type Settings struct {
	Recipe  string `toml:"recipe"`  // where the settings below started from
	Seed    uint32 `toml:"seed"`    // of every random draw
	Device  string `toml:"device"`  // auto, cpu, cuda:0, …
	Threads int    `toml:"threads"` // CPU workers; 0: one a core. No result depends on it
	// Precision of products and convolutions: float32, tf32x3, tf32 or bf16. See
	// [graph.Precision].
	Precision string `toml:"precision"`
	// ExactConv has all convolutions computed by their definition. Without it, the
	// CPU computes those that it can by Winograd's algorithm, at 4 to 11 times the
	// rounding error.
	ExactConv bool `toml:"exact_conv"`

	Data  Data  `toml:"data"`
	Model Model `toml:"model"`
	Init  Init  `toml:"init,omitempty"`
	// Threat is what the adversary may do, in training and, unless somebody
	// says otherwise, in evaluation.
	Threat     adversarial.ThreatModel `toml:"threat"`
	Training   adversarial.Training    `toml:"training"`
	Batches    Batches                 `toml:"batches"`
	Optimizer  Optimizer               `toml:"optimizer"`
	Schedule   Schedule                `toml:"schedule"`
	Eval       Watch                   `toml:"eval"`
	Checkpoint Checkpoint              `toml:"checkpoint"`
	Alarms     Alarms                  `toml:"alarms"`
}

// Data names the examples.
type Data struct {
	Name    string `toml:"name"`     // mnist, cifar10, cifar100, svhn, structured, npz:FILE
	Dir     string `toml:"dir"`      // where the files of published sets lie
	Limit   int    `toml:"limit"`    // only the first n training examples; 0: all
	HeldOut int    `toml:"held_out"` // of these, so many kept from training for the evaluation on the way
	// SHA256 is that of own data's file. Nobody needs to give it; who does has it
	// checked, and so is the file whenever the run comes back to it.
	SHA256     string     `toml:"sha256,omitempty"`
	Structured Structured `toml:"structured"`
}

// Structured are the settings of the paper's patch data; see
// [datasets.Structured].
type Structured struct {
	K        int     `toml:"k"`
	D        int     `toml:"d"`
	P        int     `toml:"p"`
	R        int     `toml:"r"`
	N        int     `toml:"n"`
	Alpha    float64 `toml:"alpha"`
	Beta     float64 `toml:"beta"`
	Jitter   float64 `toml:"jitter"`
	NoiseStd float64 `toml:"noise_std"`
	TrainN   int     `toml:"train_n"`
	TestN    int     `toml:"test_n"`
}

// Model names the network; sizes of 0, when settings are made, are the model's
// own. See [nn.Config].
type Model struct {
	Name       string    `toml:"name"`
	Normalize  string    `toml:"normalize"` // none, dataset (published mean and deviation), or given
	Mean       []float64 `toml:"mean"`
	Std        []float64 `toml:"std"`
	Width      int       `toml:"width"`
	Widen      int       `toml:"widen"`
	Blocks     []int     `toml:"blocks"`
	Hidden     int       `toml:"hidden"`
	Activation string    `toml:"activation"`
	Patch      int       `toml:"patch"`
	Filters    int       `toml:"filters"`
	Q          float64   `toml:"q"`
	Rho        float64   `toml:"rho"`
	Sigma      float64   `toml:"sigma"`
}

// Batches says what a step sees, and how many there are.
type Batches struct {
	Epochs   int  `toml:"epochs"` // passes over the training examples
	Size     int  `toml:"size"`
	Shuffle  bool `toml:"shuffle"`
	DropLast bool `toml:"drop_last"` // leave out an epoch's last batch if it is not full
}

// Optimizer is what turns gradients into weights. See [nn.SGD] and [nn.Adam]. A
// setting that its optimiser does not have stands at its default.
type Optimizer struct {
	Name        string  `toml:"name"`     // sgd, adam: weight decay is part of the gradient, as in PyTorch; sgdw, adamw: it is decoupled
	LR          float64 `toml:"lr"`       // where the schedule varies it, its peak
	Momentum    float64 `toml:"momentum"` // as beta1: where schedule.cycle_momentum is on, the schedule's counts
	Nesterov    bool    `toml:"nesterov"`
	Beta1       float64 `toml:"beta1"`
	Beta2       float64 `toml:"beta2"`
	Eps         float64 `toml:"eps"`
	WeightDecay float64 `toml:"weight_decay"`
	SkipVectors bool    `toml:"skip_vectors"` // no decay of biases and batch norm
}

// Schedule moves the learning rate and, if asked to, the momentum. See
// [nn.ScheduleConfig].
type Schedule struct {
	Name       string    `toml:"name"`
	Min        float64   `toml:"min"`
	Gamma      float64   `toml:"gamma"`
	Every      int       `toml:"every"`
	Milestones []int     `toml:"milestones"`
	Up         float64   `toml:"up"`
	Down       float64   `toml:"down"`
	Warm       float64   `toml:"warm"`
	Div        float64   `toml:"div"`
	FinalDiv   float64   `toml:"final_div"`
	Linear     bool      `toml:"linear"`
	Knots      []float64 `toml:"knots"`
	Factors    []float64 `toml:"factors"`

	CycleMomentum bool    `toml:"cycle_momentum"` // cyclic, one-cycle: from max_momentum down to base_momentum at the peak, and back
	BaseMomentum  float64 `toml:"base_momentum"`  // 0: PyTorch's
	MaxMomentum   float64 `toml:"max_momentum"`
}

// Watch is the evaluation on the way and at the end of training.
type Watch struct {
	Every     int                `toml:"every"` // epochs
	Limit     int                `toml:"limit"` // only the first n examples; 0: all
	BatchSize int                `toml:"batch_size"`
	Attack    adversarial.Attack `toml:"attack"`
}

// Checkpoint says what is kept, and which checkpoint counts: the run's results
// are its, and temper eval takes it if nobody names another.
type Checkpoint struct {
	Every int `toml:"every"` // epochs
	Keep  int `toml:"keep"`  // newest ones; 0: all
	// Choice is last, or best: the first one of the largest robust accuracy on the
	// held-out examples, under eval.attack, among the ends of the epochs that
	// eval.every names. It is kept beside the newest ones.
	Choice string `toml:"choice"`
}

// Defaults are the settings before any recipe.
func Defaults() Settings {
	d := datasets.DefaultStructured()
	return Settings{
		Device: "auto", Precision: graph.PrecisionFloat32.String(),
		Data: Data{Structured: Structured{K: d.K, D: d.D, P: d.P, R: d.R, N: d.N, Alpha: d.Alpha, Beta: d.Beta,
			Jitter: d.Jitter, NoiseStd: d.NoiseStd, TrainN: d.TrainN, TestN: d.TestN}},
		Model:      Model{Normalize: "none"},
		Threat:     adversarial.ThreatModel{Norm: adversarial.Linf, Domain: adversarial.Unit},
		Batches:    Batches{Epochs: 1, Size: 128, Shuffle: true},
		Optimizer:  defaultOptimizer("sgd"),
		Schedule:   Schedule{Name: "constant"},
		Eval:       Watch{Every: 1, Limit: 1000, BatchSize: 200},
		Checkpoint: Checkpoint{Every: 1, Keep: run.DefaultKeep, Choice: lastCheckpoint},
		Alarms:     defaultAlarms(),
	}
}

// compileOptions are the engine's for a precision by its name.
func compileOptions(precision string, exactConv bool) (engine.Options, error) {
	p, err := graph.ParsePrecision(precision)
	if err != nil {
		return engine.Options{}, fmt.Errorf("%w%s", err, run.DidYouMean(precision, graph.Precisions()))
	}
	o := engine.Options{Precision: p}
	if exactConv {
		o.Passes.Off = passes.Inexact()
	}
	return o, nil
}

// precisionLine is what decides rounding, in words.
func precisionLine(precision string, exactConv bool) string {
	if exactConv {
		return precision + ", exact convolutions"
	}
	return precision
}

// weights names the weights that count.
func (s *Settings) weights() string {
	if s.Training.Average.On() {
		return averagedWeights
	}
	return rawWeights
}

// hash names everything that decides a run's bits: all settings but where it
// runs and where its data lie.
func (s Settings) hash() string {
	s.Device, s.Threads, s.Data.Dir, s.Init.File = "", 0, "", ""
	if s.Data.SHA256 != "" {
		s.Data.Name = ownData
	}
	b, err := toml.Marshal(s)
	if err != nil {
		panic("BUG: settings do not marshal: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
