package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"temper/adversarial/run"
)

// File is the name of the page in a run folder.
const File = "report.html"

// page is what the template shows.
type page struct {
	Title, Lead string
	State       string // running, ended, stopped
	Headline    *Evaluation
	Cards       []card
	Alarms      []string
	Evaluations []Evaluation // Headline first
	Plots       []Plot
	Confusion   *matrix
	Gallery     *Gallery
	Tables      []run.Table // of an experiment
	Figures     []Figure
	Settings    []Setting
	Starts      []Setting // of the environment, the latest start
	StartCount  int
	Facts       []Setting
	Problems    []string
	Runs        []compared // of a comparison
	Unlike      string     // why the robust accuracies of a comparison cannot be compared
	Alike       []alike
	Differences []difference
	Experiments bool        // all runs are of temper features: no evaluations to compare
	Live        template.JS // its script, if it follows a run
	Made        string
}

// card is a number that leads the page.
type card struct{ Name, Value, Note string }

//go:embed page.html
var pageText string

// LiveScript is the whole script of a page from [Run.WriteLive].
//
//go:embed live.js
var LiveScript string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// Write writes the page of a run.
func (r *Run) Write(w io.Writer) error { return pageTemplate.Execute(w, r.page()) }

// WriteLive writes the page of a run that follows it: whenever the URL "events"
// beside it sends an event, it loads itself again.
func (r *Run) WriteLive(w io.Writer) error {
	p := r.page()
	p.Live = template.JS(LiveScript)
	return pageTemplate.Execute(w, p)
}

// State says in a word whether the run goes on.
func (r *Run) State() string {
	switch {
	case r.Active:
		return "running"
	case r.Facts.Steps > 0 && r.Curves.Step < int64(r.Facts.Steps):
		return "stopped before its end"
	}
	return "ended"
}

func (r *Run) page() *page {
	p := &page{
		Title: r.Name, State: r.State(), Headline: r.Best(), Plots: r.plots(), Gallery: gallery(r.Pictures), Tables: r.Findings.Tables, Figures: r.Figures,
		Settings: r.Settings, Problems: r.Problems, StartCount: len(r.Environments), Facts: r.facts(), Made: time.Now().UTC().Format("2006-01-02 15:04 UTC"),
	}
	p.Lead = r.Lead()
	if r.Findings.Lead != "" {
		p.Lead = r.Findings.Lead
	}
	p.cards(r)
	if e := p.Headline; e != nil {
		p.Confusion = newMatrix(e)
		p.Evaluations = []Evaluation{*e}
		for i := range r.Evaluations {
			if other := &r.Evaluations[i]; other != e {
				p.Evaluations = append(p.Evaluations, *other)
			}
		}
	}
	if n := len(r.Environments); n > 0 {
		p.Starts = environment(r.Environments[n-1])
	}
	for _, name := range r.Curves.Names() {
		if s := r.Curves.named[name]; s.Bad > 0 {
			p.Alarms = append(p.Alarms, fmt.Sprintf("%s was NaN or infinite %d times, first at step %d", clip(name), s.Bad, s.BadAt))
		}
	}
	for _, a := range r.Curves.Alarms() {
		p.Alarms = append(p.Alarms, clip(a))
	}
	if e := p.Headline; e != nil {
		for _, w := range e.Warnings {
			p.Alarms = append(p.Alarms, clip(w.Name+": "+w.Text+"; "+w.Remedy))
		}
	}
	return p
}

// Lead is a line about the run.
func (r *Run) Lead() string {
	var parts []string
	for _, key := range []string{"training.method", "model.name", "data.name"} {
		if v := r.Setting(key); v != "" {
			parts = append(parts, v)
		}
	}
	s := strings.Join(parts, " · ")
	if eps := r.Setting("threat.eps"); eps != "" {
		s += fmt.Sprintf(" · %s, ε = %s", r.Setting("threat.norm"), eps)
	}
	return s
}

func (p *page) cards(r *Run) {
	if e := p.Headline; e != nil {
		p.Cards = append(p.Cards,
			card{"clean accuracy", fmt.Sprintf("%.1f %%", 100*e.CleanAccuracy.Value), fmt.Sprintf("95 %% interval %.1f to %.1f, %d examples", 100*e.CleanAccuracy.Low, 100*e.CleanAccuracy.High, e.N)},
			card{"robust accuracy", fmt.Sprintf("%.1f %%", 100*e.RobustAccuracy.Value), fmt.Sprintf("95 %% interval %.1f to %.1f, under %s", 100*e.RobustAccuracy.Low, 100*e.RobustAccuracy.High, clip(e.Attack))})
	}
	steps := fmt.Sprint(r.Curves.Step)
	if r.Facts.Steps > 0 {
		steps += fmt.Sprintf(" of %d", r.Facts.Steps)
	}
	if r.Curves.Step > 0 {
		p.Cards = append(p.Cards, card{"steps", steps, fmt.Sprintf("epoch %d", r.Curves.Epoch)})
	}
	if s := r.Curves.Get("time/images_per_second"); s != nil {
		p.Cards = append(p.Cards, card{"images/s in training", number(s.Last), "mean between the last two evaluations"})
	}
}

