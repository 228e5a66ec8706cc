package cpu

import (
	"slices"
	"testing"

	"temper/engine/cpu/kernel"
	"temper/engine/graph"
	"temper/engine/plan"
)

// programOf compiles the only fused group of a graph.
func programOf(t *testing.T, g *graph.Graph) *program {
	t.Helper()
	p := plan.Build(g, plan.Options{})
	if len(p.Steps) != 1 || p.Steps[0].Fused == nil {
		t.Fatalf("not one fused group:\n%s", p)
	}
	d := &device{pool: kernel.NewPool(1)}
	t.Cleanup(func() { d.Close() })
	c, err := d.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	f := p.Steps[0].Fused
	b := &programBuilder{p: &program{code: c.(*code), size: f.Space.Size()}, c: c.(*code), f: f, of: map[*graph.Node]int{}, ext: map[string]int{}}
	if err := b.build(); err != nil {
		t.Fatal(err)
	}
	return b.p
}

// A value goes to memory only if others read it: batch norm's gradient through
// a ReLU is one chain.
func TestChainOfBatchNorm(t *testing.T) {
	g := graph.New("g")
	x, dy := g.Input("x", graph.F32, 64, 32), g.Input("dy", graph.F32, 64, 32)
	row := func(name string) *graph.Node { return g.Input(name, graph.F32, 1, 32).BroadcastTo(64, 32) }
	d := x.Sub(row("mean"))
	y := d.Mul(row("scale")).Add(row("bias")).ReLU()
	dx := graph.Select(y.Le(g.Const(graph.F32, []float64{0}, 64, 32)), g.Const(graph.F32, []float64{0}, 64, 32), dy)
	g.Output("bias", dx.Sum(0))
	g.Output("scale", dx.Mul(d).Sum(0))
	p := programOf(t, g)
	if len(p.calls) != 1 {
		t.Fatalf("%d calls, want a chain", len(p.calls))
	}
	var got []kernel.ChainOp
	for _, s := range p.calls[0].chain {
		got = append(got, s.Op)
	}
	want := []kernel.ChainOp{kernel.ChainLoad, kernel.ChainSub, kernel.ChainStore, kernel.ChainMul, kernel.ChainAdd, kernel.ChainRelu,
		kernel.ChainLe, kernel.ChainSelect, kernel.ChainStore, kernel.ChainMul, kernel.ChainStore, kernel.ChainEnd}
	if !slices.Equal(got, want) {
		t.Errorf("steps %v, want %v", got, want)
	}
}

// What chains cannot do stays a call of its own, and so does a call that stands
// alone.
func TestCallsBesideChains(t *testing.T) {
	g := graph.New("g")
	x, z := g.Input("x", graph.F32, 1000), g.Input("z", graph.F32, 1000)
	g.Output("y", z.Sub(x.Neg().Exp()).Mul(z).Tanh().Add(x))
	p := programOf(t, g)
	var chains []bool
	for i := range p.calls {
		chains = append(chains, p.calls[i].chain != nil)
	}
	if want := []bool{false, false, true, false, false}; !slices.Equal(chains, want) { // neg, exp, sub·, tanh, add
		t.Errorf("chains %v, want %v", chains, want)
	}
	for i := range p.calls {
		if c := p.calls[i].chain; c != nil && c[1].Op != kernel.ChainSubTo && c[1].Op != kernel.ChainSub {
			t.Errorf("steps %v", c)
		}
	}
}
