package passes

import (
	"fmt"
	"slices"
	"strings"

	"temper/engine/graph"
	"temper/engine/plan"
)

// Pass is one rewrite.
type Pass struct {
	Name string
	Doc  string
	// Required passes cannot be switched off: what follows relies on them.
	Required bool
	Run      func(*graph.Graph, Target) (*graph.Graph, error)
	// For says whether the pass serves a target; nil is every target.
	For func(Target) bool
}

// Target is what a back end wants of the graphs that it runs. The zero value
// asks for none of the passes that only some back ends want.
type Target struct {
	// ChannelsLast asks for NHWC convolutions and pooling.
	ChannelsLast bool
	// BF16 says that the device multiplies bf16 operands.
	BF16 bool
	// Precision is asked for of float32 products. That of bf16 needs BF16.
	Precision graph.Precision
	// LessTraffic asks the plan to compute again what would take longer to read,
	// and for groups of operations right behind the contractions that they read.
	LessTraffic bool
	// Prologues asks for groups in the convolutions that read them.
	Prologues bool
	// Branches asks for schedules with branches that run at once.
	Branches bool
	// PackedFilters asks for filters in panels and for Winograd's algorithm.
	PackedFilters bool
	// RowBytes asks for the depth-first schedule of what is independent from
	// sample to sample, with temporaries of about so many bytes a worker.
	RowBytes int
}

// Plan adds to options what the target asks of the plan.
func (t Target) Plan(o plan.Options) plan.Options {
	o.LessTraffic = o.LessTraffic || t.LessTraffic
	o.Prologues = o.Prologues || t.Prologues
	o.Branches = o.Branches || t.Branches
	return o
}

// table is the order of the passes. Sharing equal nodes and dropping dead ones
// happens in every rewrite; the passes named after them do it where nothing
// else changes, so that their effect can be seen alone.
var table = []Pass{
	{"dead-code", "drop what no output or assignment needs, dead loop results included", false, plain(deadCode), nil},
	{"strip", "remove stop-gradient, which means nothing once derivatives are taken", true, plain(strip), nil},
	{"widen", "write bf16 arithmetic as float32 arithmetic, rounded", true, plain(widen), nil},
	{"stabilise", "write log of a sum of exponentials relative to the maximum", false, plain(stabilise), nil},
	{"fold", "compute operations on constants", false, plain(fold), nil},
	{"simplify", "algebra that keeps every value: x·1, double transposes, chains of reshapes", false, plain(simplify), nil},
	{"narrow", "compute before broadcasting, not after", false, plain(narrow), nil},
	{"sums", "take sums of linear expressions apart where their parts' sums are known", false, plain(sums), nil},
	{"fold-affine", "move a per-channel factor behind a convolution into its filter", false, plain(foldAffine), nil},
	{"channels-last", "write convolutions in NHWC, and what stands between them", true, plain(channelsLast), func(t Target) bool { return t.ChannelsLast }},
	{"precision", "multiply at the precision asked for, and in bf16 what is bf16 before and after", true, precision, func(t Target) bool { return t.BF16 }},
	{"storage", "in bf16, keep residual sums and images' gradients in bf16", true, storage, func(t Target) bool { return t.BF16 }},
	{"winograd", "compute 3×3 and 5×5 convolutions with a quarter of the multiplications, or a sixth", false, plain(winograd), packedFilters},
	{"pack", "pack the filters of convolutions in panels", false, plain(pack), packedFilters},
	{"hoist", "compute loop invariants once, before the loop", false, plain(hoist), nil},
	{"clean", "fold and simplify again what the rewrites above left", false, plain(clean), nil},
	{"dead-loop", "drop loop results that lost their last use", false, plain(deadCode), nil},
	{"rows", "outline what is independent from sample to sample: chunks that run side by side", false, rows, func(t Target) bool { return t.RowBytes > 0 }},
}

func packedFilters(t Target) bool { return t.PackedFilters }

