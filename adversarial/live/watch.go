package live

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"temper/adversarial/report"
	"temper/adversarial/run"
)

// WatchOptions are how a run is watched.
type WatchOptions struct {
	Once     bool          // show it once, whether or not it goes on
	JSON     bool          // a Progress for each evaluation and at the end, one a line
	Interval time.Duration // between looks
	// Size is the terminal's, which may change; nil: there is none, and a line is
	// printed for each evaluation.
	Size func() (columns, rows int)
}

// Watch shows the run in dir until it ends, or until ctx is done.
func Watch(ctx context.Context, w io.Writer, dir string, o WatchOptions) error {
	f, err := run.OpenFolder(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	v := &view{tail: newTail(f), name: f.Dir, width: defaultWidth}
	lead, err := report.Load(f)
	if err != nil {
		return err
	}
	v.name, v.lead = lead.Name, lead.Lead()
	for {
		active := f.Active() // before reading: what it wrote last is seen
		if err := v.poll(); err != nil {
			return err
		}
		v.clock(time.Now())
		done := o.Once || !active
		switch {
		case o.JSON:
			if done || v.evaluated() {
				if err := json.NewEncoder(w).Encode(v.now(active)); err != nil {
					return err
				}
			}
		case o.Size != nil:
			v.redraw(w, active, o.Size)
		case done:
			w.Write(v.lines(active))
		default:
			v.news(w)
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.Interval):
		}
	}
}

// view is what is shown of a run.
type view struct {
	*tail
	name, lead string
	width      int
	drawn      []int // columns of each line on the terminal
	told       int64 // step of the last evaluation that was told
	last       time.Time
	lastStep   int64
	perStep    float64 // seconds, as seen; 0: nothing yet
}

// clock learns the speed from the steps between two looks.
func (v *view) clock(now time.Time) {
	step := v.curves.Step
	if v.last.IsZero() || step < v.lastStep {
		v.last, v.lastStep = now, step
		return
	}
	if step > v.lastStep {
		seen := now.Sub(v.last).Seconds() / float64(step-v.lastStep)
		if v.perStep > 0 {
			seen = 0.7*v.perStep + 0.3*seen
		}
		v.perStep, v.last, v.lastStep = seen, now, step
	}
}

// speed is seconds a step: as seen, else as the run says.
func (v *view) speed() float64 {
	if v.perStep > 0 {
		return v.perStep
	}
	if s := v.curves.Get("time/step"); s != nil {
		return s.Last
	}
	return 0
}

// redraw replaces what was drawn before by what there is to see now. A terminal
// that became narrower has wrapped the old lines; one that is too low to hold the
// view shows its beginning, since the cursor cannot go above its top.
func (v *view) redraw(w io.Writer, active bool, size func() (columns, rows int)) {
	columns, rows := size()
	v.width = columns
	var b bytes.Buffer
	up := 0
	for _, n := range v.drawn {
		up += 1 + max(0, n-1)/columns
	}
	if up = min(up, rows-1); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	b.WriteString("\x1b[J")
	v.drawn = v.drawn[:0]
	for line := range bytes.Lines(v.lines(active)) {
		if active && len(v.drawn) == rows-1 {
			break
		}
		b.Write(line)
		v.drawn = append(v.drawn, utf8.RuneCount(line)-1)
	}
	w.Write(b.Bytes())
}

// Progress is how far a run has come.
type Progress struct {
	Run     string             `json:"run"`
	State   string             `json:"state"` // running, ended, stopped before its end
	Step    int64              `json:"step"`
	Steps   int                `json:"steps"` // of the whole run; 0: unknown
	Epoch   int                `json:"epoch"`
	Seconds float64            `json:"seconds_left"` // as far as the speed is known; 0 for runs that do not go on
	Values  map[string]float64 `json:"values"`       // the latest finite value of each number in metrics.jsonl
	Alarms  []string           `json:"alarms"`       // those that held, and when
}

func (v *view) now(active bool) Progress {
	p := Progress{Run: v.name, State: v.state(active), Step: v.curves.Step, Steps: v.facts.Steps, Epoch: v.curves.Epoch, Values: map[string]float64{}, Alarms: append([]string{}, v.curves.Alarms()...)}
	if left := int64(v.facts.Steps) - v.curves.Step; active && left > 0 {
		p.Seconds = float64(left) * v.speed()
	}
	for _, name := range v.curves.Names() {
		if s := v.curves.Get(name); s != nil {
			p.Values[name] = s.Last
		}
	}
	return p
}

// evaluated reports whether there is an evaluation that it did not report yet.
func (v *view) evaluated() bool {
	clean, robust := v.watched("clean"), v.watched("robust")
	if clean == nil || robust == nil {
		return false
	}
	step := clean.Points[len(clean.Points)-1].Step
	before := v.told
	v.told = step
	return step != before
}

// news tells an evaluation that was not told yet, in a line.
func (v *view) news(w io.Writer) {
	if v.evaluated() {
		fmt.Fprintf(w, "%s  clean %.1f %%  robust %.1f %%%s\n", v.progress(), 100*v.watched("clean").Last, 100*v.watched("robust").Last, v.remaining())
	}
}

