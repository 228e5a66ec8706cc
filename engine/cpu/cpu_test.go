package cpu_test

import (
	"testing"

	"temper/engine"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/engine/interp"
)

func TestSmoke(t *testing.T) {
	dev, err := engine.Open("cpu", engine.DeviceOptions{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	g := graph.New("smoke")
	x := g.Input("x", graph.F32, 3, 4)
	w := g.State("w", graph.F32, 4, 5)
	lr := g.Scalar("lr", graph.F32)
	y := x.MatMul(w).ReLU()
	g.Output("y", y)
	g.Output("mean", y.Mean())
	g.Assign(w, w.Sub(w.Mul(lr)))
	st := dev.NewState()
	e, err := dev.Compile(g, st, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(e.Plan())
	in := make([]float32, 12)
	ws := make([]float32, 20)
	for i := range in {
		in[i] = float32(i) - 3
	}
	for i := range ws {
		ws[i] = float32(i%7) - 2
	}
	st.SetBytes("w", engine.Bytes(ws))
	e.FeedBytes("x", engine.Bytes(in))
	e.Set("lr", 0.5)
	if err := e.Run(); err != nil {
		t.Fatal(err)
	}
	m, _ := e.Scalar("mean")
	_ = interp.New
	t.Log(m)
	d, err := e.Fetch("y")
	t.Log(d, err)
	d, _ = st.Read("w")
	t.Log(d)
}
