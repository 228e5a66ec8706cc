package gorgonia

import (
	"fmt"
	"math"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine"
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

// batchNorm normalises the columns of x (N,C) by the batch's statistics, written
// in gorgonia's own operations, as its users do.
func (c *chain) batchNorm(x *G.Node, name string) *G.Node {
	width := x.Shape()[1]
	row := func(n *G.Node) *G.Node { return c.node(G.Reshape(n, tensor.Shape{1, width})) }
	centred := c.node(G.BroadcastSub(x, row(c.node(G.Mean(x, 0))), nil, []byte{0}))
	variance := row(c.node(G.Mean(c.node(G.Square(centred)), 0)))
	eps := c.bound(name+".eps", slices.Repeat([]float64{1e-5}, width), 1, width)
	deviation := c.node(G.Sqrt(c.node(G.Add(variance, eps))))
	h := c.node(G.BroadcastHadamardDiv(centred, deviation, nil, []byte{0}))
	h = c.node(G.BroadcastHadamardProd(h, c.leaf(name+".weight", 1, 1, width), nil, []byte{0}))
	return c.node(G.BroadcastAdd(h, c.leaf(name+".bias", 0.1, 1, width), nil, []byte{0}))
}

// batchNorm2D does the same to the channels of x (N,C,H,W).
func (c *chain) batchNorm2D(x *G.Node, name string) *G.Node {
	s := x.Shape()
	pixels := c.node(G.Reshape(c.node(G.Transpose(x, 0, 2, 3, 1)), tensor.Shape{s[0] * s[2] * s[3], s[1]}))
	h := c.node(G.Reshape(c.batchNorm(pixels, name), tensor.Shape{s[0], s[2], s[3], s[1]}))
	return c.node(G.Transpose(h, 0, 3, 1, 2))
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
	"batch norm": func(c *chain) *G.Node {
		// No bias in front of a batch norm: its derivative is 0, and noise.
		h := c.node(G.Mul(c.leaf("x", 1, 6, 7), c.leaf("fc1.weight", 0.3, 7, 9)))
		h = c.node(G.Mul(c.node(G.Rectify(c.batchNorm(h, "bn1"))), c.leaf("fc2.weight", 0.3, 9, 8)))
		h = c.node(G.Tanh(c.batchNorm(h, "bn2")))
		return c.crossEntropy(c.linear(h, "fc3", 5))
	},
	"conv, batch norm": func(c *chain) *G.Node {
		h := c.node(G.Rectify(c.batchNorm2D(c.conv(c.leaf("x", 1, 3, 2, 8, 8), "conv1", 4, 1), "bn1")))
		h = c.node(G.MaxPool2D(h, tensor.Shape{2, 2}, []int{0, 0}, []int{2, 2}))
		h = c.batchNorm2D(c.conv(h, "conv2", 6, 2), "bn2")
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

// TestNetworksByDifferences holds the derivatives of the imported networks by
// every leaf to the central differences of their loss, in float64: without
// gorgonia's help.
func TestNetworksByDifferences(t *testing.T) {
	for name, build := range networks {
		t.Run(name, func(t *testing.T) {
			c := &chain{g: G.NewGraph(), t: tensor.Float64}
			loss := build(c)
			must(t, c.err)
			leaves := c.g.Inputs()
			im, err := Import(loss, leaves...)
			must(t, err)
			values := map[*G.Node]*tensor.Dense{}
			for _, n := range leaves {
				values[n] = n.Value().(*tensor.Dense)
			}
			_, grads := runOurs(t, im, values, leaves...)
			dev := openCPU(t)
			e, err := dev.Compile(im.Graph, dev.NewState(), engine.Options{})
			must(t, err)
			for k, n := range leaves {
				got, want := directional(t, e, im, values, n, grads[k])
				if math.Abs(got-want) > 1e-6*(1+math.Abs(want)) {
					t.Errorf("derivative by %s: %v, differences give %v", n.Name(), got, want)
				}
			}
		})
	}
}

// directional is the derivative of the loss along a random direction of one
// leaf: by its gradient, and by differences.
func directional(t *testing.T, e *engine.Executable, im *Imported, values map[*G.Node]*tensor.Dense, at *G.Node, grad *tensor.Dense) (got, want float64) {
	t.Helper()
	const eps = 1e-5
	v := values[at].Data().([]float64)
	dir := draws(len(v), at.Name())
	for i, d := range elements(t, grad) {
		got += d * dir[i]
	}
	for _, sign := range []float64{1, -1} {
		moved := slices.Clone(v)
		for i := range moved {
			moved[i] += sign * eps * dir[i]
		}
		for n, x := range values {
			if n == at {
				x = tensor.New(tensor.WithShape(x.Shape().Clone()...), tensor.WithBacking(moved))
			}
			must(t, e.Feed(im.Nodes[n].Attrs().Name, x))
		}
		must(t, e.Run())
		loss, err := e.Scalar("loss")
		must(t, err)
		want += sign * loss / (2 * eps)
	}
	return got, want
}

// TestThereAndBack takes each network through both doors: imported, compiled, and
// put into a new graph of theirs as one operation between others. The loss is
// gorgonia's own, and the derivative by the images agrees with differences.
func TestThereAndBack(t *testing.T) {
	for name, build := range networks {
		t.Run(name, func(t *testing.T) {
			c := &chain{g: G.NewGraph(), t: tensor.Float64}
			loss := build(c)
			must(t, c.err)
			x := c.g.ByName("x")[0]
			im, err := Import(loss, x)
			must(t, err)
			dev := openCPU(t)
			st := dev.NewState()
			op, err := NewOp(dev, st, im.Graph)
			must(t, err)
			defer op.Close()
			must(t, im.Init(st))
			must(t, runTheirs(c.g))

			run := func(v []float64) (float64, []float64) {
				g := G.NewGraph()
				half := tensor.New(tensor.WithShape(x.Shape().Clone()...), tensor.WithBacking(v))
				in := G.NewTensor(g, tensor.Float64, x.Dims(), G.WithShape(x.Shape()...), G.WithName("half"), G.WithValue(half))
				y := G.Must(G.ApplyOp(op, G.Must(G.Add(in, in))))
				out := G.Must(G.Square(y))
				grads, err := G.Grad(out, in)
				must(t, err)
				must(t, runTheirs(g))
				return elements(t, y.Value())[0], elements(t, grads[0].Value())
			}
			half := elements(t, x.Value())
			for i := range half {
				half[i] /= 2
			}
			value, grad := run(half)
			if want := elements(t, loss.Value())[0]; math.Abs(value-want) > 1e-12*math.Abs(want) {
				t.Errorf("loss %v, gorgonia has %v", value, want)
			}
			const eps = 1e-5
			dir, got, want := draws(len(half), "direction"), 0.0, 0.0
			for _, sign := range []float64{1, -1} {
				moved := slices.Clone(half)
				for i := range moved {
					moved[i] += sign * eps * dir[i]
				}
				y, _ := run(moved)
				want += sign * y * y / (2 * eps)
			}
			for i, d := range grad {
				got += d * dir[i]
			}
			if math.Abs(got-want) > 1e-6*(1+math.Abs(want)) {
				t.Errorf("derivative by the images: %v, differences give %v", got, want)
			}
		})
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