func (v *view) progress() string {
	s := fmt.Sprintf("step %d", v.curves.Step)
	if v.facts.Steps > 0 {
		s += fmt.Sprintf("/%d  epoch %d/%d", v.facts.Steps, (v.curves.Step+int64(v.facts.PerEpoch)-1)/int64(max(v.facts.PerEpoch, 1)), v.facts.Steps/max(v.facts.PerEpoch, 1))
	}
	return s
}

// remaining is speed and time left, as far as they are known.
func (v *view) remaining() string {
	each := v.speed()
	if each <= 0 || v.facts.Steps == 0 {
		return ""
	}
	left := max(0, int64(v.facts.Steps)-v.curves.Step)
	seconds := min(float64(left)*each, 1e9)
	return fmt.Sprintf("  %.4g images/s  ETA %s", float64(v.facts.Batch)/each, run.FormatDuration(time.Duration(seconds*float64(time.Second))))
}

const (
	labelWidth   = 14
	defaultWidth = 80 // where there is no terminal to ask
)

// lines is the whole view.
func (v *view) lines(active bool) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) {
		text := []rune(printable(fmt.Sprintf(format, args...)))
		b.WriteString(string(text[:min(len(text), v.width-1)]) + "\n")
	}
	line("%s  %s", v.name, v.state(active))
	line("%s", v.lead)
	rest := ""
	if active {
		rest = v.remaining()
	}
	line("%s%s", v.progress(), rest)
	room := max(8, min(60, v.width-labelWidth-12))
	for _, q := range []struct {
		label  string
		series *report.Series
		share  bool
	}{
		{"loss", v.curves.Get("train/loss"), false}, {"clean", v.watched("clean"), true}, {"robust", v.watched("robust"), true},
		{"learning rate", v.curves.Get("train/lr"), false}, {"momentum", v.curves.Get("train/momentum"), false}, {"eps", v.curves.Get("train/eps"), false}, {"images/s", v.curves.Get("time/images_per_second"), false},
	} {
		if q.series == nil {
			continue
		}
		value := fmt.Sprintf("%.4g", q.series.Last)
		if q.share {
			value = fmt.Sprintf("%.1f %%", 100*q.series.Last)
		}
		line("%-*s%-10s %s", labelWidth, q.label, value, sparkline(q.series, room, q.share))
	}
	if s := v.times(); s != "" {
		line("%-*s%s", labelWidth, "a step", s)
	}
	if v.facts.Device != "" {
		device, _, _ := strings.Cut(v.facts.Device, "; ")
		line("%-*s%s", labelWidth, "memory", report.Memory(v.facts))
		if s := report.DeviceMemory(v.facts, v.curves); s != "" {
			line("%-*s%s", labelWidth, "device memory", s)
		}
		line("%-*s%s", labelWidth, "device", device)
	}
	for _, alarm := range v.curves.Alarms() {
		line("%-*s%s", labelWidth, "alarm", alarm)
	}
	for _, name := range v.curves.Names() {
		if s := v.curves.Any(name); s.Bad > 0 {
			line("%-*s%s was not finite %d times, first at step %d", labelWidth, "alarm", name, s.Bad, s.BadAt)
		}
	}
	if !active && v.unfinished() { // the last thing drawn: it may wrap, so that it can be copied
		fmt.Fprintf(&b, "go on with: temper train --resume %s\n", printable(v.folder.Dir))
	}
	return b.Bytes()
}

// unfinished reports whether steps are left.
func (v *view) unfinished() bool { return v.facts.Steps > 0 && v.curves.Step < int64(v.facts.Steps) }

func (v *view) state(active bool) string {
	switch {
	case active:
		return "running"
	case v.unfinished():
		return "stopped before its end"
	}
	return "ended"
}

// times is where the time of a step goes.
func (v *view) times() string {
	all := v.curves.Get("time/step")
	if all == nil || all.Last <= 0 {
		return ""
	}
	s := fmt.Sprintf("%.4g ms", 1e3*all.Last)
	for _, part := range []string{"data", "attack", "update"} {
		if p := v.curves.Get("time/" + part); p != nil {
			s += fmt.Sprintf("  %s %.0f %%", part, 100*p.Last/all.Last)
		}
	}
	return s
}

// printable replaces what would move a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
}

var bars = []rune("▁▂▃▄▅▆▇█")

// sparkline draws the series in so many columns, from its smallest value to its
// largest, or from 0 to 1 for shares.
func sparkline(s *report.Series, columns int, share bool) string {
	points := s.Thinned(columns)
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, p := range points {
		lo, hi = min(lo, p.Mean), max(hi, p.Mean)
	}
	if share {
		lo, hi = 0, 1
	}
	var b strings.Builder
	for _, p := range points {
		k := 0
		if hi > lo {
			k = int((p.Mean - lo) / (hi - lo) * float64(len(bars)))
		}
		b.WriteRune(bars[max(0, min(k, len(bars)-1))])
	}
	return b.String()
}
