package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"temper/adversarial/run"
)

// DefaultRoot is the folder of run folders if nobody names one.
const DefaultRoot = "runs"

// Latest names the newest run of a folder.
const Latest = "latest"

// UsageError is a command line that makes no sense.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *UsageError) Unwrap() error { return e.Err }

func usage(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// wrong makes wrong usage of an error of the settings that a user gave, unless it
// is a file that is wrong.
func wrong(err error) error {
	var file *fs.PathError
	if err == nil || errors.As(err, &file) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &UsageError{err}
}

// UnknownCommand is the error for a command that is not among the known ones.
func UnknownCommand(name string, known []string) error {
	return usage("unknown command %q%s; temper -h lists them", name, run.DidYouMean(name, known))
}

// ExitCode is what the process ends with: 2 for wrong usage, 130 after an
// interrupt, 1 for other errors.
func ExitCode(err error) int {
	var wrong *UsageError
	var stopped *InterruptedError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		return 2
	case errors.As(err, &stopped), errors.Is(err, context.Canceled):
		return 130
	}
	return 1
}

// TrainOptions is a command line of temper train.
type TrainOptions struct {
	Args       []string
	Root       string // folder of run folders
	Resume     string // run to go on with; "" for a new one
	ResumeFrom string // checkpoint to go on from, if not the newest
	DryRun     bool   // stop before the first step, and leave nothing behind
	User       []Assignment
}

// Train is temper train.
func Train(ctx context.Context, c Console, o TrainOptions) error {
	if o.Resume == "" && o.ResumeFrom == "" {
		if len(o.Args) > 0 {
			return usage("train takes no argument %q without --resume", o.Args[0])
		}
		list, err := Resolve(o.User)
		if err != nil {
			return err
		}
		if o.DryRun {
			return tryAll(c, list)
		}
		return trainAll(ctx, c, list, o.Root)
	}
	if o.DryRun {
		return usage("--dry-run is for new runs: leave --resume out")
	}
	name := cmp.Or(o.Resume, Latest)
	if len(o.Args) > 0 {
		name = o.Args[0]
	}
	one, err := resume(ctx, c, RunFolder(o.Root, name), o.ResumeFrom, o.User)
	if err != nil {
		return err
	}
	return summary(c, []Trained{*one})
}

// RunFolder is the folder of a run that the user named: a path, or a name
// under root.
func RunFolder(root, name string) string {
	if _, err := os.Stat(name); err == nil || strings.ContainsRune(name, filepath.Separator) {
		return name
	}
	return filepath.Join(root, name)
}

// openRun finds a run to read, and its settings.
func openRun(root, name string) (dir string, s *Settings, err error) {
	r, err := run.Open(RunFolder(root, name))
	if err != nil {
		return "", nil, err
	}
	if folder, err := run.OpenFolder(r.Dir); err == nil {
		defer folder.Close()
		if found, err := folder.Findings(); err == nil && found.Lead != "" {
			return "", nil, fmt.Errorf("%s is a run of temper features, which keeps no networks: name one of temper train", r.Dir)
		}
	}
	settings := Defaults()
	return r.Dir, &settings, run.ReadConfig(r.Dir, &settings)
}
