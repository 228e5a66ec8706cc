package adversarial

import (
	"math"
	"testing"

	"temper/engine"
	"temper/engine/graph"
	"temper/nn"
)

// TestMatchGraph: the descent comes nearer for every image, stays in [0,1], and
// its steps have the length asked for.
func TestMatchGraph(t *testing.T) {
	const n = 6
	m, err := nn.Lookup("mnist-wong", nn.Config{Input: graph.Shape{1, 28, 28}, Classes: 10, Width: 4, Hidden: 20})
	must(t, err)
	x := make([]byte, n*28*28)
	for i := range x {
		x[i] = byte(i * i % 251)
	}
	grey := make([]byte, len(x))
	for i := range grey {
		grey[i] = 128
	}
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(i)
	}
	match := func(steps int, noise bool, rate float64) program {
		g, err := MatchGraph(m, steps, noise, n, graph.U8)
		must(t, err)
		p := compile(t, g)
		d, err := engine.Open("cpu", engine.DeviceOptions{})
		must(t, err)
		t.Cleanup(func() { d.Close() })
		init, err := d.Compile(m.InitGraph(), p.state, engine.Options{})
		must(t, err)
		must(t, init.Set("seed", 3))
		must(t, init.Run())
		must(t, p.Set("seed", 5))
		must(t, p.Set("rate", rate))
		must(t, p.FeedBytes("x", x))
		must(t, p.FeedBytes("ids", engine.Bytes(ids)))
		if !noise {
			must(t, p.FeedBytes("start", grey))
		}
		p.run()
		return p
	}
	for _, noise := range []bool{true, false} {
		p := match(40, noise, 0.1)
		before, after := p.output("before").Data, p.output("after").Data
		for i := range before {
			if !(after[i] < 0.8*before[i]) {
				t.Errorf("noise %v, image %d: the distance goes from %v to %v", noise, i, before[i], after[i])
			}
		}
		found, bytes := p.output("match").Data, p.output("match_u8").Data
		for i, v := range found {
			if v < 0 || v > 1 || math.Abs(bytes[i]-255*v) > 0.5001 {
				t.Fatalf("pixel %d is %v, as a byte %v", i, v, bytes[i])
			}
		}
	}
	one := match(1, false, 0.2).output("match") // from grey no pixel is clipped
	for i := range n {
		sum := 0.0
		for _, v := range one.Data[i*28*28 : (i+1)*28*28] {
			sum += (v - 128.0/255) * (v - 128.0/255)
		}
		if math.Abs(math.Sqrt(sum)-0.2) > 1e-4 {
			t.Errorf("image %d: a step of length %v, want 0.2", i, math.Sqrt(sum))
		}
	}
	if _, err := MatchGraph(m, 0, true, n, graph.U8); err == nil {
		t.Error("no steps are accepted")
	}
}
