package interp

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"temper/engine/graph"
	"temper/engine/rng"
)

var inf, nan = math.Inf(1), math.NaN()

// value runs a graph of constants alone and returns its one result.
func value(t *testing.T, build func(g *graph.Graph) *graph.Node) *Tensor {
	t.Helper()
	g := graph.New("t")
	g.Output("y", build(g))
	r, err := Run(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r.Outputs["y"]
}

// The values are worked out by hand.
func TestMeaning(t *testing.T) {
	f32 := func(g *graph.Graph, v ...float64) *graph.Node { return g.Const(graph.F32, v, len(v)) }
	i32 := func(g *graph.Graph, v ...float64) *graph.Node { return g.Const(graph.I32, v, len(v)) }
	u32 := func(g *graph.Graph, v ...float64) *graph.Node { return g.Const(graph.U32, v, len(v)) }
	u8 := func(g *graph.Graph, v ...float64) *graph.Node { return g.Const(graph.U8, v, len(v)) }
	count := func(g *graph.Graph, shape ...int) *graph.Node {
		return g.Iota(graph.F32, 0, graph.Shape(shape).Size()).Reshape(shape...)
	}
	const lo, hi, top = math.MinInt32, math.MaxInt32, math.MaxUint32
	for _, c := range []struct {
		name  string
		build func(g *graph.Graph) *graph.Node
		want  []float64
	}{
		{"sign", func(g *graph.Graph) *graph.Node { return f32(g, -3, 0, 2, nan, inf).Sign() }, []float64{-1, 0, 1, 0, 1}},
		{"relu", func(g *graph.Graph) *graph.Node { return f32(g, -3, 0, 2, nan).ReLU() }, []float64{0, 0, 2, nan}},
		{"sigmoid", func(g *graph.Graph) *graph.Node { return f32(g, 0, inf, -inf, math.Log(3)).Sigmoid() }, []float64{0.5, 1, 0, 0.75}},
		{"max", func(g *graph.Graph) *graph.Node { return f32(g, 1, nan, inf, -inf).Max(f32(g, 2, inf, nan, 0)) }, []float64{2, nan, nan, 0}},
		{"min", func(g *graph.Graph) *graph.Node { return f32(g, 1, nan, -inf).Min(f32(g, 2, -inf, nan)) }, []float64{1, nan, nan}},
		{"pow", func(g *graph.Graph) *graph.Node { return f32(g, 0, -2, 4, -2).Pow(f32(g, 0, 3, 0.5, 0.5)) }, []float64{1, -8, 2, nan}},
		{"clamp", func(g *graph.Graph) *graph.Node { return f32(g, -2, 0.5, 3, nan).ClampC(0, 1) }, []float64{0, 0.5, 1, nan}},
		{"compare nan", func(g *graph.Graph) *graph.Node {
			x := f32(g, nan, 1)
			return graph.Concat(0, x.Eq(x), x.Ne(x), x.Le(x), x.Ge(x), x.Lt(x), x.Gt(x))
		}, []float64{0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0}},
		{"wrap add", func(g *graph.Graph) *graph.Node { return i32(g, hi, lo).Add(i32(g, 1, -1)) }, []float64{lo, hi}},
		{"wrap mul", func(g *graph.Graph) *graph.Node { return u32(g, top, 0x10001).Mul(u32(g, top, 0x10001)) }, []float64{1, 0x20001}},
		{"wrap mul i32", func(g *graph.Graph) *graph.Node { return i32(g, 123456789, lo).Mul(i32(g, 987654321, -1)) }, []float64{-67153019, lo}},
		{"wrap u8", func(g *graph.Graph) *graph.Node { return u8(g, 200, 3).Mul(u8(g, 2, 7)).Sub(u8(g, 145, 22)) }, []float64{255, 255}},
		{"neg", func(g *graph.Graph) *graph.Node { return u32(g, 1, 0).Neg() }, []float64{top, 0}},
		{"abs", func(g *graph.Graph) *graph.Node { return i32(g, lo, -3).Abs() }, []float64{lo, 3}},
		{"div", func(g *graph.Graph) *graph.Node { return i32(g, 7, -7, 5, lo).Div(i32(g, -2, 2, 0, -1)) }, []float64{-3, -3, 0, lo}},
		{"shl", func(g *graph.Graph) *graph.Node { return i32(g, 1, 3, 1, 1).Shl(i32(g, 31, 1, 32, -1)) }, []float64{lo, 6, 0, 0}},
		{"shr", func(g *graph.Graph) *graph.Node { return i32(g, -8, -8, 8, -8).Shr(i32(g, 1, 40, 40, -1)) }, []float64{-4, -1, 0, -1}},
		{"shr u32", func(g *graph.Graph) *graph.Node { return u32(g, top, top).Shr(u32(g, 28, 32)) }, []float64{15, 0}},
		{"shl u8", func(g *graph.Graph) *graph.Node { return u8(g, 255, 255).Shl(u8(g, 4, 8)) }, []float64{240, 0}},
		{"xor", func(g *graph.Graph) *graph.Node { return i32(g, -1, 12).Xor(i32(g, 5, 10)) }, []float64{-6, 6}},
		{"float to i32", func(g *graph.Graph) *graph.Node { return f32(g, 2.9, -2.9, 3e9, -inf, nan).Convert(graph.I32) }, []float64{2, -2, hi, lo, 0}},
		{"float to u8", func(g *graph.Graph) *graph.Node { return f32(g, 255.9, -1, 256).Convert(graph.U8) }, []float64{255, 0, 255}},
		{"float to u32", func(g *graph.Graph) *graph.Node { return f32(g, 4e9, 5e9).Convert(graph.U32) }, []float64{4e9, top}},
		{"float to bool", func(g *graph.Graph) *graph.Node { return f32(g, 0, -0.1, nan).Convert(graph.Bool) }, []float64{0, 1, 1}},
		{"i32 to u8", func(g *graph.Graph) *graph.Node { return i32(g, 257, -1).Convert(graph.U8) }, []float64{1, 255}},
		{"i32 to u32 and back", func(g *graph.Graph) *graph.Node { return i32(g, -2, 5).Convert(graph.U32).Convert(graph.I32) }, []float64{-2, 5}},
		{"sum", func(g *graph.Graph) *graph.Node { return count(g, 2, 3, 2).Sum(0, 2) }, []float64{0 + 1 + 6 + 7, 2 + 3 + 8 + 9, 4 + 5 + 10 + 11}},
		{"sum wraps", func(g *graph.Graph) *graph.Node { return i32(g, hi, 1, 1).Sum() }, []float64{lo + 1}},
		{"reduce-max", func(g *graph.Graph) *graph.Node {
			return graph.Concat(0, f32(g, 1, nan, inf).ReduceMaxKeep(), f32(g, -inf, -inf).ReduceMaxKeep(), f32(g, -3, -2).ReduceMaxKeep())
		}, []float64{nan, -inf, -2}},
		{"argmax", func(g *graph.Graph) *graph.Node {
			return g.Const(graph.F32, []float64{1, 3, 3, inf, nan, nan, -inf, -inf, -inf}, 3, 3).ArgMax(1)
		}, []float64{1, 1, 0}},
		{"argsort", func(g *graph.Graph) *graph.Node { return f32(g, 2, nan, -inf, 2, inf, 0).ArgSort(0, false) }, []float64{2, 5, 0, 3, 4, 1}},
		{"argsort down", func(g *graph.Graph) *graph.Node { return f32(g, 2, nan, -inf, 2, inf, 0).ArgSort(0, true) }, []float64{1, 4, 0, 3, 5, 2}},
		{"cumsum", func(g *graph.Graph) *graph.Node { return count(g, 2, 3).CumSum(0) }, []float64{0, 1, 2, 3, 5, 7}},
		{"broadcast", func(g *graph.Graph) *graph.Node { return count(g, 2, 1).BroadcastTo(2, 2, 2) }, []float64{0, 0, 1, 1, 0, 0, 1, 1}},
		{"transpose", func(g *graph.Graph) *graph.Node { return count(g, 1, 2, 3).Transpose(2, 0, 1) }, []float64{0, 3, 1, 4, 2, 5}},
		{"slice", func(g *graph.Graph) *graph.Node {
			return count(g, 3, 5).SliceND([]int{1, 0}, []int{3, 5}, []int{1, 2})
		}, []float64{5, 7, 9, 10, 12, 14}},
		{"pad", func(g *graph.Graph) *graph.Node { return f32(g, 1, 2, 3).PadND([]int{1}, []int{2}, []int{2}) }, []float64{0, 1, 0, 2, 0, 3, 0, 0}},
		{"reverse", func(g *graph.Graph) *graph.Node { return count(g, 2, 3).Reverse(1) }, []float64{2, 1, 0, 5, 4, 3}},
		{"concat", func(g *graph.Graph) *graph.Node { return graph.Concat(1, count(g, 2, 1), count(g, 2, 2)) }, []float64{0, 0, 1, 1, 2, 3}},
		{"gather", func(g *graph.Graph) *graph.Node {
			return count(g, 2, 3).Gather(1, g.Const(graph.I32, []float64{2, -7, 9, 1}, 2, 2))
		}, []float64{2, 0, 5, 4}},
		{"scatter-add", func(g *graph.Graph) *graph.Node { return f32(g, 1, 2, 4, 8).ScatterAdd(0, i32(g, 1, 1, 9, -1), 3) }, []float64{8, 3, 4}},
		{"dyn-slice", func(g *graph.Graph) *graph.Node {
			return count(g, 2, 2, 3).DynSlice(g.Const(graph.I32, []float64{1, 0, -4, 9}, 2, 2), 1, 2)
		}, []float64{3, 4, 7, 8}},
		{"dyn-pad", func(g *graph.Graph) *graph.Node {
			return count(g, 2, 2).AddC(1).DynPad(g.Const(graph.I32, []float64{1, 9}, 2, 1), 3)
		}, []float64{0, 1, 2, 0, 3, 4}},
		{"matmul", func(g *graph.Graph) *graph.Node { return count(g, 2, 3).MatMul(count(g, 3, 1)) }, []float64{5, 14}},
		{"matmul, transposed batches", func(g *graph.Graph) *graph.Node {
			return graph.MatMul(count(g, 2, 2, 1), count(g, 2, 1, 2), true, true)
		}, []float64{0*0 + 1*1, 2*2 + 3*3}},
		{"conv2d", func(g *graph.Graph) *graph.Node {
			return count(g, 1, 1, 3, 3).Conv2D(count(g, 1, 1, 2, 2), graph.Window{Stride: [2]int{1, 2}, Pad: [2]int{0, 1}})
		}, []float64{1*0 + 3*3, 1*2 + 2*4 + 3*5, 1*3 + 3*6, 1*5 + 2*7 + 3*8}},
		{"conv2d dilated", func(g *graph.Graph) *graph.Node {
			return count(g, 1, 1, 3, 3).Conv2D(count(g, 1, 1, 2, 2), graph.Window{Dilation: [2]int{2, 2}})
		}, []float64{1*2 + 2*6 + 3*8}},
		{"conv2d-input-grad", func(g *graph.Graph) *graph.Node {
			return g.Make(graph.OpConv2DInputGrad, graph.Attrs{Stride: [2]int{2, 2}, Dilation: [2]int{1, 1}, Size: []int{2, 3}},
				count(g, 1, 1, 1, 2).AddC(1), count(g, 1, 1, 1, 1).AddC(3))
		}, []float64{3, 0, 6, 0, 0, 0}},
		{"conv2d-filter-grad", func(g *graph.Graph) *graph.Node {
			return g.Make(graph.OpConv2DFilterGrad, graph.Attrs{Stride: [2]int{1, 1}, Dilation: [2]int{1, 1}, Size: []int{1, 2}},
				count(g, 1, 1, 1, 4), count(g, 1, 1, 1, 3).AddC(1))
		}, []float64{0*1 + 1*2 + 2*3, 1*1 + 2*2 + 3*3}},
		{"max-pool", func(g *graph.Graph) *graph.Node {
			return count(g, 1, 1, 3, 3).Neg().MaxPool([2]int{2, 2}, graph.Square(2, 1))
		}, []float64{0, -1, -3, -4}},
		{"pool-argmax", func(g *graph.Graph) *graph.Node {
			x := g.Const(graph.F32, []float64{1, 3, 3, nan, -inf, -inf, nan, 7}, 1, 1, 2, 4)
			return g.Make(graph.OpPoolArgMax, graph.Attrs{Kernel: [2]int{1, 2}, Stride: [2]int{1, 1}}, x)
		}, []float64{1, 1, 3, 4, 6, 6}},
		{"avg-pool", func(g *graph.Graph) *graph.Node {
			return count(g, 1, 2, 2, 2).AvgPool([2]int{2, 2}, graph.Square(2, 0))
		}, []float64{1.5, 5.5}},
		{"one-hot", func(g *graph.Graph) *graph.Node { return i32(g, 2, 0).OneHot(3, graph.F32) }, []float64{0, 0, 1, 1, 0, 0}},
		{"iota wraps", func(g *graph.Graph) *graph.Node { return g.Iota(graph.U8, 0, 258).Slice(0, 254, 258) }, []float64{254, 255, 0, 1}},
		{"carry and capture", func(g *graph.Graph) *graph.Node {
			x := f32(g, 1, 2)
			last, _ := g.Loop(3, []*graph.Node{x, x.Neg()}, nil, func(i *graph.Node, c, _ []*graph.Node) (next, stack []*graph.Node) {
				return []*graph.Node{c[1], c[0].Add(x).Mul(i.Convert(graph.F32))}, nil
			})
			return last[1] // (a,b): (x,-x), (-x,0), (0,0), (0,2x)
		}, []float64{2, 4}},
		{"scan and stack", func(g *graph.Graph) *graph.Node {
			_, stacks := g.Loop(3, []*graph.Node{f32(g, 10)}, []*graph.Node{count(g, 3, 1)}, func(i *graph.Node, c, s []*graph.Node) (next, stack []*graph.Node) {
				return []*graph.Node{c[0].Add(s[0])}, []*graph.Node{c[0].MulC(2)}
			})
			return stacks[0]
		}, []float64{20, 20, 22}},
		{"nested loop", func(g *graph.Graph) *graph.Node {
			last, _ := g.Loop(3, []*graph.Node{f32(g, 0)}, nil, func(i *graph.Node, c, _ []*graph.Node) (next, stack []*graph.Node) {
				return g.Loop(2, c, nil, func(j *graph.Node, d, _ []*graph.Node) (next, stack []*graph.Node) {
					return []*graph.Node{d[0].Add(i.Mul(i.C(10)).Add(j).Convert(graph.F32))}, nil
				})
			})
			return last[0]
		}, []float64{0 + 1 + 10 + 11 + 20 + 21}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := value(t, c.build)
			if d := cmp.Diff(c.want, got.Data, cmpopts.EquateNaNs(), cmpopts.EquateApprox(1e-15, 0)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// A sample's words are those that the generator's documentation promises,
// whatever stands beside it in the batch.
func TestRandom(t *testing.T) {
	ids := []float64{7, 1 << 31, 7}
	draw := func(g *graph.Graph) graph.Draw {
		return graph.Draw{Seed: g.Const(graph.U32, []float64{3}), IDs: g.Const(graph.U32, ids, 3), Step: g.Const(graph.U32, []float64{4}), Iter: g.Const(graph.U32, []float64{5})}
	}
	words := value(t, func(g *graph.Graph) *graph.Node { return draw(g).Words("here", 2, 3) })
	normals := value(t, func(g *graph.Graph) *graph.Node { return draw(g).Normal("here", 2, 3) })
	uniforms := value(t, func(g *graph.Graph) *graph.Node { return draw(g).Uniform("here", 2, 3) })
	for i := range words.Data {
		w := rng.Draw{Seed: 3, Site: rng.Site("here"), ID: uint32(ids[i/6]), Step: 4, Iter: 5}.Word(uint32(i % 6))
		if words.Data[i] != float64(w) || normals.Data[i] != float64(rng.Normal(w)) || uniforms.Data[i] != float64(rng.Uniform(w)) {
			t.Fatalf("element %d: word %v, normal %v, uniform %v: want %v, %v, %v", i, words.Data[i], normals.Data[i], uniforms.Data[i], w, rng.Normal(w), rng.Uniform(w))
		}
	}
}

func TestStateAndRounding(t *testing.T) {
	g := graph.New("step")
	w, lr := g.State("w", graph.F32, 2), g.Scalar("lr", graph.F32)
	x := g.Input("x", graph.F32, 2)
	g.Assign(w, w.Sub(x.Mul(lr)))
	g.Output("old", w)
	feed := Feed{
		"state w":   New(graph.F32, graph.Shape{2}, 1, 2),
		"input x":   New(graph.F32, graph.Shape{2}, 1, -3),
		"scalar lr": New(graph.F32, nil, 0.1),
	}
	for _, c := range []struct {
		run  func(*graph.Graph, Feed) (*Result, error)
		want []float64
	}{
		{Run, []float64{0.9, 2 - -3*0.1}},
		{RunRounded, []float64{float64(float32(0.9)), float64(2 - -3*float32(0.1))}},
	} {
		r, err := c.run(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, r.States["w"].Data, cmpopts.EquateApprox(1e-15, 0)); d != "" {
			t.Errorf("new state, -want +got:\n%s", d)
		}
		if r.Outputs["old"].Data[0] != 1 {
			t.Errorf("an assignment shows before the step's end: %v", r.Outputs["old"].Data)
		}
	}
	delete(feed, "scalar lr")
	if _, err := Run(g, feed); err == nil || !strings.Contains(err.Error(), "scalar lr is not fed") {
		t.Errorf("missing feed: %v", err)
	}
	feed["scalar lr"] = New(graph.F32, graph.Shape{1}, 0.1)
	if _, err := Run(g, feed); err == nil || !strings.Contains(err.Error(), "scalar lr is f32[] and is fed f32[1]") {
		t.Errorf("wrong feed: %v", err)
	}
}

// Bytes round-trips what each type holds.
func TestBytes(t *testing.T) {
	for _, c := range []struct {
		t    graph.DType
		data []float64
	}{
		{graph.F32, []float64{1.5, -0x1p-149, inf, nan}},
		{graph.F64, []float64{0.1, -5e-324, -inf}},
		{graph.BF16, []float64{1, 0x1.02p3, -inf, nan}},
		{graph.I32, []float64{math.MinInt32, -1, 7}},
		{graph.U32, []float64{math.MaxUint32, 0}},
		{graph.U8, []float64{255, 0, 9}},
		{graph.Bool, []float64{0, 1, 1}},
	} {
		x := New(c.t, graph.Shape{len(c.data)}, c.data...)
		b := x.Bytes()
		if len(b) != len(c.data)*c.t.Size() {
			t.Errorf("%v: %d bytes", c.t, len(b))
		}
		y, err := FromBytes(c.t, x.Shape, b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(x, y, cmpopts.EquateNaNs()); d != "" {
			t.Errorf("%v: -want +got:\n%s", c.t, d)
		}
		if _, err := FromBytes(c.t, x.Shape, b[1:]); err == nil {
			t.Errorf("%v: a byte too few is accepted", c.t)
		}
	}
	for v, want := range map[float64]float64{ // bf16 has 8 significant bits; ties go to even
		1.00390625: 1, 1.01171875: 1.015625, 0x1.fep127: 0x1.fep127, 0x1.ffp127: inf,
	} {
		if got := Round(graph.BF16, v); got != want {
			t.Errorf("bf16 of %v is %v, want %v", v, got, want)
		}
	}
}
