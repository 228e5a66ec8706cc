package report

import (
	"fmt"
	"html/template"
	"image/color"
	"io"
	"slices"
	"strings"
	"time"

	"temper/adversarial/figure"
	"temper/adversarial/run"
)

// MostRuns is how many runs a comparison takes.
const MostRuns = 12

// compared is a run's row in a comparison.
type compared struct {
	Name, Lead, State string
	Step              int64
	Best              *Evaluation
	Color             template.CSS
	Speed             string
	evaluations       []Evaluation
}

// alike is an evaluation that every run of a comparison has had.
type alike struct {
	Title string
	Rows  []alikeRow
}

type alikeRow struct {
	Name  string
	Color template.CSS
	Evaluation
}

// difference is a setting in which runs differ.
type difference struct {
	Key    string
	Values []string
}

// lineColors are told apart by the colour-blind too.
var lineColors = []color.NRGBA{figure.Blue, figure.Vermilion, figure.Green, figure.Amber, figure.Sky, {R: 0xCC, G: 0x79, B: 0xA7, A: 0xFF}, figure.Ink,
	{R: 0x7A, G: 0x52, B: 0x2B, A: 0xFF}, {R: 0x6B, G: 0x6B, B: 0xD6, A: 0xFF}, {R: 0x8A, G: 0x8A, B: 0x8A, A: 0xFF}, {R: 0x55, G: 0x8B, B: 0x2F, A: 0xFF}, {R: 0xB7, G: 0x1C, B: 0x6B, A: 0xFF}}

// Compare writes one page that shows runs beside each other.
func Compare(w io.Writer, runs []*Run) error {
	if len(runs) > MostRuns {
		return fmt.Errorf("%d runs are too many for one page: give at most %d", len(runs), MostRuns)
	}
	p := &page{Title: fmt.Sprintf("%d runs", len(runs)), Lead: "compared", Made: time.Now().UTC().Format("2006-01-02 15:04 UTC")}
	for i, r := range runs {
		c := lineColors[i]
		row := compared{Name: r.Name, Lead: r.Lead(), State: r.State(), Step: r.Curves.Step, Best: r.Best(), evaluations: r.Evaluations, Color: template.CSS(fmt.Sprintf("#%02X%02X%02X", c.R, c.G, c.B))}
		if s := r.Curves.Get("time/images_per_second"); s != nil {
			row.Speed = number(s.Last)
		}
		p.Runs = append(p.Runs, row)
		for _, problem := range r.Problems {
			p.Problems = append(p.Problems, r.Name+": "+problem)
		}
	}
	p.alike()
	p.Plots = overlays(runs)
	p.Differences = differences(runs)
	p.Tables = beside(runs, p.Differences)
	p.Experiments = !slices.ContainsFunc(runs, func(r *Run) bool { return r.Findings.Lead == "" })
	return pageTemplate.Execute(w, p)
}

// alike says where the evaluations that lead the runs are not of the same attack on as
// many examples, and then shows those that all of them have had in common.
func (p *page) alike() {
	found := map[string]bool{}
	for _, r := range p.Runs {
		if r.Best != nil {
			found[r.Best.Under()] = true
		}
	}
	if len(found) < 2 {
		return
	}
	p.Unlike = "These evaluations are not of the same attack on the same number of examples: their robust accuracies do not compare."
	for _, first := range slices.Backward(p.Runs[0].evaluations) {
		shared := alike{Title: first.Under()}
		for _, r := range p.Runs {
			i := slices.IndexFunc(r.evaluations, func(e Evaluation) bool { return e.Under() == shared.Title })
			if i < 0 {
				break
			}
			shared.Rows = append(shared.Rows, alikeRow{r.Name, r.Color, r.evaluations[i]})
		}
		known := slices.ContainsFunc(p.Alike, func(a alike) bool { return a.Title == shared.Title })
		if len(shared.Rows) == len(p.Runs) && !known {
			p.Alike = append(p.Alike, shared)
		}
	}
	if len(p.Alike) == 0 {
		p.Unlike += " No attack was made on all of them: give each the same temper eval."
	}
}

