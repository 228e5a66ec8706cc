package features

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pelletier/go-toml/v2"

	"temper/adversarial/job"
	"temper/adversarial/report"
	"temper/adversarial/run"
	"temper/engine"
)

// Options is a command line of temper features.
type Options struct {
	Root    string // folder of run folders
	Sweep   string // a grid for ParseGrid; "" for one experiment
	Resume  string // folder of a run to go on with
	Threads int    // trials at a time; 0: one a core
	Dataset string // structured, or real images
	DataDir string // of real images
	Device  string // for real images; structured data run on the CPU
	Quick   bool   // real images: a check that all works, no evidence
	User    []job.Assignment
}

// The files of a run folder besides those of package run.
const (
	resultFile = "features.json"
	trialsFile = "trials.jsonl" // of a sweep or of real images, as they come in
	figuresDir = "figures"
)

// kept is config.toml of a run folder of structured data.
type kept struct {
	Grid     *Grid    `toml:"sweep"`
	Settings Settings `toml:"settings"`
}

// Command is temper features.
func Command(ctx context.Context, c job.Console, o Options) error {
	if structured := o.Dataset == "" || o.Dataset == "structured"; structured && o.Resume != "" {
		o.Dataset = o.resumed()
	}
	switch {
	case o.Dataset != "" && o.Dataset != "structured":
		return imagesCommand(ctx, c, o)
	case o.Quick:
		return usage("--quick is for real images: structured data are quick; see --set steps")
	case o.Device != "" && o.Device != "auto" && o.Device != "cpu":
		return usage("--device %s: structured data run on the CPU; leave it out, or name real images with --dataset", o.Device)
	case o.Resume != "":
		return resume(ctx, c, o)
	}
	k := kept{Settings: Defaults()}
	for _, a := range o.User {
		if err := run.ApplySet(&k.Settings, a.Key+"="+a.Value); err != nil {
			return usage("%s: %w", a.Source, err)
		}
	}
	resolved, err := k.Settings.Resolve()
	if err == nil {
		err = job.RefuseReplaced(&k.Settings, &resolved, o.User)
	}
	if err != nil {
		return &job.UsageError{Err: err}
	}
	if o.Sweep == "" {
		k.Settings = resolved
	} else {
		g, err := o.grid(k.Settings)
		if err != nil {
			return &job.UsageError{Err: err}
		}
		k.Grid = &g
	}
	name := "features"
	if k.Grid != nil {
		name += "-sweep"
	}
	place, err := k.place(o) // first: an error leaves no run folder behind
	if err != nil {
		return err
	}
	f, err := newFolder(o.Root, name, k)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.work(ctx, c, o, k, place)
}

// grid is the sweep asked for, if all of its cells are possible.
func (o Options) grid(s Settings) (Grid, error) {
	for _, a := range o.User {
		if slices.Contains([]string{"n", "p", "eps", "every"}, a.Key) {
			return Grid{}, fmt.Errorf("%s: %s=%s: a sweep sets n, p, eps and every itself", a.Source, a.Key, a.Value)
		}
	}
	g, err := ParseGrid(o.Sweep)
	if err != nil {
		return g, err
	}
	return g, g.check(s)
}

func usage(format string, args ...any) error {
	return &job.UsageError{Err: fmt.Errorf(format, args...)}
}

// resume goes on with a sweep.
func resume(ctx context.Context, c job.Console, o Options) error {
	if len(o.User) > 0 || o.Sweep != "" {
		return usage("--resume goes on with the settings of the run: leave out the others")
	}
	f, err := openFolder(o)
	if err != nil {
		return err
	}
	defer f.Close()
	k := kept{Settings: Defaults()}
	if err := run.ReadConfig(f.Dir, &k); err != nil {
		return err
	}
	if k.Grid == nil {
		return fmt.Errorf("%s is no sweep: only a sweep goes on where it stopped; start the experiment again", f.Dir)
	}
	place, err := k.place(o)
	if err != nil {
		return err
	}
	return f.work(ctx, c, o, k, place)
}

// folder is a run folder of an experiment.
type folder struct{ *run.Run }

// openFolder locks the run that a command line goes on with.
func openFolder(o Options) (folder, error) {
	r, err := run.Resume(o.resumeDir())
	return folder{r}, err
}

// resumeDir is the folder that --resume names, which may stand in the folder of runs.
func (o Options) resumeDir() string {
	if _, err := os.Stat(o.Resume); err != nil && filepath.Base(o.Resume) == o.Resume {
		return filepath.Join(o.Root, o.Resume)
	}
	return o.Resume
}

// resumed is the data set of the run that is gone on with, if it is of real images
// and can be read; what is wrong with it is found by who opens it.
func (o Options) resumed() string {
	var k struct{ Dataset string }
	if content, err := os.ReadFile(filepath.Join(o.resumeDir(), run.ConfigFile)); err != nil || toml.Unmarshal(content, &k) != nil {
		return ""
	}
	return k.Dataset
}

func newFolder(root, name string, settings any) (folder, error) {
	dir, err := run.NewDir(root, name, time.Now())
	if err != nil {
		return folder{}, err
	}
	r, err := run.Create(dir)
	if err != nil {
		return folder{}, err
	}
	if err := run.WriteConfig(dir, settings); err != nil {
		r.Close()
		return folder{}, err
	}
	return folder{r}, nil
}

