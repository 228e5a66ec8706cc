package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"temper/adversarial/run"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/passes"
)

// Command is a command line of temper bench.
type Command struct {
	Suite   string // one of Suites
	Match   string // a regular expression that the cases' names match
	Device  string
	Threads int // 0: all
	// Precision of temper's products, and of the peer's.
	Precision string
	ExactConv bool // no Winograd
	Seconds   float64
	Peer      bool
	Python    string
	Skip      []string // variants of the peer to leave out
	Format    string   // table, json, go
	List      bool     // only print the names
	Against   string   // JSON of an earlier run to compare with; "": none
}

// Formats are what Command.Format takes.
var Formats = []string{"table", "json", "go"}

// Precisions are what Command.Precision takes.
var Precisions = graph.Precisions()

// Check reports the first thing about the command line that makes no sense.
func (c Command) Check() error {
	if _, err := regexp.Compile(c.Match); err != nil {
		return fmt.Errorf("--match: %w", err)
	}
	for _, f := range []struct {
		flag, got string
		known     []string
	}{{"suite", c.Suite, Suites}, {"format", c.Format, Formats}, {"precision", c.Precision, Precisions}} {
		if !slices.Contains(f.known, f.got) {
			return fmt.Errorf("--%s %q: want one of %s", f.flag, f.got, strings.Join(f.known, ", "))
		}
	}
	for _, v := range c.Skip {
		if !slices.Contains(Variants, v) {
			return fmt.Errorf("--skip %q: the peer's variants are %s", v, strings.Join(Variants, ", "))
		}
	}
	if c.Seconds <= 0 || c.Seconds > 3600 {
		return fmt.Errorf("--seconds %v: want more than 0, at most 3600", c.Seconds)
	}
	return nil
}

// Run measures the cases one by one, telling progress as it goes, and writes
// the report.
func (c Command) Run(out, progress io.Writer) error {
	cases := Suite(c.Suite, regexp.MustCompile(c.Match))
	if len(cases) == 0 {
		return fmt.Errorf("no case of the suite %s matches %q: see temper bench --list", c.Suite, c.Match)
	}
	if c.List {
		for _, s := range cases {
			line := s.Name()
			if c.Format == "json" {
				line = fmt.Sprintf(`{"case":%q}`, line)
			}
			fmt.Fprintln(out, line)
		}
		return nil
	}
	precision, err := graph.ParsePrecision(c.Precision)
	if err != nil {
		return err
	}
	var then *Report
	if c.Against != "" { // before the work: it may not be there
		var err error
		if then, err = ReadReport(c.Against); err != nil {
			return fmt.Errorf("--against: %w", err)
		}
	}
	dev, err := engine.Open(c.Device, engine.DeviceOptions{Threads: c.Threads})
	if err != nil {
		return err
	}
	defer dev.Close()
	if _, err := dev.Target(precision); err != nil {
		return err
	}
	o := Options{Budget: time.Duration(c.Seconds * float64(time.Second)), Compile: engine.Options{Precision: precision}}
	o.Variants = slices.DeleteFunc(slices.Clone(Variants), func(v string) bool { return slices.Contains(c.Skip, v) })
	r := &Report{Device: dev.Info(), Precision: precision.String()}
	if c.ExactConv {
		o.Compile.Passes.Off = passes.Inexact()
		r.Precision += ", exact convolutions"
	}
	if c.Peer {
		threads := c.Threads
		if threads == 0 {
			threads = runtime.GOMAXPROCS(0)
		}
		if o.Peer, err = OpenPeer(c.Python, threads, strings.HasPrefix(dev.Info().Spec, "cuda"), c.Precision); err != nil {
			return err
		}
		defer o.Peer.Close()
		r.Peer = o.Peer.Version
	}
	limits, err := openProbes(dev, o)
	if err != nil {
		return err
	}
	if limits != nil {
		r.Ceilings = &Ceilings{}
		defer limits.close()
	}
	for i, s := range cases {
		fmt.Fprintf(progress, "%d/%d %s\n", i+1, len(cases), s.Name())
		if limits != nil {
			if err := limits.measure(r.Ceilings); err != nil {
				return err
			}
		}
		res, err := Measure(dev, s, o)
		if err != nil {
			return err
		}
		for v, why := range res.Skipped {
			fmt.Fprintf(progress, "  %s: %s\n", v, why)
		}
		r.Results = append(r.Results, res)
	}
	env := run.CurrentEnvironment("")
	if r.Commit, r.Go = env.Commit, env.Go; env.Modified {
		r.Commit += "+"
	}
	if then != nil {
		r.Changes = r.Against(then)
	}
	switch c.Format {
	case "json":
		return json.NewEncoder(out).Encode(r)
	case "go":
		r.GoFormat(out)
	default:
		r.Table(out)
		if then != nil {
			r.writeAgainst(out, then, c.Against)
		}
	}
	return nil
}
