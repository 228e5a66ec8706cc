package nn

import (
	"math"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

// made is a tensor of the fixture "fullwidth", which names it instead of
// storing it: element i is centre + bound·u, u from MurmurHash3's finaliser.
type made struct {
	name          string
	shape         graph.Shape
	integer       bool
	index         uint32
	centre, bound float64
}

func readMade(row map[string]any) made {
	m := made{}
	m.name, _ = row["name"].(string)
	for _, d := range row["shape"].([]any) {
		m.shape = append(m.shape, int(d.(float64)))
	}
	if _, m.integer = row["value"]; !m.integer {
		m.index = uint32(row["index"].(float64))
		m.centre, m.bound = row["centre"].(float64), row["bound"].(float64)
	}
	return m
}

func (m made) tensor() *interp.Tensor {
	if m.integer {
		return interp.New(graph.I32, m.shape)
	}
	x := interp.New(graph.F32, m.shape)
	for i := range x.Data {
		h := uint32(i) + m.index*0x9E3779B9
		h = (h ^ h>>16) * 0x85EBCA6B
		h = (h ^ h>>13) * 0xC2B2AE35
		h ^= h >> 16
		x.Data[i] = float64(float32(m.centre + m.bound*(float64(h>>8)*0x1p-23-1)))
	}
	return x
}

// At full width: names, their order and shapes for every model; logits, loss
// and gradients for those that the interpreter computes in a second.
func TestOracleFullWidth(t *testing.T) {
	f := readFixture(t, "fullwidth")
	for name, entry := range f.settings["models"].(map[string]any) {
		t.Run(name, func(t *testing.T) {
			entry := entry.(map[string]any)
			j := job{fixture: f, x: readMade(entry["x"].(map[string]any)).tensor(), y: f.get(t, name+"/y"), weights: interp.Feed{}}
			c := Config{Input: j.x.Shape[1:], Classes: 10}
			if name == "cifar-small" {
				c.Mean, c.Std = []float64{0.4914, 0.4822, 0.4465}, []float64{0.2471, 0.2435, 0.2616}
			}
			j.model = lookup(t, name, c)
			state := entry["state"].([]any)
			if len(state) != len(j.model.Specs()) {
				t.Fatalf("the state has %d tensors, want %d", len(j.model.Specs()), len(state))
			}
			for i, s := range j.model.Specs() {
				m := readMade(state[i].(map[string]any))
				if s.Name != m.name || !s.Shape.Equal(m.shape) || s.DType.Int() != m.integer {
					t.Errorf("tensor %d is %s %v, want %s %v", i, s.Name, s.Shape, m.name, m.shape)
				}
			}
			if strings.Contains(name, "resnet") { // minutes in the interpreter
				return
			}
			for _, row := range state {
				m := readMade(row.(map[string]any))
				j.weights["state "+m.name] = m.tensor()
			}
			j.checkFullWidth(t, name)
		})
	}
}

func (j job) checkFullWidth(t *testing.T, name string) {
	g, x, y, params, buffers := j.start()
	out := j.model.Apply(params, buffers, x, BatchUpdate)
	loss := CrossEntropy(out.Logits, y).Mean()
	g.Output("logits", out.Logits)
	g.Output("loss", loss)
	g.Output("grad_x", Grad(loss, Tree{{"x", x}})[0].Node)
	for _, l := range Grad(loss, params) {
		g.Output("grad/"+l.Name, l.Node)
	}
	for k, got := range eval(t, g, j.feed(nil)).Outputs {
		if want := j.tensors[name+"/"+k]; want != nil {
			near(t, k, got, want)
			continue
		}
		near(t, "norm of "+k, norm(got), j.get(t, name+"/norm/"+k))
		head := j.get(t, name+"/head/"+k)
		for i, want := range head.Data { // 1e-9 of the whole gradient's typical element
			if typical := norm(got).Data[0] / math.Sqrt(float64(len(got.Data))); math.Abs(got.Data[i]-want) > 1e-9*typical {
				t.Errorf("%s: element %d is %v, want %v", k, i, got.Data[i], want)
			}
		}
	}
}