// overlays draws each number of all runs in one plot.
func overlays(runs []*Run) (list []Plot) {
	for _, c := range []struct {
		chart
		names []string
	}{
		{chart{title: "Clean accuracy", y: "share of examples", share: true}, []string{"test/clean", "held-out/clean"}},
		{chart{title: "Robust accuracy", y: "share of examples", share: true}, []string{"test/robust", "held-out/robust"}},
		{chart{title: "Loss, mean of the epoch", y: "loss"}, []string{"epoch/loss"}},
		{chart{title: "Learning rate", y: "learning rate"}, []string{"train/lr"}},
		{chart{title: "Momentum", y: "momentum"}, []string{"train/momentum"}},
		{chart{title: "ε in training", y: "ε"}, []string{"train/eps"}},
		{chart{title: "Training speed", y: "images/s"}, []string{"time/images_per_second"}},
	} {
		c.x = "step"
		for i, r := range runs {
			for _, name := range c.names {
				if s := r.Curves.Get(name); s != nil {
					c.lines = append(c.lines, line{label: r.Name, color: lineColors[i], from: s})
					break
				}
			}
		}
		if len(c.lines) > 0 {
			list = append(list, c.plot())
		}
	}
	return list
}

// mostNamed is how many settings a run of an experiment is named by.
const mostNamed = 3

// beside makes one table of the tables of one title that the runs of experiments
// have, with the columns that they share: the rows of one first cell together,
// each named by the settings in which the runs differ.
func beside(runs []*Run, settings []difference) (list []run.Table) {
	names := make([]string, len(runs))
	for i, r := range runs {
		names[i] = r.Name
		if len(settings) > 0 && len(settings) <= mostNamed {
			var parts []string
			for _, d := range settings {
				parts = append(parts, strings.TrimPrefix(d.Key, "settings.")+" "+d.Values[i])
			}
			names[i] = strings.Join(parts, ", ")
		}
	}
	for _, first := range runs[0].Findings.Tables {
		columns, all, keys := first.Columns, [][][]string{first.Rows}, firsts(nil, first.Rows)
		for _, r := range runs[1:] {
			i := slices.IndexFunc(r.Findings.Tables, func(t run.Table) bool { return t.Title == first.Title })
			if i < 0 {
				break
			}
			t := r.Findings.Tables[i]
			for len(columns) > 0 && !slices.Equal(columns, t.Columns[:min(len(columns), len(t.Columns))]) {
				columns = columns[:len(columns)-1]
			}
			all, keys = append(all, t.Rows), firsts(keys, t.Rows)
		}
		if len(all) < len(runs) || len(columns) < 2 {
			continue
		}
		joined := run.Table{Title: first.Title, Columns: slices.Insert(slices.Clone(columns), 1, "run")}
		for _, key := range keys {
			for n, rows := range all {
				for _, row := range rows {
					if row[0] == key {
						joined.Rows = append(joined.Rows, slices.Insert(slices.Clone(row[:len(columns)]), 1, names[n]))
					}
				}
			}
		}
		list = append(list, joined)
	}
	return list
}

// firsts adds to keys the rows' first cells that it lacks.
func firsts(keys []string, rows [][]string) []string {
	for _, row := range rows {
		if !slices.Contains(keys, row[0]) {
			keys = append(keys, row[0])
		}
	}
	return keys
}

// differences lists the settings that are not the same everywhere.
func differences(runs []*Run) (list []difference) {
	var keys []string
	values := make([]map[string]string, len(runs))
	known := map[string]bool{}
	for i, r := range runs {
		values[i] = map[string]string{}
		for _, s := range r.Settings {
			if values[i][s.Key] = s.Value; !known[s.Key] {
				known[s.Key] = true
				keys = append(keys, s.Key)
			}
		}
	}
	for _, k := range keys {
		d, same := difference{Key: k}, true
		for _, v := range values {
			d.Values = append(d.Values, v[k])
			same = same && d.Values[0] == v[k]
		}
		if !same {
			list = append(list, d)
		}
	}
	return list
}
