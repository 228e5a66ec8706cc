package features

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"temper/adversarial/job"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine"
)

// setsDir holds the constructed sets of a run, as safetensors of x (N,C,H,W)
// and y (N).
const setsDir = "sets"

// imagesCommand is temper features on real images.
func imagesCommand(ctx context.Context, c job.Console, o Options) error {
	if o.Sweep != "" {
		return usage("--sweep is for structured data, not for %s", o.Dataset)
	}
	s, err := ImageDefaults(o.Dataset)
	if err != nil {
		return &job.UsageError{Err: err}
	}
	if o.Resume != "" {
		return resumeImages(ctx, c, o, s)
	}
	if o.Quick {
		s = s.Quick()
	}
	for _, a := range o.User {
		if err := run.ApplySet(&s, a.Key+"="+a.Value); err != nil {
			return usage("%s: %w", a.Source, err)
		}
	}
	given := s
	s = s.resolve()
	if err := job.RefuseReplaced(&given, &s, o.User); err != nil {
		return &job.UsageError{Err: err}
	}
	if err := s.validate(); err != nil {
		return &job.UsageError{Err: err}
	}
	for _, split := range []datasets.Split{datasets.Train, datasets.Test} { // an error here leaves no run folder behind
		set, err := s.open(o, split)
		if err != nil {
			return err
		}
		if _, err := s.model(set.Info()); err != nil {
			return &job.UsageError{Err: err}
		}
	}
	on, err := s.place(o)
	if err != nil {
		return err
	}
	f, err := newFolder(o.Root, "features-"+s.Dataset, s)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.images(ctx, c, o, s, on)
}

// place says what the run runs on.
func (s ImageSettings) place(o Options) (string, error) {
	compile, err := compileOptions(s.Precision)
	if err != nil {
		return "", err
	}
	return place(o.Device, engine.DeviceOptions{Threads: o.Threads}, compile)
}

// resumeImages goes on with the first seed that is not finished.
func resumeImages(ctx context.Context, c job.Console, o Options, s ImageSettings) error {
	if len(o.User) > 0 || o.Quick {
		return usage("--resume goes on with the settings of the run: leave out the others")
	}
	f, err := openFolder(o)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := run.ReadConfig(f.Dir, &s); err != nil {
		return err
	}
	if s.Dataset != o.Dataset {
		return usage("%s is a run on %s, not on %s", f.Dir, s.Dataset, o.Dataset)
	}
	on, err := s.place(o)
	if err != nil {
		return err
	}
	return f.images(ctx, c, o, s, on)
}

func (s ImageSettings) open(o Options, split datasets.Split) (datasets.Source, error) {
	dir, err := job.DataDir(o.DataDir)
	if err != nil {
		return nil, err
	}
	return openPart(s.Dataset, dir, split, 0)
}

// images runs the seeds that the folder does not have yet.
func (f folder) images(ctx context.Context, c job.Console, o Options, s ImageSettings, place string) error {
	if err := f.note(place); err != nil {
		return err
	}
	dir, err := job.DataDir(o.DataDir)
	if err != nil {
		return err
	}
	j, err := openJournal[SeedResult](f.Dir)
	if err != nil {
		return err
	}
	defer j.file.Close()
	fmt.Fprintf(c.Err, "run %s: %s, of which %d are done\n", f.Dir, seeds(s.Seeds), len(j.known))
	p := newProgress(c)
	defer p.close()
	r, err := Images(ctx, s, ImageRun{Dir: dir, Device: o.Device, Threads: o.Threads,
		Known: j.known, Done: j.add, Say: p.say, Progress: p.update, Keep: f.keep})
	if err != nil {
		return f.interrupted(err, "--dataset "+s.Dataset+" ")
	}
	p.close()
	return f.finish(c, r)
}

// say prints a line above the bar.
func (p *progress) say(line string) {
	if p.line == nil {
		fmt.Fprintln(p.console.Err, line)
		return
	}
	p.line.EpochLine(line)
}

// keep caches a constructed set.
func (f folder) keep(seed uint32, name string, set *datasets.Set) error {
	dir := filepath.Join(f.Dir, setsDir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	in := set.Info()
	file := &run.Tensors{Metadata: map[string]string{"dataset": in.Name, "set": name, "seed": fmt.Sprint(seed)}, List: []run.Tensor{
		{Name: "x", DType: "U8", Shape: []int{set.Len(), in.Channels, in.Height, in.Width}, Data: set.Values().U8},
		{Name: "y", DType: "I32", Shape: []int{set.Len()}, Data: engine.Bytes(set.Labels())},
	}}
	return run.WriteFileAtomic(filepath.Join(dir, fmt.Sprintf("seed%d-%s.safetensors", seed, name)), func(w io.Writer) error {
		return run.WriteSafetensors(w, file)
	})
}
