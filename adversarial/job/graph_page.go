package job

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"temper/adversarial/report"
	"temper/adversarial/run"
	"temper/engine"
	"temper/engine/plan"
)

// listing is a program with what is known of its steps.
type listing struct {
	*engine.Executable
	trace *engine.Trace // nil: it was not run
	batch int           // examples that it was run on
	times map[*plan.Step]stepTime
}

// stepTime is what a step took in a traced run.
type stepTime struct {
	runs  int
	total time.Duration // its share in the run's time
}

func newListing(e *engine.Executable, t *engine.Trace) *listing {
	l := &listing{Executable: e, trace: t, times: map[*plan.Step]stepTime{}}
	if t != nil {
		for _, s := range t.Spans {
			at := l.times[s.Step]
			l.times[s.Step] = stepTime{at.runs + 1, at.total + t.Share(s)}
		}
	}
	return l
}

// group is a step as the page shows it.
type group struct {
	Title   string
	Kernels []engine.Kernel
	Text    string
	Bytes   string // read and written in all runs of the step
	FLOPs   string
	Time    string
	Rate    string
	Share   int // of the run's time, in percent
	Steps   []group
	IsLoop  bool
}

// groups lists steps that run so many times each.
func (l *listing) groups(steps []plan.Step, times int) (list []group, total time.Duration) {
	p := l.Plan()
	for i := range steps {
		s := &steps[i]
		text := p.Text(s)
		title, _, _ := strings.Cut(text, "\n")
		g := group{Title: strings.Replace(strings.TrimSpace(title), "  # ", ", ", 1)} // of a loop: its comment
		var took time.Duration
		if s.Loop != nil {
			g.IsLoop = true
			g.Steps, took = l.groups(s.Loop.Steps, times*s.Loop.Node.Attrs().Trips)
		} else {
			cost := p.Cost(s)
			g.Kernels, g.Text = l.Kernels(s), text
			if len(g.Kernels) > 0 && s.Fused != nil {
				g.Title = fmt.Sprintf("fused, %d operations over %v", len(s.Fused.Nodes), s.Fused.Space)
			}
			g.Bytes = report.Bytes(times * (cost.Read + cost.Written))
			took = l.times[s].total
			if flops := float64(times) * cost.FLOPs; flops > 0 {
				g.FLOPs = operations(flops)
				if took > 0 {
					g.Rate = fmt.Sprintf("%.3g GFLOP/s", flops/took.Seconds()*1e-9)
				}
			}
		}
		if l.trace != nil {
			g.Time = fmt.Sprintf("%.3g ms", took.Seconds()*1e3)
			g.Share = int(100 * took.Seconds() / max(l.trace.Total.Seconds(), 1e-9))
		}
		total += took
		list = append(list, g)
	}
	return list, total
}

// operations is a number of them for people.
func operations(n float64) string {
	unit := 0
	for n >= 1000 && unit < 4 {
		n /= 1000
		unit++
	}
	return fmt.Sprintf("%.3g %s", n, []string{"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP"}[unit])
}

//go:embed graph.html
var graphPage string

var graphTemplate = template.Must(template.New("graph").Parse(graphPage))

// writePage writes the program as a page on which a group opens.
func (l *listing) writePage(w io.Writer, device string) error {
	groups, inSteps := l.groups(l.Plan().Steps, 1)
	page := struct {
		Title, Device, Time, Memory string
		Groups                      []group
	}{Title: l.Plan().Graph.Name(), Device: device, Groups: groups, Memory: report.Bytes(l.Memory())}
	if l.trace != nil {
		page.Time = fmt.Sprintf("%.4g ms, of which %.4g in the steps", l.trace.Total.Seconds()*1e3, inSteps.Seconds()*1e3)
	}
	return graphTemplate.Execute(w, page)
}

