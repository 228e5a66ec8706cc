package job

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"temper/datasets"
)

// DataOptions is a command line of temper data.
type DataOptions struct {
	Names    []string
	Dir      string
	Optional bool     // fetch optional files too
	Mirrors  []string // instead of the published ones
}

// known looks the sets up that o names, or all if it names none.
func (o DataOptions) known() ([]datasets.Known, string, error) {
	dir, err := dataDir(o.Dir)
	if err != nil {
		return nil, "", err
	}
	if len(o.Names) == 0 {
		return datasets.List(), dir, nil
	}
	var list []datasets.Known
	for _, name := range o.Names {
		k, err := datasets.Lookup(name)
		if err != nil {
			return nil, "", err
		}
		list = append(list, k)
	}
	return list, dir, nil
}

// FetchData is temper data fetch.
func FetchData(ctx context.Context, c Console, o DataOptions) error {
	if len(o.Names) == 0 {
		return usage("data fetch needs the names of data sets: %s", strings.Join(datasetNames()[1:len(datasetNames())-1], ", "))
	}
	list, dir, err := o.known()
	if err != nil {
		return err
	}
	for _, k := range list {
		b := &bytesBar{w: c.Err}
		err := datasets.Fetch(ctx, k.Name, dir, datasets.FetchOptions{
			Optional: o.Optional, Mirrors: o.Mirrors, Progress: b.update,
			Terms: func(terms string) { c.say("%s", terms) },
		})
		b.close()
		if ctx.Err() != nil {
			return &InterruptedError{Kept: "; the same command goes on where the download stopped"}
		}
		if err != nil {
			return err
		}
		if err := c.result(map[string]string{"dataset": k.Name, "dir": dir, "state": "complete"}, func(w io.Writer) {
			fmt.Fprintf(w, "%s is complete in %s\n", k.Name, dir)
		}); err != nil {
			return err
		}
	}
	return nil
}

// VerifyData is temper data verify. It fails if a file is not the published
// one; without names it passes over sets that are not there.
func VerifyData(c Console, o DataOptions) error {
	list, dir, err := o.known()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	var bad []string
	found := 0
	for _, k := range list {
		states, err := datasets.Verify(k.Name, dir)
		if err != nil {
			return err
		}
		absent := !slices.ContainsFunc(states, func(f datasets.FileStatus) bool { return f.State != datasets.Missing })
		if absent && len(o.Names) == 0 {
			continue
		}
		found++
		for _, f := range states {
			if f.State == datasets.Differs || f.State == datasets.Missing && !f.Optional {
				bad = append(bad, f.Path)
			}
			if c.JSON {
				err := c.result(map[string]any{"dataset": k.Name, "file": f.Path, "state": f.State, "bytes": f.GotBytes, "sha256": f.GotSHA256}, nil)
				if err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", k.Name, f.State, f.Path)
		}
	}
	w.Flush()
	switch {
	case len(bad) > 0:
		return fmt.Errorf("%d files are missing or not the published ones, the first is %s; move it away and run: temper data fetch", len(bad), bad[0])
	case found == 0:
		return fmt.Errorf("no data set in %s: get one with: temper data fetch mnist", dir)
	}
	return nil
}

// ListData is temper data list.
func ListData(c Console, o DataOptions) error {
	list, dir, err := o.known()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	for _, k := range list {
		state := "missing"
		if datasets.Present(k, dir) {
			state = "present"
		} else if datasets.Partial(k, dir) {
			state = "a part"
		}
		if c.JSON {
			err := c.result(map[string]string{"dataset": k.Name, "title": k.Title, "state": state, "dir": dir, "terms": k.Terms}, nil)
			if err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", k.Name, state, k.Title)
	}
	if !c.JSON {
		fmt.Fprintf(w, "structured\tbuilt in\tpatches with robust and non-robust features (Li and Li, 2025)\n")
		fmt.Fprintf(w, "npz:FILE\tyour own\tx_train, y_train, x_test, y_test of a NumPy file\n")
	}
	w.Flush()
	if !c.JSON {
		c.say("in %s; another folder: --data-dir", dir)
	}
	return nil
}

// bytesBar shows downloads: a bar on a terminal, else a line a file.
type bytesBar struct {
	w    io.Writer
	file string
	bar  *progressbar.ProgressBar
}

func (b *bytesBar) update(file string, done, total int64) {
	if file != b.file {
		b.close()
		b.file = file
		if f, ok := b.w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			b.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription(file),
				progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
		} else {
			fmt.Fprintf(b.w, "fetching %s, %d bytes\n", file, total)
		}
	}
	if b.bar != nil {
		b.bar.Set64(done)
	}
}

func (b *bytesBar) close() {
	if b.bar != nil {
		b.bar.Exit()
		b.bar = nil
	}
}
