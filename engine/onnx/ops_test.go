package onnx_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/onnx"
	"temper/engine/optest"
)

// opCase is a case of optest as a file.
type opCase struct {
	*question
	c    *optest.Case
	name string
	ops  []graph.Op
	want *interp.Result
}

// TestOps runs every op case that has a counterpart in onnxruntime, and compares
// with the reference interpreter; the others are refused by name. Each operation
// that the writer knows must have run.
func TestOps(t *testing.T) {
	r := &runtime{python: python(t)}
	dir := t.TempDir()
	var asked []opCase
	refused := 0
	for _, c := range optest.Cases() {
		if slices.Contains(open, c.Name) {
			continue
		}
		for _, dt := range []graph.DType{graph.F32, graph.F64, graph.I32, graph.Bool} {
			if !slices.Contains(c.Types, dt) {
				continue
			}
			o := opCase{c: c, name: c.Name + "/" + dt.String()}
			g, err := c.Graph(dt)
			if err != nil {
				t.Fatal(err)
			}
			feed := c.Feed(dt)
			path := filepath.Join(dir, strconv.Itoa(len(asked))+".onnx")
			var file bytes.Buffer
			err = onnx.Write(&file, func(int) (*graph.Graph, error) { return c.Graph(dt) }, onnx.Options{
				State: func(name string) ([]byte, error) { return feed["state "+name].Bytes(), nil },
			})
			if err != nil {
				if refused++; !strings.Contains(err.Error(), "onnx: ") || !strings.Contains(err.Error(), "ONNX ") && !strings.Contains(err.Error(), "opset") {
					t.Errorf("%s: %v", o.name, err)
				}
				continue
			}
			if err := os.WriteFile(path, file.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
			if o.want, err = interp.RunRounded(g, feed); err != nil {
				t.Fatal(err)
			}
			o.ops = reached(g)
			shapes, inputs := map[string]graph.Shape{}, map[string][]byte{}
			for key, x := range feed {
				if name, ok := strings.CutPrefix(key, "input "); ok && read(g, name) {
					shapes[name], inputs[name] = x.Shape, x.Bytes()
				}
			}
			o.question = r.ask(t, path, shapes, inputs, slices.Collect(maps.Keys(o.want.Outputs))...)
			asked = append(asked, o)
		}
	}
	r.run(t)
	ran := map[graph.Op]bool{}
	absent := 0
	for _, o := range asked {
		if strings.HasPrefix(o.Error, "NotImplemented") { // onnxruntime's, of that type
			absent++
			continue
		}
		if o.Error != "" {
			t.Errorf("%s: %s", o.name, o.Error)
			continue
		}
		if err := o.compare(t); err != nil {
			t.Errorf("%s: %v", o.name, err)
			continue
		}
		for _, op := range o.ops {
			ran[op] = true
		}
	}
	t.Logf("%d cases ran, %d have no counterpart, %d have no kernel in onnxruntime", len(asked)-absent, refused, absent)
	for _, op := range onnx.Supported() {
		if !ran[op] {
			t.Errorf("%v has run in no case", op)
		}
	}
}

// open are the cases of NaN, and of a denormal f64, that ONNX leaves open.
var open = []string{"sign/special", "log/special", "reduce-max/special", "argmax/special"}

func (o *opCase) compare(t *testing.T) error {
	got := &interp.Result{Outputs: map[string]*interp.Tensor{}}
	for name, want := range o.want.Outputs {
		x, err := interp.FromBytes(want.DType, o.Got[name], o.output(t, name))
		if err != nil {
			return err
		}
		got.Outputs[name] = x
	}
	tol := o.c.Tol
	tol.Rel, tol.Abs, tol.SignedZero = 4*tol.Rel+4, 4*tol.Abs+4, false // onnxruntime's approximations
	return tol.CompareResults(&interp.Result{Outputs: o.want.Outputs}, got)
}

// reached lists the operations that the outputs need.
func reached(g *graph.Graph) (ops []graph.Op) {
	seen := map[*graph.Node]bool{}
	var visit func(n *graph.Node)
	visit = func(n *graph.Node) {
		if !seen[n] {
			seen[n] = true
			ops = append(ops, n.Op())
			for _, in := range n.Ins() {
				visit(in)
			}
		}
	}
	for _, o := range g.Outputs() {
		visit(o.Node)
	}
	return ops
}

// read reports whether the outputs need an input.
func read(g *graph.Graph, name string) bool {
	seen := map[*graph.Node]bool{}
	var visit func(n *graph.Node) bool
	visit = func(n *graph.Node) bool {
		if seen[n] {
			return false
		}
		seen[n] = true
		return n.Op() == graph.OpInput && n.Attrs().Name == name || slices.ContainsFunc(n.Ins(), visit)
	}
	return slices.ContainsFunc(g.Outputs(), func(o graph.Output) bool { return visit(o.Node) })
}

// TestRefused names what is none of single examples, and what ONNX lacks.
func TestRefused(t *testing.T) {
	for want, build := range map[string]func(x *graph.Node) *graph.Node{
		`expm1 f32[`:                 (*graph.Node).Expm1,
		`argsort i32[`:               func(x *graph.Node) *graph.Node { return x.ArgSort(1, false).Convert(graph.F32) },
		`scalar "eps"`:               func(x *graph.Node) *graph.Node { return x.Mul(x.Graph().Scalar("eps", graph.F32)) },
		`of "head"`:                  func(x *graph.Node) *graph.Node { return x.Log1p().Named(`"head"`) },
		`of type bf16`:               func(x *graph.Node) *graph.Node { return x.Convert(graph.BF16).Neg().Convert(graph.F32) },
		`from f32: ONNX leaves open`: func(x *graph.Node) *graph.Node { return x.Convert(graph.I32) },
		`opset 17 has no counterpart for integers`: func(x *graph.Node) *graph.Node {
			i := x.ArgMax(1)
			return i.And(i.AddC(1))
		},
		// What mixes examples.
		`reduce-sum f32[1,4]: goes over the batch`:   func(x *graph.Node) *graph.Node { return x.Sum(0) },
		`its value depends on the batch size`:        func(x *graph.Node) *graph.Node { return x.DivC(float64(x.Dim(0))) },
		`matmul f32[4,4]: goes over the batch`:       func(x *graph.Node) *graph.Node { return graph.MatMul(x, x, true, false) },
		`: cuts the batch`:                           func(x *graph.Node) *graph.Node { return x.Slice(0, 0, 2) },
		`reverse f32`:                                func(x *graph.Node) *graph.Node { return x.Reverse(0) },
		`: counts along the batch`:                   func(x *graph.Node) *graph.Node { return x.Add(x.Graph().Iota(graph.F32, 0, x.Shape()...)) },
		`concat f32[`:                                func(x *graph.Node) *graph.Node { return graph.Concat(0, x, x) },
		`no multiple of them`:                        func(x *graph.Node) *graph.Node { return x.PadND([]int{1, 0}, []int{0, 0}, []int{1, 1}) },
		`the graph's form depends on the batch size`: odd,
	} {
		err := onnx.Write(&bytes.Buffer{}, func(batch int) (*graph.Graph, error) {
			g := graph.New("refused")
			g.Output("y", build(g.Input("x", graph.F32, batch, 4)))
			return g, g.Err()
		}, onnx.Options{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "onnx: ") {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// odd is another function at some batch sizes.
func odd(x *graph.Node) *graph.Node {
	if x.Dim(0)%10 == 3 && x.Dim(0)%100 == 3 {
		return x.Neg()
	}
	return x.Exp()
}
