package job

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Flag is a command-line flag that sets one setting. Its environment variable
// is TEMPER_ and its name in capitals.
type Flag struct {
	Name string // without dashes
	Key  string // of the setting: "threat.eps"
	Help string
}

// TrainFlags are the flags of temper train that set a setting. The first two
// choose the recipe and are applied before it.
var TrainFlags = []Flag{
	{"dataset", "data.name", "mnist, cifar10, cifar100, svhn, structured, or npz:FILE"},
	{"recipe", "recipe", "settings to start from (see: temper recipes)"},
	{"model", "model.name", "network"},
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
	{"threads", "threads", "CPU workers; 0 is one a core"},
}

// AttackFlags are the flags of temper eval and temper attack that set a
// setting of the evaluation.
var AttackFlags = []Flag{
	{"attack", "attack.name", "attack"},
	{"eps", "threat.eps", "radius of the perturbations, such as 8/255"},
	{"steps", "attack.steps", "ascent steps"},
	{"step-size", "attack.step_size", "size of an ascent step, such as 2/255"},
	{"restarts", "attack.restarts", "restarts; the worst one counts"},
	{"checkpoint", "checkpoint", "last, best, or step-00001200"},
	{"split", "split", "test, train, or held-out"},
	{"limit", "limit", "attack the first n examples only"},
	{"batch-size", "batch_size", "examples a step"},
	{"seed", "seed", "seed of the attack's random draws"},
	{"data-dir", "data_dir", "folder of the data sets"},
	{"device", "device", "auto, cpu, cuda:0, …"},
	{"threads", "threads", "CPU workers; 0 is one a core"},
}

// Env is the name of the environment variable of a flag.
func Env(flag string) string {
	return "TEMPER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Assignment is one setting made by the user.
type Assignment struct {
	Key, Value string
	// Source is how the user made it, for messages: "--eps", "TEMPER_EPS" or
	// "--set".
	Source string
}

// Environment lists the settings made by environment variables.
func Environment(flags []Flag) []Assignment {
	var out []Assignment
	for _, f := range flags {
		if f.Key == "data.dir" || f.Key == "data_dir" {
			continue // TEMPER_DATA has a say too: see dataDir
		}
		if v := os.Getenv(Env(f.Name)); v != "" {
			out = append(out, Assignment{f.Key, v, Env(f.Name)})
		}
	}
	return out
}

// Assignments lists what the user set: environment variables, then flags, then
// --set. Flags are asked for by name.
func Assignments(flags []Flag, changed func(name string) bool, value func(name string) string, set []string) []Assignment {
	out := Environment(flags)
	for _, f := range flags {
		if changed(f.Name) {
			out = append(out, Assignment{f.Key, value(f.Name), "--" + f.Name})
		}
	}
	for _, s := range set {
		key, v, _ := strings.Cut(s, "=")
		out = append(out, Assignment{key, v, "--set"})
	}
	return out
}

// Latest names the newest run of a folder.
const Latest = "latest"

// DefaultRoot is the folder of run folders if nobody names one.
func DefaultRoot() string { return cmp.Or(os.Getenv(Env("run-dir")), "runs") }

// TrainOptions is a command line of temper train.
type TrainOptions struct {
	Args       []string
	Root       string // folder of run folders
	Resume     string // run to go on with; "" for a new one
	ResumeFrom string // checkpoint to go on from
	User       []Assignment
}

// RunTrain is temper train.
func RunTrain(ctx context.Context, c Console, o TrainOptions) error {
	if o.Resume == "" && o.ResumeFrom == "" {
		if len(o.Args) > 0 {
			return usage("train takes no argument %q without --resume", o.Args[0])
		}
		list, err := Resolve(o.User)
		if err != nil {
			return err
		}
		return Train(ctx, c, list, o.Root)
	}
	name := cmp.Or(o.Resume, Latest)
	if len(o.Args) > 0 {
		name = o.Args[0]
	}
	return Resume(ctx, c, runFolder(o.Root, name), o.ResumeFrom, o.User)
}

// runFolder is the folder of a run that the user named: a path, or a name
// under root.
func runFolder(root, name string) string {
	if _, err := os.Stat(name); err == nil || strings.ContainsRune(name, filepath.Separator) {
		return name
	}
	return filepath.Join(root, name)
}

// UsageError is a command line that makes no sense.
type UsageError struct{ error }

func usage(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }
