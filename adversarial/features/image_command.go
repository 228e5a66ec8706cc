package features

import (
	"context"
	"errors"
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
	if o.Sweep != "" || o.Resume != "" {
		return usage("--sweep and --resume are for structured data, not for %s", o.Dataset)
	}
	s, err := ImageDefaults(o.Dataset)
	if err != nil {
		return &job.UsageError{Err: err}
	}
	if o.Quick {
		s = s.Quick()
	}
	for _, a := range o.User {
		if err := run.ApplySet(&s, a.Key+"="+a.Value); err != nil {
			return usage("%s: %w", a.Source, err)
		}
	}
	if err := s.validate(); err != nil {
		return &job.UsageError{Err: err}
	}
	dir, err := job.DataDir(o.DataDir)
	if err != nil {
		return err
	}
	for _, split := range []datasets.Split{datasets.Train, datasets.Test} { // an error here leaves no run folder behind
		if _, err := openPart(s.Dataset, dir, split, 0); err != nil {
			return err
		}
	}
	f, err := newFolder(o.Root, "features-"+s.Dataset, s)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.note(o.Device, "", engine.DeviceOptions{Threads: o.Threads}); err != nil {
		return err
	}
	fmt.Fprintf(c.Err, "run %s\n", f.Dir)
	p := newProgress(c)
	defer p.close()
	r, err := Images(ctx, s, ImageRun{Dir: dir, Device: o.Device, Threads: o.Threads, Say: p.say, Progress: p.update, Keep: f.keep})
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("interrupted: what was made so far is in %s: %w", f.Dir, err)
	}
	if err != nil {
		return err
	}
	p.close()
	return f.finish(c, r, r.WriteText, r.Figures())
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
