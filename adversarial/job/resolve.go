package job

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/nn"
)

// DefaultDataset is trained on if nobody names another.
const DefaultDataset = "structured"

// Resolve makes the settings of training: defaults, then the recipe that the
// user or the data set asks for, then the user's assignments, the later over
// the earlier. There is one result for each method that training.method lists,
// with the same settings otherwise.
//
// An error is wrong usage, or a file's.
func Resolve(user []Assignment) ([]Settings, error) {
	list, err := resolve(user)
	return list, wrong(err)
}

func resolve(user []Assignment) ([]Settings, error) {
	s := Defaults()
	s.Data.Name = DefaultDataset
	for _, a := range user {
		switch a.Key {
		case "data.name":
			s.Data.Name = a.Value
		case "recipe":
			s.Recipe = a.Value
		}
	}
	r, err := findRecipe(s.Recipe, s.Data.Name)
	if err != nil {
		return nil, err
	}
	return r.resolve(s, user)
}

// resolve is Resolve for the recipe, over settings that name the data set.
func (r Recipe) resolve(s Settings, user []Assignment) ([]Settings, error) {
	s.Recipe = r.Name
	body := recipeBody{Settings: s}
	if err := r.over(&body); err != nil {
		return nil, err
	}
	var list []Settings
	for _, method := range methods(body.Training.Method, user) {
		s := body.Settings
		if err := s.assign(method, user); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// over reads the recipe over body. It reads it twice: what the name of a method,
// an attack or an optimiser stands for comes before what the recipe says of it.
func (r Recipe) over(body *recipeBody) error {
	if err := run.ParseConfig(r.file, r.text, body); err != nil {
		return err
	}
	if err := body.named(body.Training.Method, body.Training.Attack.Name, body.Eval.Attack.Name); err != nil {
		return err
	}
	body.Optimizer = defaultOptimizer(body.Optimizer.Name)
	return run.ParseConfig(r.file, r.text, body)
}

// methods lists the methods asked for, each once: the user's, else the recipe's.
func methods(recipe string, user []Assignment) []string {
	for _, a := range user {
		if a.Key == "training.method" {
			recipe = a.Value
		}
	}
	var list []string
	for name := range strings.SplitSeq(recipe, ",") {
		if name = strings.TrimSpace(name); !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// named sets what a method's name and attacks' names stand for; "" leaves
// things as they are.
func (s *Settings) named(method, attack, evalAttack string) error {
	if method != "" {
		method, _, _ = strings.Cut(method, ",")
		known, err := adversarial.LookupTraining(method)
		if err != nil {
			return didYouMean(err, method, adversarial.MethodNames())
		}
		s.Training.Method, s.Training.Attack = known.Method, known.Attack
	}
	if err := setAttack(&s.Training.Attack, attack); err != nil {
		return err
	}
	return setAttack(&s.Eval.Attack, evalAttack)
}

func setAttack(a *adversarial.Attack, name string) error {
	if name == "" {
		return nil
	}
	known, err := adversarial.LookupAttack(name)
	if err != nil {
		return didYouMean(err, name, adversarial.AttackNames())
	}
	*a = known
	return nil
}

// didYouMean adds the nearest names to an error about an unknown one.
func didYouMean(err error, name string, known []string) error {
	return fmt.Errorf("%w%s", err, run.DidYouMean(name, known))
}

// assign makes the user's assignments for one method, and completes and checks
// the settings.
func (s *Settings) assign(method string, user []Assignment) error {
	attack, evalAttack, optimizer := "", "", ""
	for _, a := range user {
		switch a.Key {
		case "training.attack.name":
			attack = a.Value
		case "eval.attack.name":
			evalAttack = a.Value
		case "optimizer.name":
			optimizer = a.Value
		}
	}
	s.Optimizer.named(optimizer)
	if err := s.named(s.newMethod(method), attack, evalAttack); err != nil {
		return err
	}
	norm := s.Threat.Norm
	if err := applyAll(s, user); err != nil {
		return err
	}
	s.inNorm(norm, user)
	s.Training.Method = method
	if normalize := s.Model.Normalize; normalize != "given" && (gives(user, "model.mean") || gives(user, "model.std")) {
		return fmt.Errorf("model.mean and model.std are for model.normalize = \"given\": it is %q", normalize)
	}
	given := *s
	if err := s.complete(); err != nil {
		return err
	}
	if err := RefuseReplaced(&given, s, user); err != nil {
		return err
	}
	return s.validate()
}

// RefuseReplaced reports the first of the user's numbers that resolving has
// replaced: where 0 stands for a default, who writes it means none, and must not
// get ten. Both are pointers to the settings. What resolving took away, because it
// belongs to another method of those asked for, is no such number.
func RefuseReplaced(given, resolved any, user []Assignment) error {
	for _, a := range user {
		was, ok := run.Setting(given, a.Key)
		is, _ := run.Setting(resolved, a.Key)
		if ok && isNumber(was) && !isNothing(is) && fmt.Sprint(was) != fmt.Sprint(is) {
			return fmt.Errorf("%s: %s cannot be %v: leave it out, and it is %v", a.Source, a.Key, was, is)
		}
	}
	return nil
}

// isNumber reports whether a value is a number or a list.
func isNumber(value any) bool {
	switch reflect.TypeOf(value).Kind() {
	case reflect.Slice, reflect.Int, reflect.Uint32, reflect.Float64:
		return true
	}
	return false
}

// isNothing reports whether a value is 0 or an empty list.
func isNothing(value any) bool {
	v := reflect.ValueOf(value)
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}

// inNorm takes step sizes back to their defaults that were made for another norm,
// and not by the user.
func (s *Settings) inNorm(madeFor adversarial.Norm, user []Assignment) {
	for key, attack := range map[string]*adversarial.Attack{"training.attack": &s.Training.Attack, "eval.attack": &s.Eval.Attack} {
		if !gives(user, key+".step_size") {
			*attack = attack.InNorm(s.Threat.Norm, madeFor)
		}
	}
}

// gives reports whether the user has set a key.
func gives(user []Assignment, key string) bool {
	return slices.ContainsFunc(user, func(a Assignment) bool { return a.Key == key })
}

// newMethod is the method whose attack and settings replace the recipe's; "" if
// the recipe's attack serves this method too.
func (s *Settings) newMethod(method string) string {
	known, err := adversarial.LookupTraining(method)
	if err != nil || method == s.Training.Method {
		return ""
	}
	s.Training.Beta, s.Training.Replays, s.Training.Noise = known.Beta, known.Replays, known.Noise
	if known.Attack.Name == "pgd" && s.Training.Attack.Name != "" {
		return ""
	}
	return method
}

// complete fills in what follows from other settings.
func (s *Settings) complete() error {
	var err error
	if s.Data.Dir, err = dataDir(s.Data.Dir); err != nil {
		return err
	}
	if err := s.Data.complete(); err != nil {
		return err
	}
	if !slices.Contains(nn.Names(), s.Model.Name) {
		return fmt.Errorf("unknown model %q%s: there are %s", s.Model.Name, run.DidYouMean(s.Model.Name, nn.Names()), strings.Join(nn.Names(), ", "))
	}
	if err := s.Model.complete(); err != nil {
		return err
	}
	if err := s.Init.complete(); err != nil {
		return err
	}
	s.Schedule.complete(s.Batches.Epochs)
	s.Training = s.Training.Resolve(s.Threat)
	s.Eval.Attack = s.Eval.Attack.Resolve(s.Threat)
	if s.Model.Normalize == "dataset" {
		n, ok := normalization[s.Data.Name]
		if !ok {
			return fmt.Errorf("model.normalize = \"dataset\": no mean and deviation are published for %s; set model.normalize to none, or to given with model.mean and model.std", s.Data.Name)
		}
		s.Model.Mean, s.Model.Std = n.mean, n.std
	}
	return nil
}

// normalization holds the usual constants of the published sets: mean and
// standard deviation of the training pixels, a channel each, in [0,1].
var normalization = map[string]struct{ mean, std []float64 }{
	"mnist":    {[]float64{0.1307}, []float64{0.3081}},
	"cifar10":  {[]float64{0.4914, 0.4822, 0.4465}, []float64{0.2471, 0.2435, 0.2616}},
	"cifar100": {[]float64{0.5071, 0.4865, 0.4409}, []float64{0.2673, 0.2564, 0.2762}},
	"svhn":     {[]float64{0.4377, 0.4438, 0.4728}, []float64{0.1980, 0.2010, 0.1970}},
}

// validate reports the first setting that cannot be. What depends on the data
// is checked when they are open.
func (s *Settings) validate() error {
	if err := s.Threat.Validate(); err != nil {
		return fmt.Errorf("threat: %w", err)
	}
	if err := s.Training.Validate(); err != nil {
		return fmt.Errorf("training: %w", err)
	}
	if s.Training.Method == "free" && !s.Batches.DropLast {
		return fmt.Errorf("training: method free keeps a perturbation for each place of the batch, so that all batches must be full: set batches.drop_last")
	}
	if err := s.Eval.Attack.Validate(); err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	if _, err := s.Optimizer.build(s.Schedule.CycleMomentum); err != nil {
		return err
	}
	if _, _, err := s.schedule(); err != nil {
		return err
	}
	if _, err := compileOptions(s.Precision, s.ExactConv); err != nil {
		return err
	}
	atLeast := func(key string, value, least int) error {
		if value < least {
			return fmt.Errorf("%s is %d: want at least %d", key, value, least)
		}
		return nil
	}
	for _, err := range []error{
		atLeast("batches.epochs", s.Batches.Epochs, 1),
		atLeast("batches.size", s.Batches.Size, 1),
		atLeast("eval.every", s.Eval.Every, 1),
		atLeast("eval.limit", s.Eval.Limit, 0),
		atLeast("eval.batch_size", s.Eval.BatchSize, 1),
		atLeast("checkpoint.every", s.Checkpoint.Every, 1),
		atLeast("checkpoint.keep", s.Checkpoint.Keep, 0),
		atLeast("data.limit", s.Data.Limit, 0),
		atLeast("data.held_out", s.Data.HeldOut, 0),
		atLeast("threads", s.Threads, 0),
	} {
		if err != nil {
			return err
		}
	}
	if err := s.Alarms.validate(); err != nil {
		return err
	}
	switch choices := []string{lastCheckpoint, run.BestCheckpoint}; {
	case !slices.Contains(choices, s.Checkpoint.Choice):
		return fmt.Errorf("unknown checkpoint.choice %q%s: want last or best", s.Checkpoint.Choice, run.DidYouMean(s.Checkpoint.Choice, choices))
	case s.Checkpoint.Choice == run.BestCheckpoint && s.Data.HeldOut == 0:
		return fmt.Errorf("checkpoint.choice = \"best\" needs held-out examples to choose by: set data.held_out, 1000 for example")
	}
	return nil
}

// findData looks for the data sets where this machine has them, if it lacks the
// folder that a run was made with.
func (s *Settings) findData() {
	if _, err := os.Stat(s.Data.Dir); err != nil {
		if dir, err := dataDir(""); err == nil {
			s.Data.Dir = dir
		}
	}
}

// dataDir is the folder of the data sets: as asked, else TEMPER_DATA, else a
// folder of the user's own.
func dataDir(asked string) (string, error) {
	for _, dir := range []string{asked, os.Getenv("TEMPER_DATA")} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder for data sets: %w; name one with --data-dir", err)
	}
	return filepath.Join(cache, "temper", "data"), nil
}
