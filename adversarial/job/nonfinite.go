package job

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"temper/engine"
	"temper/engine/graph"
)

// checked is a copy of a graph that also counts, for every floating-point value
// of it, the elements that are not finite: per iteration where the value stands
// in a loop. Being a graph it needs nothing of a back end.
type checked struct {
	g     *graph.Graph
	image map[*graph.Node]*graph.Node
	// counts are i32; outside loops scalars, else (trips, …), outer loop first.
	counts map[*graph.Node]*graph.Node
	source *graph.Graph
}

// addChecks makes the checked copy of g, which has no error.
func addChecks(g *graph.Graph) (*checked, error) {
	c := &checked{g: graph.New(g.Name() + " checked"), source: g,
		image: map[*graph.Node]*graph.Node{}, counts: map[*graph.Node]*graph.Node{}}
	live := graph.Live(g)
	c.block(g.Root(), live)
	for _, o := range g.Outputs() {
		c.g.Output(o.Name, c.image[o.Node])
	}
	for n, count := range c.counts {
		c.g.Output(checkName(n), count)
	}
	return c, c.g.Err()
}

func checkName(n *graph.Node) string { return fmt.Sprintf("nonfinite/%d", n.ID()) }

// block copies the live nodes of a block, and the inputs and scalars that
// callers set whether they are live or not. It returns the nodes it counts.
func (c *checked) block(b *graph.Block, live map[*graph.Node]bool) (counted []*graph.Node) {
	for _, n := range b.Nodes() {
		dead := !live[n] && n.Op() != graph.OpInput && n.Op() != graph.OpScalar
		if dead || n.Op() == graph.OpParam {
			continue
		}
		ins := make([]*graph.Node, len(n.Ins()))
		for i, in := range n.Ins() {
			ins[i] = c.image[in]
		}
		if n.Op() == graph.OpLoop {
			counted = append(counted, c.loop(n, ins, live)...)
			continue
		}
		c.image[n] = c.g.MakeTyped(n.Op(), *n.Attrs(), n.DType(), n.Shape(), ins...)
		if n.DType().Float() && n.Op() != graph.OpConst {
			c.counts[n] = countNonFinite(c.image[n])
			counted = append(counted, n)
		}
	}
	return counted
}

// loop copies a loop and stacks the counts of its body.
func (c *checked) loop(n *graph.Node, ins []*graph.Node, live map[*graph.Node]bool) []*graph.Node {
	params := n.Body().Params()
	var dtypes []graph.DType
	var shapes []graph.Shape
	for _, p := range params[1:] {
		dtypes, shapes = append(dtypes, p.DType()), append(shapes, p.Shape())
	}
	body := c.g.OpenBody(dtypes, shapes)
	for i, p := range params {
		c.image[p] = body.Params()[i]
	}
	counted := c.block(n.Body(), live)
	var results []*graph.Node
	for _, r := range n.Body().Results() {
		results = append(results, c.image[r])
	}
	own := len(results)
	for _, m := range counted {
		results = append(results, c.counts[m])
	}
	c.g.CloseBody(results...)
	loop := c.g.MakeLoop(n.Attrs().Trips, n.Attrs().Carry, body, ins...)
	c.image[n] = loop
	for i, m := range counted {
		c.counts[m] = c.g.Make(graph.OpGet, graph.Attrs{Index: own + i}, loop)
	}
	return counted
}

func countNonFinite(x *graph.Node) *graph.Node {
	return x.Abs().Lt(x.C(math.Inf(1))).Not().Convert(graph.I32).Sum()
}

// first finds, after a run of the checked program, the first value in the
// order of computation that has elements that are not finite although all that
// it was computed from is finite. Infinities that a formula means, such as the
// −∞ that masks a class, come from constants and are passed over.
func (c *checked) first(e *engine.Executable) (string, error) {
	counts := map[*graph.Node][]byte{}
	for n := range c.counts {
		b, err := e.FetchBytes(checkName(n))
		if err != nil {
			return "", err
		}
		counts[n] = b
	}
	w := &walk{counts: counts, numbers: map[*graph.Node]int{}}
	number(c.source.Root(), w.numbers)
	w.block(c.source.Root())
	return w.found, nil
}

// walk follows the order of computation.
type walk struct {
	counts  map[*graph.Node][]byte
	numbers map[*graph.Node]int
	at      []int // the iteration of each loop that is entered, outermost first
	trips   []int
	found   string
}

func (w *walk) block(b *graph.Block) {
	for _, n := range b.Nodes() {
		if w.found != "" {
			return
		}
		if n.Op() == graph.OpLoop {
			w.loop(n)
			continue
		}
		if count := w.count(n); count > 0 && !slices.ContainsFunc(n.Ins(), w.bad) {
			w.found = w.describe(n, count)
		}
	}
}

func (w *walk) loop(n *graph.Node) {
	w.trips, w.at = append(w.trips, n.Attrs().Trips), append(w.at, 0)
	for i := range n.Attrs().Trips {
		w.at[len(w.at)-1] = i
		w.block(n.Body())
	}
	w.trips, w.at = w.trips[:len(w.trips)-1], w.at[:len(w.at)-1]
}

// bad reports whether an operand of the node being visited is not finite, as
// far as that is known: a loop's parameters and results are.
func (w *walk) bad(n *graph.Node) bool {
	if n.Op() == graph.OpConst {
		return slices.ContainsFunc(n.Attrs().Values, func(v float64) bool { return math.IsInf(v, 0) || math.IsNaN(v) })
	}
	return w.count(n) > 0
}

// count is the number of elements of n that are not finite in the iteration
// that the walk is at.
func (w *walk) count(n *graph.Node) int32 {
	b := w.counts[n]
	if b == nil {
		return 0
	}
	depth := 0
	for p := n.Block().Parent(); p != nil; p = p.Parent() {
		depth++
	}
	i := 0
	for d := range depth {
		i = i*w.trips[d] + w.at[d]
	}
	return int32(uint32(b[4*i]) | uint32(b[4*i+1])<<8 | uint32(b[4*i+2])<<16 | uint32(b[4*i+3])<<24)
}

// describe names a value as temper graph --pass input does, and the named
// values that it is computed from.
func (w *walk) describe(n *graph.Node, count int32) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%%%d, %v %v%v", w.numbers[n], n.Op(), n.DType(), n.Shape())
	var names []string
	for _, m := range append([]*graph.Node{n}, n.Ins()...) {
		if name := cmp.Or(m.Label(), m.Attrs().Name); name != "" {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		fmt.Fprintf(&s, " of %s", strings.Join(names, ", "))
	}
	for _, i := range w.at {
		fmt.Fprintf(&s, ", loop iteration %d", i+1)
	}
	fmt.Fprintf(&s, ": %d of %d elements", count, n.Size())
	return s.String()
}

// number gives the values of a block the numbers of the graph's text form.
func number(b *graph.Block, numbers map[*graph.Node]int) {
	for _, n := range b.Nodes() {
		if n.Op() == graph.OpParam {
			continue
		}
		numbers[n] = len(numbers)
		if n.Op() == graph.OpLoop {
			for _, p := range n.Body().Params() {
				numbers[p] = len(numbers)
			}
			number(n.Body(), numbers)
		}
	}
}
