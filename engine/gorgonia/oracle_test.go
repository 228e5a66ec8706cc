package gorgonia

import (
	"fmt"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine/graph"
)

// chain builds graphs of theirs; its first error sticks.
type chain struct {
	g   *G.ExprGraph
	t   tensor.Dtype
	err error
}

func (c *chain) node(n *G.Node, err error) *G.Node {
	if err != nil && c.err == nil {
		c.err = err
	}
	if c.err != nil {
		return G.NewScalar(c.g, c.t)
	}
	return n
}

// leaf is a leaf of normal values, scaled.
func (c *chain) leaf(name string, scale float64, shape ...int) *G.Node {
	v := draws(graph.Shape(shape).Size(), name)
	for i := range v {
		v[i] *= scale
	}
	return c.bound(name, v, shape...)
}

func (c *chain) bound(name string, v []float64, shape ...int) *G.Node {
	var d *tensor.Dense
	if c.t == tensor.Float64 {
		d = tensor.New(tensor.WithShape(shape...), tensor.WithBacking(v))
	} else {
		f := make([]float32, len(v))
		for i := range v {
			f[i] = float32(v[i])
		}
		d = tensor.New(tensor.WithShape(shape...), tensor.WithBacking(f))
	}
	return G.NewTensor(c.g, c.t, len(shape), G.WithShape(shape...), G.WithName(name), G.WithValue(d))
}

// crossEntropy is the mean of -log softmax at random labels.
func (c *chain) crossEntropy(logits *G.Node) *G.Node {
	n, classes := logits.Shape()[0], logits.Shape()[1]
	hot := make([]float64, n*classes)
	for i := range n {
		hot[i*classes+i*7%classes] = 1
	}
	p := c.node(G.SoftMax(logits))
	picked := c.node(G.HadamardProd(c.node(G.Log(p)), c.bound("y", hot, n, classes)))
	return c.node(G.Neg(c.node(G.Mean(c.node(G.Sum(picked, 1))))))
}

func (c *chain) linear(x *G.Node, name string, out int) *G.Node {
	in := x.Shape()[1]
	w, b := c.leaf(name+".weight", 0.3, in, out), c.leaf(name+".bias", 0.1, 1, out)
	return c.node(G.BroadcastAdd(c.node(G.Mul(x, w)), b, nil, []byte{0}))
}

func (c *chain) conv(x *G.Node, name string, out, stride int) *G.Node {
	w, b := c.leaf(name+".weight", 0.3, out, x.Shape()[1], 3, 3), c.leaf(name+".bias", 0.1, 1, out, 1, 1)
	h := c.node(G.Conv2d(x, w, tensor.Shape{3, 3}, []int{1, 1}, []int{stride, stride}, []int{1, 1}))
	return c.node(G.Rectify(c.node(G.BroadcastAdd(h, b, nil, []byte{0, 2, 3}))))
}

// networks are the networks on which temper is compared with gorgonia.
var networks = map[string]func(c *chain) *G.Node{
	"mlp": func(c *chain) *G.Node {
		h := c.node(G.Tanh(c.linear(c.leaf("x", 1, 6, 7), "fc1", 9)))
		h = c.node(G.Rectify(c.linear(h, "fc2", 8)))
		h = c.node(G.Sigmoid(c.linear(h, "fc3", 8)))
		return c.crossEntropy(c.linear(h, "fc4", 5))
	},
	"conv": func(c *chain) *G.Node {
		h := c.conv(c.leaf("x", 1, 3, 2, 12, 12), "conv1", 4, 1)
		h = c.node(G.MaxPool2D(h, tensor.Shape{2, 2}, []int{0, 0}, []int{2, 2}))
		h = c.conv(h, "conv2", 6, 2)
		h = c.node(G.MaxPool2D(h, tensor.Shape{3, 3}, []int{1, 1}, []int{2, 2}))
		return c.crossEntropy(c.linear(c.node(G.Reshape(h, tensor.Shape{3, 24})), "fc", 5))
	},
}

