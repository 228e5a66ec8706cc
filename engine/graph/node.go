package graph

import (
	"fmt"
	"strings"
)

// Attrs are the static attributes of an operation. Which of them an op has is
// in its line of the op table; the rest are zero.
type Attrs struct {
	Name       string    // input, state, scalar: its name; random: its site
	Values     []float64 // const: one value for all elements, or all of them
	Axis       int
	Axes       []int
	Lo, Hi     []int
	Step       []int
	Size       []int  // scatter-add (1), dyn-slice, dyn-pad, random: extents; conv gradients: (h,w); packed-conv2d: (h,w,c)
	Kernel     [2]int // (h,w), as are the next three
	Stride     [2]int
	Pad        [2]int // on both sides
	Dilation   [2]int
	Layout     Layout
	Algorithm  Algorithm
	Pool       [2]int    // pack-filter, packed-conv2d: (h,w) of the windows behind Pooled
	Precision  Precision // of a float32 product
	InputGrad  bool      // pack-filter, packed-conv2d: of the gradient with respect to images
	TA, TB     bool      // matmul: operand is transposed in its last two axes
	Descending bool
	Trips      int
	Carry      int // loop: how many operands are carried; the rest are scanned
	Index      int // get, param
}

// Node is one value of a graph. Nodes are immutable; equal ones are the same.
type Node struct {
	id    int
	op    Op
	ins   []*Node
	dtype DType
	shape Shape
	attrs Attrs
	block *Block
	body  *Block // loop only
	label string
	key   string
}

// Op is the node's operation.
func (n *Node) Op() Op { return n.op }

// ID numbers the nodes of a graph in the order of their creation.
func (n *Node) ID() int { return n.id }

// Ins are the operands. The slice must not be changed.
func (n *Node) Ins() []*Node { return n.ins }

// In is operand i.
func (n *Node) In(i int) *Node { return n.ins[i] }

// DType is the element type.
func (n *Node) DType() DType { return n.dtype }

// Shape is the result's shape. The slice must not be changed. After an error
// has stuck to the graph it may be empty: Dim and Rank are safe then.
func (n *Node) Shape() Shape { return n.shape }

// Rank is the number of axes.
func (n *Node) Rank() int { return len(n.shape) }

// Dim is the extent of an axis; a negative axis counts from the end.
func (n *Node) Dim(axis int) int {
	if axis < 0 {
		axis += len(n.shape)
	}
	if axis < 0 || axis >= len(n.shape) {
		n.g().failf("axis %d of a tensor of shape %v", axis, n.shape)
		return 1
	}
	return n.shape[axis]
}

// Size is the number of elements.
func (n *Node) Size() int { return n.shape.Size() }

// Attrs are the static attributes. Their slices must not be changed.
func (n *Node) Attrs() *Attrs { return &n.attrs }

// Block is the block in which the node stands.
func (n *Node) Block() *Block { return n.block }

// Body is a loop's body, nil for all other operations.
func (n *Node) Body() *Block { return n.body }

// Graph is the graph that the node belongs to.
func (n *Node) Graph() *Graph { return n.block.graph }

// Label is the name given by Named, or "".
func (n *Node) Label() string { return n.label }

// Named gives the node a name for messages and listings; the first one stays.
// It is no part of the node's identity.
func (n *Node) Named(label string) *Node {
	if n.label == "" {
		n.label = label
	}
	return n
}

func (n *Node) g() *Graph     { return n.block.graph }
func (n *Node) poison() bool  { return n.op == OpInvalid }
func (n *Node) typed() string { return n.dtype.String() + n.shape.String() }

// Block is a list of nodes in topological order: a graph's top level, or the
// body of a loop.
type Block struct {
	graph   *Graph
	parent  *Block // nil at top level
	params  []*Node
	nodes   []*Node
	results []*Node
	interns map[string]*Node
}

// Nodes lists the block's nodes, operands before users.
func (b *Block) Nodes() []*Node { return b.nodes }

// Params are the parameters of a loop body: the iteration's index (i32), the
// carried values, then the slices of the scanned operands.
func (b *Block) Params() []*Node { return b.params }

// Results are what a loop body yields: the next carried values, then the
// values to be stacked over the iterations.
func (b *Block) Results() []*Node { return b.results }

// Parent is the block around a loop body, nil at top level.
func (b *Block) Parent() *Block { return b.parent }

// Encloses reports whether nodes of b may be read in c.
func (b *Block) Encloses(c *Block) bool {
	for ; c != nil; c = c.parent {
		if c == b {
			return true
		}
	}
	return false
}

// Output is a named result of a graph.
type Output struct {
	Name string
	Node *Node
}

// Assign replaces a state by a value when the step is done.
type Assign struct{ State, Value *Node }

