package job

import "strings"

// Flag is a command-line flag that sets one setting. Its environment variable
// is TEMPER_ and its name in capitals.
type Flag struct {
	Name string // without dashes
	Key  string // of the setting: "threat.eps"
	Help string
}

// ExactConvHelp is the help of --exact-conv.
const ExactConvHelp = "compute convolutions by their definition: no Winograd, less rounding, slower on the CPU"

var exactConv = Flag{"exact-conv", "exact_conv", ExactConvHelp}

// Switch reports whether the flag may stand without a value, for true.
func (f Flag) Switch() bool { return f == exactConv }

// TrainFlags are the flags of temper train that set a setting. The first two
// choose the recipe and are applied before it.
var TrainFlags = []Flag{
	{"dataset", "data.name", "mnist, cifar10, cifar100, svhn, structured, or npz:FILE"},
	{"recipe", "recipe", "settings to start from (see: temper recipes)"},
	{"model", "model.name", "network"},
	{"init", "init.file", "safetensors file of the weights to start from, as temper export and PyTorch write them"},
	{"method", "training.method", "training method, or several with commas: one run of each"},
	{"attack", "training.attack.name", "attack that training ascends with"},
	{"eps", "threat.eps", "radius of the perturbations, such as 8/255"},
	{"steps", "training.attack.steps", "ascent steps of the attack"},
	{"step-size", "training.attack.step_size", "size of an ascent step, such as 2/255"},
	{"restarts", "training.attack.restarts", "restarts of the attack"},
	{"epochs", "batches.epochs", "passes over the training examples"},
	{"batch-size", "batches.size", "examples a step"},
	{"lr", "optimizer.lr", "learning rate; where the schedule varies it, its peak"},
	{"limit", "data.limit", "train on the first n examples only"},
	{"seed", "seed", "seed of every random draw"},
	{"data-dir", "data.dir", "folder of the data sets"},
	{"device", "device", "auto, cpu, cuda:0, …"},
	{"precision", "precision", "of products and convolutions: float32, tf32x3, tf32 or bf16"},
	exactConv,
	{"threads", "threads", "CPU workers; 0 is one a core"},
}

// EvalFlags are the flags of temper eval and temper attack that set a setting
// of EvalSettings.
var EvalFlags = []Flag{
	{"attack", "attack.name", "attack or suite, or several with commas"},
	{"norm", "threat.norm", "linf, l2, l1 or patch-l2"},
	{"eps", "threat.eps", "radius of the perturbations, such as 8/255, or several with commas"},
	{"steps", "attack.steps", "ascent steps"},
	{"step-size", "attack.step_size", "size of an ascent step, such as 2/255"},
	{"restarts", "attack.restarts", "independent runs, of which the worst counts"},
	{"target", "attack.target", "go towards a class: least-likely, likeliest, random or next"},
	{"target-labels", "target_labels", "file of the classes to go towards, a number a line for each example"},
	{"checkpoint", "checkpoint", "last, best, or one such as step-00001200"},
	{"split", "split", "test, train, held-out, or npz:FILE: images x_adv, x_test or x of a file, and their labels"},
	{"limit", "limit", "only the first n examples"},
	{"batch-size", "batch_size", "examples at once"},
	{"seed", "seed", "seed of the attack's random draws"},
	{"data-dir", "data_dir", "folder of the data sets"},
	{"device", "device", "auto, cpu, cuda:0, …"},
	{"precision", "precision", "of products and convolutions: float32, tf32x3, tf32 or bf16"},
	exactConv,
	{"threads", "threads", "CPU workers; 0 is one a core"},
}

const envPrefix = "TEMPER_"

// Env is the name of the environment variable of a flag.
func Env(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Assignment is one setting made by the user.
type Assignment struct {
	Key, Value string // Key is "" where --set has no "="
	// Source is how the user made it, for messages: "--eps", "TEMPER_EPS",
	// "--set".
	Source string
}

// setFlag is the flag that sets any setting.
const setFlag = "--set"

// Sets reads the values of --set.
func Sets(values []string) []Assignment {
	var out []Assignment
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		if !ok {
			key, value = "", v
		}
		out = append(out, Assignment{strings.TrimSpace(key), value, setFlag})
	}
	return out
}