// TestOracle compares the loss and all derivatives of small networks with
// gorgonia's, in both precisions.
func TestOracle(t *testing.T) {
	for name, build := range networks {
		for dtype, tolerance := range map[tensor.Dtype]float64{tensor.Float64: 1e-12, tensor.Float32: 1e-5} {
			t.Run(fmt.Sprint(name, " ", dtype), func(t *testing.T) {
				c := &chain{g: G.NewGraph(), t: dtype}
				loss := build(c)
				must(t, c.err)
				onlyCleared(t, loss)
				x, y := c.g.ByName("x")[0], c.g.ByName("y")[0]
				im, err := Import(loss, x, y)
				must(t, err)
				var wrt G.Nodes
				for _, n := range c.g.Inputs() {
					if n != y {
						wrt = append(wrt, n)
					}
				}
				feeds := map[*G.Node]*tensor.Dense{x: x.Value().(*tensor.Dense), y: y.Value().(*tensor.Dense)}
				ours, grads := runOurs(t, im, feeds, wrt...)
				oracle, err := G.Grad(loss, wrt...)
				must(t, err)
				must(t, runTheirs(c.g))
				if d := distance([]float64{ours}, elements(t, loss.Value())); d > tolerance {
					t.Errorf("loss %v, gorgonia has %v", ours, loss.Value())
				}
				for k, n := range wrt {
					if d := distance(elements(t, grads[k]), elements(t, oracle[k].Value())); d > tolerance {
						t.Errorf("derivative by %s is %.1e from gorgonia's", n.Name(), d)
					}
				}
			})
		}
	}
}

// elements are a value's elements in float64.
func elements(t *testing.T, v G.Value) []float64 {
	t.Helper()
	dt := dtypes[v.Dtype()]
	b, err := contents(v, dt, graph.Shape(v.Shape()))
	must(t, err)
	return floats(dt, b)
}

// onlyCleared fails unless the audit clears every operation that the loss needs.
func onlyCleared(t *testing.T, loss *G.Node) {
	t.Helper()
	cleared := map[string]bool{}
	for _, a := range audit {
		if a.wrong == "" {
			n, _, err := a.theirs(a.values())
			must(t, err)
			for _, k := range kinds(n) {
				cleared[k] = true
			}
		}
	}
	for _, k := range kinds(loss) {
		if !cleared[k] {
			t.Errorf("no entry of the audit clears %q", k)
		}
	}
}

// kinds lists the operations below a node. How far two uses of an operation are
// the same is decided here: reductions differ by their axes and the rank.
func kinds(root *G.Node) []string {
	var out []string
	seen := map[*G.Node]bool{}
	var walk func(n *G.Node)
	walk = func(n *G.Node) {
		if seen[n] || n.Op() == nil {
			return
		}
		seen[n] = true
		below := children(n)
		kind := typeName(n.Op())
		switch kind {
		case "elemBinOp", "elemUnaryOp", "linAlgBinOp":
			kind += fmt.Sprintf(" %v", n.Op())
		case "sumOp", "maxOp":
			kind += fmt.Sprintf(" %v of rank %d", n.Op(), below[0].Dims())
		}
		out = append(out, kind)
		for _, c := range below {
			walk(c)
		}
	}
	walk(root)
	slices.Sort(out)
	return slices.Compact(out)
}

// A reduction that gorgonia gets wrong must not pass for one that it gets right.
func TestOnlyClearedTellsReductionsApart(t *testing.T) {
	good, bad := "sumOp Σ[0 2 3] of rank 4", "sumOp Σ[2 3] of rank 4"
	for _, a := range audit {
		n, _, err := a.theirs(a.values())
		must(t, err)
		k := kinds(n)
		if a.name == "sum of all but channels" && !slices.Contains(k, good) || a.name == "sum of planes" && !slices.Contains(k, bad) {
			t.Errorf("%s is of kinds %q", a.name, k)
		}
		if a.wrong == "" && slices.Contains(k, bad) {
			t.Errorf("%s clears %s", a.name, bad)
		}
	}
}
