package job

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
)

// ImportFlags are the flags of temper import that set a setting.
var ImportFlags = []Flag{
	{"dataset", "data.name", "mnist, cifar10, cifar100, svhn, or npz:FILE: what the network is for"},
	{"model", "model.name", "network"},
	{"normalize", "model.normalize", "in front of it: none, dataset, or given (with --set model.mean and model.std)"},
	{"eps", "threat.eps", "radius of the perturbations that evaluations start from, such as 8/255"},
	{"data-dir", "data.dir", "folder of the data sets"},
}

// importFlag is the flag that sets the setting of that key.
func importFlag(key string) string {
	i := slices.IndexFunc(ImportFlags, func(f Flag) bool { return f.Key == key })
	return "--" + ImportFlags[i].Name
}

// metaImported is the metadata key of an imported checkpoint: where it is from.
const metaImported = "imported"

// imported is the recipe of settings that no recipe made.
const imported = "imported"

// ImportOptions is a command line of temper import.
type ImportOptions struct {
	File string
	Out  string // the run folder to make
	User []Assignment
}

// importedRun is the result of temper import.
type importedRun struct {
	Run        string         `json:"run"`
	File       string         `json:"file"`
	SHA256     string         `json:"sha256"` // of the file
	Model      string         `json:"model"`
	Dataset    string         `json:"dataset"`
	Normalize  string         `json:"normalize"`
	Mean       []float64      `json:"mean"`
	Std        []float64      `json:"std"`
	Parameters int            `json:"parameters"`
	Wrapper    string         `json:"wrapper"`   // taken off the tensors' names
	Converted  map[string]int `json:"converted"` // to F32: tensors by the type that they had
	Counters   int            `json:"counters"`  // num_batches_tracked that were set to 0
}

// Import is temper import.
func Import(c Console, o ImportOptions) error {
	if o.Out == "" {
		return usage("import needs --out RUN, the run folder to make")
	}
	file, err := run.ReadSafetensorsFile(o.File)
	if err != nil {
		return err
	}
	s, err := importSettings(file.Metadata, o.User)
	if err != nil {
		return wrong(err)
	}
	in, err := datasets.Describe(s.Data.Name, s.Data.Dir, datasets.Test, s.options())
	if err != nil {
		return err
	}
	m, err := s.model(in)
	if err != nil {
		return err
	}
	f, err := fit(m, file)
	if err != nil {
		return fmt.Errorf("%s: %w", o.File, err)
	}
	sum, err := fileSHA256(o.File)
	if err != nil {
		return err
	}
	step, _ := strconv.ParseInt(file.Metadata[metaStepOf], 10, 64) // 0 where others wrote the file
	ck := &run.Checkpoint{Step: max(step, 0), Tensors: f.tensors, Meta: map[string]string{metaImported: filepath.Base(o.File) + " " + sum}}
	if err := s.keepImported(o.Out, ck); err != nil {
		return err
	}
	r := importedRun{o.Out, o.File, sum, m.Name, s.Data.Name, s.Model.Normalize, s.Model.Mean, s.Model.Std, m.Parameters(), f.wrapper, f.converted, f.counters}
	return c.result(r, r.print)
}

// importSettings are those that the file carries, if temper exported it, else
// the data set's threat model and evaluation; the user's are over them.
func importSettings(meta map[string]string, user []Assignment) (*Settings, error) {
	s := Defaults()
	if text := meta[metaConfig]; text != "" {
		if err := run.ParseConfig("the file's "+metaConfig, []byte(text), &s); err != nil {
			return nil, err
		}
		s.Init, s.Data.SHA256 = Init{}, ""
		s.Checkpoint.Choice, s.Training.Average = lastCheckpoint, adversarial.Average{Name: "none"} // there are one checkpoint and one set of weights
	} else {
		s.Recipe = imported
		for _, key := range []string{"data.name", "model.name", "model.normalize"} {
			i := slices.IndexFunc(user, func(a Assignment) bool { return a.Key == key })
			if i < 0 {
				return nil, usage("import needs %s: the file does not say, as one by temper export does", importFlag(key))
			}
			if key == "data.name" {
				likeDataset, err := Resolve(user[i : i+1])
				if err != nil {
					return nil, err
				}
				s.Data, s.Threat, s.Eval = likeDataset[0].Data, likeDataset[0].Threat, likeDataset[0].Eval
			}
		}
		if err := s.named("standard", "", ""); err != nil {
			return nil, err
		}
	}
	for _, a := range user {
		if m := s.Model; a.Key == "model.name" && a.Value != m.Name { // the sizes are another model's
			s.Model = Model{Normalize: m.Normalize, Mean: m.Mean, Std: m.Std}
		}
	}
	if err := applyAll(&s, user); err != nil {
		return nil, err
	}
	if err := s.complete(); err != nil {
		return nil, err
	}
	return &s, s.validate()
}

// keepImported makes the run folder.
func (s *Settings) keepImported(dir string, ck *run.Checkpoint) error {
	r, err := run.Create(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := run.SaveCheckpoint(dir, ck, 0); err != nil {
		return err
	}
	if err := run.AddEnvironment(dir, run.CurrentEnvironment("")); err != nil {
		return err
	}
	return run.WriteConfig(dir, s) // last: a folder without it is no run
}

func (r importedRun) print(w io.Writer) {
	fmt.Fprintf(w, "%s: %s for %s, %d parameters\n", r.Run, r.Model, r.Dataset, r.Parameters)
	normalize := r.Normalize
	if len(r.Mean) > 0 {
		normalize += fmt.Sprintf(": (x − %v) / %v", r.Mean, r.Std)
	}
	fmt.Fprintf(w, "normalisation    %s\n", normalize)
	for _, t := range slices.Sorted(maps.Keys(r.Converted)) {
		fmt.Fprintf(w, "converted        %d tensors from %s to f32\n", r.Converted[t], strings.ToLower(t))
	}
	if r.Wrapper != "" {
		fmt.Fprintf(w, "names            without %q before each\n", r.Wrapper)
	}
	if r.Counters > 0 {
		fmt.Fprintf(w, "counters         %d num_batches_tracked were not there: 0\n", r.Counters)
	}
	fmt.Fprintf(w, "To see that it does what it should:  temper eval %s\n", r.Run)
}

// held is the absolute path of a file that stands behind a flag, and its SHA-256, to
// which a setting holds it unless want is "".
func held(flag, path, setting, want string) (abs, sum string, err error) {
	sum, err = fileSHA256(path)
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		err = failed.Err // the path is said
	}
	switch {
	case err != nil:
		return "", "", fmt.Errorf("%s%s: %w", flag, path, err)
	case want != "" && want != sum:
		return "", "", fmt.Errorf("%s%s has the SHA-256 %s, not %s, %s: it has changed, or is another file", flag, path, sum, setting, want)
	}
	abs, err = filepath.Abs(path)
	return abs, sum, err
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
