package optest

import (
	"math"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

func TestEveryOpHasACase(t *testing.T) {
	used := map[graph.Op]bool{}
	var visit func(b *graph.Block)
	visit = func(b *graph.Block) {
		for _, n := range b.Nodes() {
			used[n.Op()] = true
			if n.Body() != nil {
				visit(n.Body())
			}
		}
	}
	names := map[string]bool{}
	for _, c := range Cases() {
		if names[c.Name] {
			t.Errorf("two cases are named %q", c.Name)
		}
		names[c.Name] = true
		for _, dt := range c.Types {
			g, err := c.Graph(dt)
			if err != nil {
				t.Fatal(err)
			}
			visit(g.Root())
		}
	}
	for _, op := range graph.Ops() {
		if !used[op] {
			t.Errorf("no case has %v", op)
		}
	}
}

func TestGradient(t *testing.T) { Gradient(t, interp.Run) }

// finalRounding stands for an ideal back end: exact inside, each result
// rounded once. The tolerances must admit it.
func finalRounding(g *graph.Graph, feed interp.Feed) (*interp.Result, error) {
	r, err := interp.Run(g, feed)
	if err != nil {
		return nil, err
	}
	for _, m := range []map[string]*interp.Tensor{r.Outputs, r.States} {
		for _, x := range m {
			for i, v := range x.Data {
				x.Data[i] = interp.Round(x.DType, v)
			}
		}
	}
	return r, nil
}

func TestAgree(t *testing.T) { Agree(t, finalRounding) }

// A back end that is wrong in one element must not agree, in any case.
func TestAgreeNotices(t *testing.T) {
	for _, c := range Cases() {
		dt := c.Types[0]
		g, err := c.Graph(dt)
		if err != nil {
			t.Fatal(err)
		}
		r, err := interp.RunRounded(g, c.Feed(dt))
		if err != nil {
			t.Fatal(err)
		}
		for _, results := range []map[string]*interp.Tensor{r.Outputs, r.States} {
			for name := range results {
				wrong := func(g *graph.Graph, feed interp.Feed) (*interp.Result, error) {
					r, err := interp.RunRounded(g, feed)
					if err == nil {
						spoil(r.Outputs[name])
						spoil(r.States[name])
					}
					return r, err
				}
				if c.agree(wrong, dt) == nil {
					t.Errorf("%s, %v: a wrong element of result %s is not noticed", c.Name, dt, name)
				}
			}
		}
	}
}

// spoil changes the largest element by a thousandth, or an integer by one.
func spoil(x *interp.Tensor) {
	if x == nil {
		return
	}
	at, largest := 0, -1.0
	for i, v := range x.Data {
		if a := math.Abs(v); a > largest && !math.IsInf(a, 0) {
			at, largest = i, a
		}
	}
	switch v := &x.Data[at]; {
	case !x.DType.Float():
		*v = 1 - *v
	case largest < 1e-3:
		*v = 1
	default:
		*v *= 0.999
	}
}

func TestCompare(t *testing.T) {
	inf, nan, negZero := math.Inf(1), math.NaN(), math.Copysign(0, -1)
	const ulp = 0x1p-23
	for _, c := range []struct {
		tol       Tolerance
		want, got float64
		ok        bool
	}{
		{Tolerance{}, 1, 1, true},
		{Tolerance{}, 1, 1 + ulp, false},
		{Tolerance{Rel: 1}, 1, 1 + ulp, true},
		{Tolerance{Rel: 1}, 1, 1 + 2*ulp, false},
		{Tolerance{Abs: 1}, 1, 1 + 16*ulp, true}, // 16 is the tensor's largest
		{Tolerance{Abs: 1}, 1, 1 + 17*ulp, false},
		{Tolerance{Abs: 1e9}, nan, 1, false},
		{Tolerance{Abs: 1e9}, 1, nan, false},
		{Tolerance{}, nan, nan, true},
		{Tolerance{}, inf, inf, true},
		{Tolerance{Abs: 1e9}, inf, -inf, false},
		{Tolerance{Abs: 1e9}, inf, 3e38, false},
		{Tolerance{Abs: 1e9}, 3e38, inf, false},
		{Tolerance{Floor: 0.25}, 1, 1.25, true},
		{Tolerance{Floor: 0.25}, 1, 1.5, false},
		{Tolerance{}, 0, negZero, true},
		{Tolerance{SignedZero: true}, 0, negZero, false},
		{Tolerance{}, 0x1p-140, 0, false},
		{Tolerance{Rel: 1}, 0x1p-140, 0, true}, // flushed
	} {
		want := interp.New(graph.F32, graph.Shape{2}, c.want, 16)
		got := interp.New(graph.F32, graph.Shape{2}, c.got, 16)
		if err := c.tol.Compare(want, got); (err == nil) != c.ok {
			t.Errorf("%+v of %v and %v: %v", c.tol, c.want, c.got, err)
		}
	}
	x := interp.New(graph.F32, graph.Shape{2})
	for _, y := range []*interp.Tensor{nil, interp.New(graph.F64, graph.Shape{2}), interp.New(graph.F32, graph.Shape{1, 2})} {
		if (Tolerance{Abs: 1e9}).Compare(x, y) == nil {
			t.Errorf("%v passes for %v", y, x)
		}
	}
}

// The random words of a graph are those that the authors of Philox publish.
func TestPublishedWords(t *testing.T) {
	for _, c := range Cases() {
		if c.Name != "random/published" {
			continue
		}
		g, err := c.Graph(graph.U32)
		if err != nil {
			t.Fatal(err)
		}
		r, err := interp.Run(g, c.Feed(graph.U32))
		if err != nil {
			t.Fatal(err)
		}
		want := interp.New(graph.U32, graph.Shape{1, 4}, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8)
		if err := (Tolerance{}).Compare(want, r.Outputs["0"]); err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("the case is missing")
}

// Random programs are sound, well-conditioned, and between them use what they
// are made to use.
func TestRandom(t *testing.T) {
	used := map[graph.Op]int{}
	var visit func(b *graph.Block)
	visit = func(b *graph.Block) {
		for _, n := range b.Nodes() {
			used[n.Op()]++
			if n.Body() != nil {
				visit(n.Body())
			}
		}
	}
	for seed := range uint32(200) {
		g := Random(seed)
		if err := graph.Verify(g); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		text := g.String()
		if text != Random(seed).String() || text == Random(seed+1).String() {
			t.Fatalf("seed %d: the program is not a function of its seed", seed)
		}
		visit(g.Root())
		feed := RandomFeed(g, seed)
		want, err := interp.RunRounded(g, feed)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := finalRounding(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		if err := RandomTolerance(g).CompareResults(want, got); err != nil {
			t.Errorf("seed %d: %v\n%s", seed, err, text)
		}
	}
	for _, op := range []graph.Op{
		graph.OpLoop, graph.OpConv2D, graph.OpMatMul, graph.OpReduceSum, graph.OpReduceMax, graph.OpCumSum, graph.OpGather, graph.OpScatterAdd,
		graph.OpSlice, graph.OpPad, graph.OpConcat, graph.OpReverse, graph.OpTranspose, graph.OpBroadcast, graph.OpReshape, graph.OpSelect, graph.OpRandom, graph.OpPow,
	} {
		if used[op] < 10 {
			t.Errorf("%v is used %d times in 200 programs", op, used[op])
		}
	}
}