// writeTrace writes the traced run in Chrome's trace format, for chrome://tracing
// and Perfetto.
func (l *listing) writeTrace(w io.Writer) error {
	type event struct {
		Name     string         `json:"name"`
		Category string         `json:"cat"`
		Phase    string         `json:"ph"`
		Start    float64        `json:"ts"` // microseconds, as the next
		Duration float64        `json:"dur"`
		Process  int            `json:"pid"`
		Thread   int            `json:"tid"` // 0: the whole device, then the workers
		Args     map[string]any `json:"args"`
	}
	attack, p := ofAttack(l.Plan()), l.Plan()
	names := map[*plan.Step]string{}
	events := []event{}
	for _, s := range l.trace.Spans {
		if names[s.Step] == "" {
			names[s.Step], _, _ = strings.Cut(strings.TrimSpace(p.Text(s.Step)), "\n")
		}
		e := event{Name: names[s.Step], Category: "update", Phase: "X", Start: float64(s.Start.Nanoseconds()) / 1e3, Duration: float64((s.End - s.Start).Nanoseconds()) / 1e3, Process: 1, Thread: s.Worker}
		if attack[s.Step] {
			e.Category = "attack"
		}
		cost := p.Cost(s.Step)
		e.Args = map[string]any{"bytes": cost.Read + cost.Written, "flops": cost.FLOPs}
		events = append(events, e)
	}
	return json.NewEncoder(w).Encode(map[string]any{"traceEvents": events, "displayTimeUnit": "ms"})
}

// warmUp is how many steps run before one is timed, and timedSteps how many are:
// the shortest is shown.
const (
	warmUp     = 2
	timedSteps = 3
)

// profile runs the settings' training step on its first batch, from the weights
// that training starts from, with every part timed. They may be those of the run
// in dir.
func profile(c Console, s *Settings, dir string) (l *listing, device string, close func(), err error) {
	t, err := newTrainer(c, s, dir)
	if err != nil {
		return nil, "", nil, err
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if err := t.initialize(); err != nil {
		return nil, "", nil, err
	}
	stream, err := t.open()
	if err != nil {
		return nil, "", nil, err
	}
	defer stream.Close()
	if err := t.fetch(stream); err != nil {
		return nil, "", nil, err
	}
	for range warmUp {
		if _, err = t.launch(t.ahead, 0); err != nil {
			return nil, "", nil, err
		}
	}
	e, err := t.program.For(t.ahead.N)
	if err != nil {
		return nil, "", nil, err
	}
	var best *engine.Trace
	for range timedSteps {
		trace, err := e.Trace()
		if err != nil {
			return nil, "", nil, err
		}
		if best == nil || trace.Total < best.Total {
			best = trace
		}
	}
	defer t.ahead.Release()
	l = newListing(e, best)
	l.batch = t.ahead.N
	return l, t.describe(), t.close, nil
}

// page writes the program as HTML, and the trace, as far as they are asked for.
func (o GraphOptions) page(c Console, s *Settings, dir string) error {
	if o.Profile || o.Trace != "" {
		if o.Program != Programs[0] {
			return usage("--profile and --trace are for the program step")
		}
		l, device, done, err := profile(c, s, dir)
		if err != nil {
			return err
		}
		defer done()
		if o.Trace != "" {
			if err := run.WriteFileAtomic(o.Trace, l.writeTrace); err != nil {
				return err
			}
			c.say("trace written to %s: open it in chrome://tracing or ui.perfetto.dev", o.Trace)
		}
		if o.Format != "html" {
			r := l.profile(device, s)
			return c.result(r, r.print)
		}
		return l.writePage(c.Out, device)
	}
	g, err := s.program(o.Program)
	if err != nil {
		return err
	}
	compile, err := compileOptions(s.Precision, s.ExactConv)
	if err != nil {
		return err
	}
	dev, err := engine.Open(s.Device, engine.DeviceOptions{Threads: s.Threads, Note: c.note})
	if err != nil {
		return err
	}
	defer dev.Close()
	if dir != "" {
		recallTuning(c, dev, dir)
	}
	state := dev.NewState()
	defer state.Free()
	e, err := dev.Compile(g, state, compile)
	if err != nil {
		return err
	}
	defer e.Close()
	i := dev.Info()
	return newListing(e, nil).writePage(c.Out, fmt.Sprintf("%s: %s (%s)", i.Spec, i.Name, i.Detail))
}

// bytes is what a run of a step moves: its kernels, where the device says which
// they are, since a step before it may have done its work.
func (l *listing) bytes(s *plan.Step) (n int) {
	kernels := l.Kernels(s)
	if kernels == nil {
		cost := l.Plan().Cost(s)
		return cost.Read + cost.Written
	}
	for _, k := range kernels {
		n += k.Bytes
	}
	return n
}