// work runs the experiment or the sweep, prints its result and keeps it.
func (f folder) work(ctx context.Context, c job.Console, o Options, k kept, place string) error {
	if err := f.note(place); err != nil {
		return err
	}
	p := newProgress(c)
	defer p.close()
	if k.Grid != nil {
		phase, err := f.sweep(ctx, c, o, k, p)
		if err != nil {
			return f.interrupted(err, "")
		}
		p.close()
		return f.finish(c, phase)
	}
	fmt.Fprintf(c.Err, "run %s\n", f.Dir)
	r, err := Run(ctx, k.Settings, o.Threads, p.update)
	if errors.Is(err, context.Canceled) {
		return &job.InterruptedError{} // it takes a minute: nothing is kept
	}
	if err != nil {
		return err
	}
	p.close()
	return f.finish(c, r)
}

// place says what structured data run on.
func (k kept) place(o Options) (string, error) {
	compile, err := k.Settings.compileOptions()
	if err != nil {
		return "", err
	}
	device, err := place("cpu", engine.DeviceOptions{Threads: 1}, compile)
	if n := workers(o.Threads); n > 1 {
		return fmt.Sprintf("%d workers, each %s", n, device), err
	}
	return device, err
}

// place describes a device, if it offers the precision asked for.
func place(device string, o engine.DeviceOptions, compile engine.Options) (string, error) {
	dev, err := engine.Open(device, o)
	if err != nil {
		return "", err
	}
	defer dev.Close()
	if _, err := dev.Target(compile.Precision); err != nil {
		return "", err
	}
	info := dev.Info()
	return fmt.Sprintf("%s: %s (%s)", info.Spec, info.Name, info.Detail), nil
}

// note keeps what this start runs on.
func (f folder) note(place string) error {
	return run.AddEnvironment(f.Dir, run.CurrentEnvironment(place))
}

// sweep runs what the folder does not have yet.
func (f folder) sweep(ctx context.Context, c job.Console, o Options, k kept, p *progress) (*Phase, error) {
	j, err := openJournal[swept](f.Dir)
	if err != nil {
		return nil, err
	}
	defer j.file.Close()
	cells := len(k.Grid.Ratio) * len(k.Grid.Eps)
	fmt.Fprintf(c.Err, "run %s: %d cells, %d trials, of which %d are done\n", f.Dir, cells, cells*len(Trainings())*k.Settings.Seeds, len(j.known))
	return Sweep(ctx, k.Settings, *k.Grid, o.Threads, j.known, j.add, p.update)
}

// journal is a file of JSON records, a line each, that a run goes on from.
type journal[T any] struct {
	file  *os.File
	known []T // what it held when it was opened
}

// openJournal opens the folder's trials. A last line that a killed process left
// half written is cut off.
func openJournal[T any](dir string) (j *journal[T], err error) {
	path := filepath.Join(dir, trialsFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	j = &journal[T]{file: f}
	end := int64(0)
	for r := bufio.NewReader(f); ; {
		line, e := r.ReadBytes('\n')
		if e == io.EOF {
			break
		}
		if e != nil {
			return nil, e
		}
		var t T
		if e := json.Unmarshal(line, &t); e != nil {
			return nil, fmt.Errorf("%s: line %d: %w; remove the line to have it run again", path, len(j.known)+1, e)
		}
		j.known, end = append(j.known, t), end+int64(len(line))
	}
	if err = f.Truncate(end); err != nil {
		return nil, err
	}
	_, err = f.Seek(end, io.SeekStart)
	return j, err
}

// add appends a record in one write.
func (j *journal[T]) add(record T) error {
	b, err := json.Marshal(record)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(b, '\n'))
	return err
}

// InterruptedError says how to go on with a run.
type InterruptedError struct{ Dir, Flags string }

func (e *InterruptedError) Error() string {
	return "interrupted; go on with: temper features " + e.Flags + "--resume " + e.Dir
}

// Unwrap returns context.Canceled: the exit code is that of an interrupt.
func (e *InterruptedError) Unwrap() error { return context.Canceled }

func (f folder) interrupted(err error, flags string) error {
	if errors.Is(err, context.Canceled) {
		return &InterruptedError{Dir: f.Dir, Flags: flags}
	}
	return err
}

// finish keeps a result as JSON, figures and a page, and prints it.
func (f folder) finish(c job.Console, result findings) error {
	b, err := json.Marshal(result)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if err := run.WriteFileAtomic(filepath.Join(f.Dir, resultFile), func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
		return err
	}
	dir := filepath.Join(f.Dir, figuresDir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for _, fig := range result.Figures() {
		if err := run.WriteFileAtomic(filepath.Join(dir, fig.Name+".svg"), fig.WriteSVG); err != nil {
			return err
		}
	}
	if err := run.WriteFindings(f.Dir, result.Findings()); err != nil {
		return err
	}
	if _, err := report.Refresh(f.Dir); err != nil {
		return err
	}
	if c.JSON {
		_, err := c.Out.Write(b)
		return err
	}
	result.WriteText(c.Out)
	_, err = fmt.Fprintf(c.Out, "\nfigures and report: %s\n", f.Dir)
	return err
}

// progress shows training steps done of all; its line has no total before the
// first update.
type progress struct {
	console job.Console
	line    *run.Progress
}

func newProgress(c job.Console) *progress { return &progress{console: c} }

func (p *progress) update(done, total int) {
	if p.line == nil {
		p.line = run.NewProgress(p.console.Err, total, 0)
	}
	p.line.Update(done)
}

func (p *progress) close() {
	if p.line != nil {
		p.line.Close()
	}
}
