package job

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"temper/adversarial/report"
	"temper/adversarial/run"
)

// ReportOptions is a command line of temper report.
type ReportOptions struct {
	Root string // folder of run folders
	Runs []string
	Out  string // file to write; "": report.html of the one run
}

// Report is temper report: the page of a run, or one that compares several.
func Report(c Console, o ReportOptions) error {
	if len(o.Runs) > 1 && o.Out == "" {
		return usage("a comparison of %d runs needs --out FILE.html", len(o.Runs))
	}
	if len(o.Runs) > report.MostRuns {
		return usage("%d runs are too many for one page: give at most %d", len(o.Runs), report.MostRuns)
	}
	if dir := filepath.Dir(o.Out); o.Out != "" {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("--out %s: there is no folder %s", o.Out, dir)
		}
	}
	var runs []*report.Run
	path := o.Out
	for _, name := range o.Runs {
		dir, r, err := loadRun(o.Root, name)
		if err != nil {
			return err
		}
		if path == "" {
			path = filepath.Join(dir, report.File)
		}
		runs = append(runs, r)
	}
	err := run.WriteFileAtomic(path, func(w io.Writer) error {
		if len(runs) > 1 {
			return report.Compare(w, runs)
		}
		return runs[0].Write(w)
	})
	if err != nil {
		return err
	}
	for _, r := range runs {
		for _, problem := range r.Problems {
			c.say("warning: %s: %s", r.Name, problem)
		}
	}
	return c.result(map[string]string{"report": path}, func(w io.Writer) { fmt.Fprintln(w, path) })
}

// loadRun reads a run that the user named.
func loadRun(root, name string) (dir string, r *report.Run, err error) {
	found, err := run.Open(RunFolder(root, name))
	if err != nil {
		return "", nil, err
	}
	f, err := run.OpenFolder(found.Dir)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	r, err = report.Load(f)
	return found.Dir, r, err
}

// refreshReport writes the page of a run that has something new. What the run
// found is kept already: a page that cannot be written is no failure of it.
func refreshReport(c Console, dir string) {
	if _, err := report.Refresh(dir); err != nil {
		c.say("warning: the page of the run could not be written: %v", err)
	}
}
