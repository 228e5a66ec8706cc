package cpu_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"temper/engine"
	"temper/engine/autodiff"
	"temper/engine/cpu/kernel"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/passes"
)

// withBF16 runs a test at a level that has products of bf16: in this process, or
// in another at the level portable.
func withBF16(t *testing.T, test func(t *testing.T)) {
	if kernel.HasBF16() {
		test(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "TEMPER_CPU=portable")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Fatalf("TEMPER_CPU=portable: %v\n%s", err, out)
	}
}

// asked is a target at a precision.
func asked(t *testing.T, d *engine.Device, p graph.Precision) passes.Target {
	t.Helper()
	target, err := d.Target(p)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// At precision bf16 every case of a product of float32 gives what the passes'
// graph means: operands and results rounded, sums of float32.
func TestPrecisionBF16(t *testing.T) {
	withBF16(t, func(t *testing.T) {
		d := open(t, 2)
		o := engine.Options{Precision: graph.PrecisionBF16}
		run := optest.On(d, o)
		rounded := 0
		for _, c := range optest.Cases() {
			if !strings.HasPrefix(c.Name, "conv2d") && !strings.HasPrefix(c.Name, "matmul") || strings.HasSuffix(c.Name, "/gradient") {
				continue
			}
			g, err := c.Graph(graph.F32)
			if err != nil {
				t.Fatal(err)
			}
			h, err := passes.Run(g, passes.Options{Target: asked(t, d, graph.PrecisionBF16)})
			if err != nil {
				t.Fatal(err)
			}
			want, err := interp.RunRounded(h, c.Feed(graph.F32))
			if err != nil {
				t.Fatal(err)
			}
			got, err := run(g, c.Feed(graph.F32))
			if err != nil {
				t.Fatal(err)
			}
			// A bf16's last place, where a sum falls on the other side of a middle.
			if err := (optest.Tolerance{Rel: 0x1p16, Abs: 64}).CompareResults(want, got); err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
			exact, err := interp.Run(g, c.Feed(graph.F32))
			if err != nil {
				t.Fatal(err)
			}
			if err := (optest.Tolerance{Abs: 0x1p17}).CompareResults(exact, got); err != nil { // 2⁻⁶
				t.Errorf("%s: against float64: %v", c.Name, err)
			}
			if (optest.Tolerance{Abs: 256}).CompareResults(exact, got) != nil {
				rounded++
			}
		}
		if rounded < 100 {
			t.Errorf("only %d cases are rounded", rounded)
		}
	})
}

// A training step in bf16 gives the same bits on any number of workers; weights
// and sums over the batch stay float32.
func TestStepBF16(t *testing.T) {
	withBF16(t, func(t *testing.T) {
		build := func() *graph.Graph {
			g := graph.New("step")
			x, w := g.Input("x", graph.F32, 6, 3, 9, 9), g.State("w", graph.F32, 20, 3, 3, 3)
			v := g.State("v", graph.F32, 20*9*9, 4)
			y := graph.MatMul(x.Conv2D(w, graph.Square(1, 1)).ReLU().Flatten(1), v, false, false)
			loss := y.Mul(y).Mean(0, 1)
			d := autodiff.Grad(loss, w, v)
			g.Assign(w, w.Sub(d[0].MulC(0.1)))
			g.Assign(v, v.Sub(d[1].MulC(0.1)))
			g.Output("loss", loss)
			return g
		}
		g := build()
		feed := optest.RandomFeed(g, 1)
		var first *interp.Result
		for _, threads := range []int{1, 3} {
			got, err := optest.On(open(t, threads), engine.Options{Precision: graph.PrecisionBF16})(build(), feed)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = got
			} else if err := (optest.Tolerance{}).CompareResults(first, got); err != nil {
				t.Errorf("%d workers: %v", threads, err)
			}
		}
		h, err := passes.Run(g, passes.Options{Target: asked(t, open(t, 1), graph.PrecisionBF16)})
		if err != nil {
			t.Fatal(err)
		}
		want, err := interp.RunRounded(h, feed)
		if err != nil {
			t.Fatal(err)
		}
		if err := (optest.Tolerance{Abs: 0x1p15}).CompareResults(want, first); err != nil { // 2⁻⁸
			t.Error(err)
		}
		short := 0 // weights that fit bf16
		for _, v := range first.States["w"].Data {
			if interp.Round(graph.BF16, v) == v {
				short++
			}
		}
		if short > len(first.States["w"].Data)/10 {
			t.Errorf("%d of %d weights are bf16", short, len(first.States["w"].Data))
		}
	})
}

// What a level does not offer is refused in one line.
func TestPrecisionsOffered(t *testing.T) {
	d := open(t, 1)
	offered := map[string]bool{}
	for _, name := range d.Info().PrecisionNames() {
		offered[name] = true
	}
	if !offered["float32"] || offered["bf16"] != kernel.HasBF16() {
		t.Errorf("level %s offers %v", kernel.Level(), offered)
	}
	for _, name := range graph.Precisions() {
		p, err := graph.ParsePrecision(name)
		if err != nil {
			t.Fatal(err)
		}
		g := graph.New("product")
		x := g.Input("x", graph.F32, 3, 3)
		g.Output("y", graph.MatMul(x, x, false, false))
		st := d.NewState()
		e, err := d.Compile(g, st, engine.Options{Precision: p})
		if err == nil {
			e.Close()
		}
		st.Free()
		if offered[name] != (err == nil) || err != nil && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "use --precision float32")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
