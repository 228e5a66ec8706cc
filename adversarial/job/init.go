package job

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"temper/adversarial/run"
)

// Init says which weights training starts from.
type Init struct {
	File string `toml:"file,omitempty"` // safetensors under PyTorch's names; "": they are drawn from the seed
	// SHA256 is the file's. Nobody needs to give it; who does has it checked.
	SHA256 string `toml:"sha256,omitempty"`
}

// complete makes the file's path independent of the working directory, and notes
// what is in it: a run does not go on from another file of the same name.
func (i *Init) complete() error {
	if i.File == "" {
		if i.SHA256 != "" {
			return usage("init.sha256 is given, and no file: name it with --init")
		}
		return nil
	}
	file, sum, err := held("--init ", i.File, "init.sha256", i.SHA256)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w; temper export writes one", err)
	case err != nil:
		return err
	}
	i.File, i.SHA256 = file, sum
	return nil
}

// initialize gives the network the weights that training starts from: drawn, or
// a file's. The file must be one for this network, and one that temper exported
// must have been trained behind the same normalisation, which no weight shows.
func (t *trainer) initialize() error {
	if err := t.session.initialize(); err != nil {
		return err
	}
	init := t.settings.Init
	if init.File == "" {
		return nil
	}
	if err := init.complete(); err != nil { // a run that was killed before its first checkpoint begins again
		return err
	}
	file, err := run.ReadSafetensorsFile(init.File)
	if err != nil {
		return fmt.Errorf("--init: %w", err)
	}
	f, err := fit(t.model, file)
	if err != nil {
		return fmt.Errorf("--init %s: %w", init.File, err)
	}
	if text := file.Metadata[metaConfig]; text != "" {
		theirs, ours := Defaults(), t.settings.Model
		if err := run.ParseConfig("the file's "+metaConfig, []byte(text), &theirs); err != nil {
			return fmt.Errorf("--init %s: %w", init.File, err)
		}
		if m := theirs.Model; !slices.Equal(m.Mean, ours.Mean) || !slices.Equal(m.Std, ours.Std) {
			return fmt.Errorf("--init %s: its network has the normalisation %s, this one %s: add --set model.normalize=%s", init.File, m.Normalize, ours.Normalize, m.Normalize)
		}
	}
	for _, tensor := range f.tensors {
		if err := loadTensor(t.state, tensor); err != nil {
			return err
		}
	}
	return nil
}