// constraints on the order of the table, each with its reason.
var constraints = []struct{ first, then, reason string }{
	{"dead-code", "strip", "the listing after dead-code is the first that a reader wants; it should still show stop-gradient"},
	{"strip", "stabilise", "the pattern log(sum(exp)) must not be interrupted by stop-gradient"},
	{"strip", "simplify", "algebra looks at direct operands"},
	{"strip", "widen", "a stop-gradient is no arithmetic"},
	{"widen", "fold", "constants of bf16 become constants of f32"},
	{"stabilise", "hoist", "a hoisted exponential would hide half of the pattern"},
	{"fold", "simplify", "simplify recognises constants by value"},
	{"simplify", "narrow", "narrow looks for broadcasts directly under element-wise operations"},
	{"narrow", "sums", "narrow brings per-channel factors together under one broadcast"},
	{"sums", "channels-last", "per-channel factors stand directly under their broadcasts"},
	{"narrow", "fold-affine", "the per-channel factor must stand before its broadcast"},
	{"fold-affine", "hoist", "the scaled filter is invariant in an attack loop and should leave it"},
	{"narrow", "channels-last", "narrow would move arithmetic above the reshapes of per-channel values"},
	{"fold-affine", "channels-last", "fold-affine looks for the factor of an NCHW convolution"},
	{"channels-last", "hoist", "the filter's transpose is invariant in an attack loop and should leave it"},
	{"channels-last", "precision", "the rounding should stand right at the contractions, behind the transposes"},
	{"precision", "storage", "what is bf16 for a product is known then"},
	{"precision", "hoist", "the rounded weights are invariant in an attack loop and should leave it"},
	{"channels-last", "winograd", "the kernels take NHWC"},
	{"winograd", "pack", "pack takes what winograd leaves"},
	{"pack", "hoist", "a packed filter is invariant in an attack loop and should leave it"},
	{"hoist", "clean", "hoisting brings constants and broadcasts together"},
	{"clean", "dead-loop", "cleaning may take the last use of a loop's result"},
	{"dead-loop", "rows", "an attack loop must hold nothing but the ascent to be independent from sample to sample"},
}

// plain is a pass that is the same for all targets.
func plain(run func(*graph.Graph) (*graph.Graph, error)) func(*graph.Graph, Target) (*graph.Graph, error) {
	return func(g *graph.Graph, _ Target) (*graph.Graph, error) { return run(g) }
}

func init() {
	for _, c := range constraints {
		i, j := index(c.first), index(c.then)
		if i < 0 || j < 0 || i >= j {
			panic(fmt.Sprintf("BUG: passes: %s must run before %s: %s", c.first, c.then, c.reason))
		}
	}
}

func index(name string) int {
	return slices.IndexFunc(table, func(p Pass) bool { return p.Name == name })
}

// Table lists the passes in the order in which they run.
func Table() []Pass { return slices.Clone(table) }

// Options choose what Run does.
type Options struct {
	// Target is what the device wants that a graph is compiled for; tests set
	// their own.
	Target Target
	// Off names passes to leave out. Required ones cannot be.
	Off []string
	// Dump, if not nil, is called with "input" and the graph as built, then
	// with each pass's name and the graph after it.
	Dump func(pass string, g *graph.Graph)
}

// Run takes a graph through the table, checking it after every pass.
func Run(g *graph.Graph, o Options) (*graph.Graph, error) {
	for _, name := range o.Off {
		i := index(name)
		if i < 0 {
			return nil, fmt.Errorf("no pass is called %q: the passes are %s", name, strings.Join(names(), ", "))
		}
		if table[i].Required {
			return nil, fmt.Errorf("the pass %q cannot be switched off", name)
		}
	}
	if err := graph.Verify(g); err != nil {
		return nil, err
	}
	if o.Dump != nil {
		o.Dump("input", g)
	}
	for _, p := range table {
		if slices.Contains(o.Off, p.Name) || p.For != nil && !p.For(o.Target) {
			continue
		}
		h, err := p.Run(g, o.Target)
		if err == nil {
			err = graph.Verify(h)
		}
		if err != nil {
			panic(fmt.Sprintf("BUG: pass %s: %v", p.Name, err))
		}
		if g = h; o.Dump != nil {
			o.Dump(p.Name, g)
		}
	}
	return g, nil
}

// Inexact lists the passes to leave out where convolutions are to be computed
// by their definition.
func Inexact() []string { return []string{"winograd"} }

func names() []string {
	var out []string
	for _, p := range table {
		out = append(out, p.Name)
	}
	return out
}

// splat is the value of a constant whose elements are all equal.
func splat(n *graph.Node) (float64, bool) {
	if n.Op() == graph.OpConst && len(n.Attrs().Values) == 1 {
		return n.Attrs().Values[0], true
	}
	return 0, false
}

func isSplat(n *graph.Node, v float64) bool {
	c, ok := splat(n)
	return ok && c == v
}