// Graph is one program: values, named outputs and assignments to state. It is
// built by one goroutine.
type Graph struct {
	name    string
	root    *Block
	cur     *Block
	count   int
	invalid *Node
	outputs []Output
	assigns []Assign
	err     error
}

// New starts an empty graph.
func New(name string) *Graph {
	g := &Graph{name: name}
	g.root = g.newBlock(nil)
	g.cur = g.root
	g.invalid = &Node{op: OpInvalid, block: g.root, id: -1}
	return g
}

func (g *Graph) newBlock(parent *Block) *Block {
	return &Block{graph: g, parent: parent, interns: map[string]*Node{}}
}

// Name is the name given to New.
func (g *Graph) Name() string { return g.name }

// Root is the top-level block.
func (g *Graph) Root() *Block { return g.root }

// Outputs lists the named results in the order of their declaration.
func (g *Graph) Outputs() []Output { return g.outputs }

// Assigns lists the assignments in the order of their declaration.
func (g *Graph) Assigns() []Assign { return g.assigns }

// Output names a result. Names are unique; the node must be at top level.
func (g *Graph) Output(name string, n *Node) {
	if g.check(n) {
		return
	}
	for _, o := range g.outputs {
		if o.Name == name {
			g.failf("two outputs are named %q", name)
			return
		}
	}
	if n.block != g.root {
		g.failf("output %q is a value of a loop body: yield it", name)
		return
	}
	g.outputs = append(g.outputs, Output{name, n})
}

// Assign replaces state by value at the end of the step; until then every
// read of the state sees its old value. It is allowed at top level only.
func (g *Graph) Assign(state, value *Node) {
	if g.check(state, value) {
		return
	}
	if err := g.checkAssign(state, value); err != nil {
		g.fail(err)
		return
	}
	g.assigns = append(g.assigns, Assign{state, value})
}

func (g *Graph) checkAssign(state, value *Node) error {
	switch {
	case state.op != OpState:
		return fmt.Errorf("assign to %v: only state can be assigned", state.op)
	case g.cur != g.root || value.block != g.root:
		return fmt.Errorf("assign to %q inside a loop: carry the value and assign the loop's result", state.attrs.Name)
	case state.dtype != value.dtype || !state.shape.Equal(value.shape):
		return fmt.Errorf("assign to %q of type %s: the value is %s", state.attrs.Name, state.typed(), value.typed())
	}
	for _, a := range g.assigns {
		if a.State == state {
			return fmt.Errorf("state %q is assigned twice", state.attrs.Name)
		}
	}
	return nil
}

// Make adds one operation to the current block, or finds the equal one that is
// visible from it. The builders are wrappers around it; passes call it.
func (g *Graph) Make(op Op, attrs Attrs, ins ...*Node) *Node {
	return g.make(op, attrs, InvalidType, nil, ins)
}

// MakeTyped is Make for the operations whose type does not follow from their
// operands: leaves, convert, broadcast, reshape, iota.
func (g *Graph) MakeTyped(op Op, attrs Attrs, dtype DType, shape Shape, ins ...*Node) *Node {
	return g.make(op, attrs, dtype, shape, ins)
}

func (g *Graph) make(op Op, attrs Attrs, dtype DType, shape Shape, ins []*Node) *Node {
	if g.check(ins...) {
		return g.invalid
	}
	n := &Node{op: op, ins: ins, attrs: attrs, dtype: dtype, shape: shape, block: g.cur}
	if err := infer(n); err != nil {
		g.fail(err)
		return g.invalid
	}
	n.key = n.identity()
	for b := g.cur; b != nil; b = b.parent {
		if old := b.interns[n.key]; old != nil {
			return old
		}
	}
	g.cur.interns[n.key] = n
	return g.add(n)
}

func (g *Graph) add(n *Node) *Node {
	n.id = g.count
	g.count++
	g.cur.nodes = append(g.cur.nodes, n)
	return n
}

// check reports whether the graph or an operand is already in error, and
// refuses operands that cannot be read in the current block.
func (g *Graph) check(ins ...*Node) (bad bool) {
	if g.err != nil {
		return true
	}
	for _, n := range ins {
		switch {
		case n == nil:
			g.failf("an operand is nil")
		case n.poison():
		case n.g() != g:
			g.failf("an operand (%v %s) belongs to another graph", n.op, n.typed())
		case !n.block.Encloses(g.cur):
			g.failf("a value of a loop body (%v %s) is used outside it: yield it", n.op, n.typed())
		}
		if g.err != nil {
			return true
		}
	}
	return false
}

// identity is the node's full structural description: two nodes are the same
// exactly if these strings are.
func (n *Node) identity() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s {%s}", n.op, n.typed(), n.attrs.text(n.op))
	for _, in := range n.ins {
		fmt.Fprintf(&b, " %d", in.id)
	}
	return b.String()
}