// facts are those that no setting says.
func (r *Run) facts() (list []Setting) {
	f := r.Facts
	if f.Steps == 0 {
		return nil
	}
	list = []Setting{
		{"steps", fmt.Sprintf("%d, of which an epoch has %d", f.Steps, f.PerEpoch)},
		{"examples", fmt.Sprintf("%d to train on, %d %s; %d×%d×%d (channels, height, width); %d classes", f.Train, f.Watched, clip(f.Watching), f.Shape[0], f.Shape[1], f.Shape[2], len(f.Classes))},
		{"parameters", fmt.Sprint(f.Parameters)},
		{"memory", Memory(f)},
	}
	if s := DeviceMemory(f, r.Curves); s != "" {
		list = append(list, Setting{"device memory", s})
	}
	return list
}

// Memory says what a run needs.
func Memory(f run.Facts) string {
	return fmt.Sprintf("%s of state, %s a step beside it", Bytes(f.StateBytes), Bytes(f.ProgramBytes))
}

// DeviceMemory says how full a device with memory of its own was when the run last
// looked, "" for other devices.
func DeviceMemory(f run.Facts, c *Curves) string {
	used := c.Get(run.MemoryUsed)
	if used == nil || f.DeviceBytes <= 0 {
		return ""
	}
	return fmt.Sprintf("%s of %s in use (%.0f %%)", Bytes(int(used.Last)), Bytes(f.DeviceBytes), 100*used.Last/float64(f.DeviceBytes))
}

// Bytes is a size for people.
func Bytes(n int) string {
	v, unit := float64(n), 0
	for v >= 1000 && unit < 4 {
		v /= 1000
		unit++
	}
	return fmt.Sprintf("%.3g %s", v, []string{"bytes", "kB", "MB", "GB", "TB"}[unit])
}

func environment(e run.Environment) []Setting {
	commit := e.Commit
	if e.Modified {
		commit += ", with changes"
	}
	list := []Setting{
		{"command", strings.Join(e.Command, " ")}, {"date", e.Date.Format(time.RFC3339)}, {"temper", e.Version}, {"commit", commit},
		{"go", e.Go}, {"system", e.OS + "/" + e.Arch}, {"processor", e.CPU}, {"instruction sets", strings.Join(e.Features, " ")},
		{"cores", fmt.Sprintf("%d, GOMAXPROCS %d", e.Cores, e.GOMAXPROCS)}, {"device", e.Device},
	}
	for i := range list {
		list[i].Value = clip(list[i].Value)
	}
	return slices.DeleteFunc(list, func(s Setting) bool { return s.Value == "" })
}

// matrix is a confusion matrix for people: of few classes whole, of many the
// pairs that are confused most.
type matrix struct {
	Classes []string
	Words   bool // the classes have names too wide for a column
	Parts   []matrixPart
}

type matrixPart struct {
	Title string
	Rows  []matrixRow // nil: Pairs
	Pairs []pair
}

type matrixRow struct {
	Class string
	Cells []cell
}

type cell struct {
	N     int
	Shade int // 0 to 100: the share of the row
	Right bool
}

type pair struct {
	Label, Pred string
	N           int
}

const mostSquare = 20

func newMatrix(e *Evaluation) *matrix {
	if e.Confusion == nil || len(e.Classes) == 0 {
		return nil
	}
	m := &matrix{}
	for _, c := range e.Classes {
		m.Classes = append(m.Classes, clip(c.Class))
		m.Words = m.Words || len(c.Class) > 3
	}
	for i, counts := range [][][]int{e.Confusion.Clean, e.Confusion.Attacked} {
		part := matrixPart{Title: []string{"Without an attack", "Under the attack"}[i]}
		for label, row := range counts {
			sum := 0
			for _, n := range row {
				sum += max(n, 0)
			}
			one := matrixRow{Class: m.Classes[label]}
			for pred, n := range row {
				one.Cells = append(one.Cells, cell{n, max(0, min(100, 100*n/max(sum, 1))), label == pred})
				if label != pred && n > 0 {
					part.Pairs = append(part.Pairs, pair{m.Classes[label], m.Classes[pred], n})
				}
			}
			part.Rows = append(part.Rows, one)
		}
		slices.SortStableFunc(part.Pairs, func(a, b pair) int { return b.N - a.N })
		part.Pairs = part.Pairs[:min(len(part.Pairs), 20)]
		if len(m.Classes) > mostSquare {
			part.Rows = nil
		} else {
			part.Pairs = nil
		}
		m.Parts = append(m.Parts, part)
	}
	return m
}

// Refresh writes the page into the run folder dir and returns its path.
func Refresh(dir string) (string, error) {
	f, err := run.OpenFolder(dir)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r, err := Load(f)
	if err != nil {
		return "", err
	}
	r.Active = false // whoever writes the page is done
	path := filepath.Join(dir, File)
	return path, run.WriteFileAtomic(path, r.Write)
}
