package job

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/plan"
)

// GraphOptions is a command line of temper graph.
type GraphOptions struct {
	Program string // step, eval or init
	Pass    string // the pass after which to print; "input": before all; "": after all
	Plan    bool   // print the plan instead
	Format  string // one of GraphFormats
	Profile bool   // run the step and say what its parts take
	Trace   string // file for the timed run in Chrome's format; "": none
	Root    string // folder of run folders
	Run     string // a run whose programs to print; "": those of new settings
	User    []Assignment
}

// Programs lists the programs of a run that temper graph prints.
var Programs = []string{"step", "eval", "init"}

// PassNames lists what GraphOptions.Pass takes.
func PassNames() []string {
	names := []string{"input"}
	for _, p := range passes.Table() {
		names = append(names, p.Name)
	}
	return names
}

// GraphFormats are what GraphOptions.Format takes.
var GraphFormats = []string{"text", "dot", "html"}

// Graph is temper graph: the program as the device of the settings gets it. Where the settings have several methods it prints the
// last one's.
func Graph(c Console, o GraphOptions) error {
	if !slices.Contains(Programs, o.Program) {
		return usage("unknown program %q: want one of %s", o.Program, strings.Join(Programs, ", "))
	}
	if o.Pass != "" && !slices.Contains(PassNames(), o.Pass) {
		return usage("unknown pass %q%s: want one of %s", o.Pass, run.DidYouMean(o.Pass, PassNames()), strings.Join(PassNames(), ", "))
	}
	if o.Plan && o.Pass != "" {
		return usage("--plan is made after all passes: leave --pass out")
	}
	shown := o.Profile || o.Trace != "" || o.Format == "html" // as the device runs it
	switch {
	case !slices.Contains(GraphFormats, o.Format):
		return usage("unknown format %q%s: want one of %s", o.Format, run.DidYouMean(o.Format, GraphFormats), strings.Join(GraphFormats, ", "))
	case shown && (o.Pass != "" || o.Plan):
		return usage("--profile, --trace and --format html show what runs, after all passes: leave --pass and --plan out")
	case c.JSON && o.Format == "html":
		return usage("--format html is a page: leave --json out, or take --profile --json")
	case o.Format == "dot" && (o.Plan || o.Profile || o.Trace != ""):
		return usage("--format dot is for the graph: leave --plan, --profile and --trace out")
	}
	dir, s, err := o.settings()
	if err != nil {
		return err
	}
	if shown {
		return o.page(c, s, dir)
	}
	g, err := s.program(o.Program)
	if err != nil {
		return err
	}
	texts := map[string]string{}
	dev, err := engine.Open(s.Device, engine.DeviceOptions{})
	if err != nil {
		return err
	}
	defer dev.Close()
	compile, err := compileOptions(s.Precision, s.ExactConv)
	if err != nil {
		return err
	}
	target, err := dev.Target(compile.Precision)
	if err != nil {
		return err
	}
	options := passes.Options{Target: target, Off: compile.Passes.Off}
	write := (*graph.Graph).String
	if o.Format == "dot" {
		write = (*graph.Graph).DOT
	}
	options.Dump = func(pass string, g *graph.Graph) { texts[pass] = write(g) }
	final, err := passes.Run(g, options)
	if err != nil {
		return err
	}
	text := write(final)
	switch {
	case o.Plan:
		text = plan.Build(final, target.Plan(plan.Options{})).String()
	case o.Pass != "":
		if text = texts[o.Pass]; text == "" {
			return usage("the pass %q is not for %s", o.Pass, dev.Info().Spec)
		}
	}
	return c.result(map[string]string{"program": o.Program, "pass": o.Pass, "text": text}, func(w io.Writer) {
		fmt.Fprint(w, text)
	})
}

// settings are the run's, which is in dir, or those that the user makes.
func (o GraphOptions) settings() (dir string, s *Settings, err error) {
	if o.Run != "" {
		if dir, s, err = openRun(o.Root, o.Run); err != nil {
			return "", nil, err
		}
		return dir, s, s.move(o.User)
	}
	list, err := Resolve(o.User)
	if err != nil {
		return "", nil, err
	}
	return "", &list[len(list)-1], nil
}

// program builds one of a run's programs for a full batch.
func (s *Settings) program(name string) (*graph.Graph, error) {
	in, err := datasets.Describe(s.Data.Name, s.Data.Dir, datasets.Test, s.options())
	if err != nil {
		return nil, err
	}
	m, err := s.model(in)
	if err != nil {
		return nil, err
	}
	switch name {
	case "step":
		return s.stepGraph(m, in, s.Batches.Size)
	case "eval":
		return adversarial.EvalGraph(m, &s.Eval.Attack, s.Threat, s.Eval.BatchSize, inputType(in))
	}
	return m.InitGraph(), nil
}
