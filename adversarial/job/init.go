package job

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

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
	sum, err := fileSHA256(i.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--init %s: %w; temper export writes one", i.File, syscall.ENOENT)
	case err != nil:
		return fmt.Errorf("--init: %w", err)
	case i.SHA256 != "" && i.SHA256 != sum:
		return fmt.Errorf("--init %s has the SHA-256 %s, not %s: it is another file", i.File, sum, i.SHA256)
	}
	i.SHA256 = sum
	i.File, err = filepath.Abs(i.File)
	return err
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
