package nn

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

// fixture is one file of testdata/oracle: what PyTorch computed in float64.
// build/oracle/README.md says what each tensor is.
type fixture struct {
	tensors  map[string]*interp.Tensor // F64 as f32 and I64 as i32, the types that the graphs have
	names    []string                  // in the file's order
	settings map[string]any
}

func readFixture(t *testing.T, name string) *fixture {
	t.Helper()
	blob, err := os.ReadFile(filepath.Join("testdata", "oracle", name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(blob)
	head, body := blob[8:8+n], blob[8+n:]
	f := &fixture{tensors: map[string]*interp.Tensor{}}
	d := json.NewDecoder(strings.NewReader(string(head)))
	must(t, skip(d)) // {
	for d.More() {
		key, err := d.Token()
		must(t, err)
		if key == "__metadata__" {
			var m struct{ Settings string }
			must(t, d.Decode(&m))
			must(t, json.Unmarshal([]byte(m.Settings), &f.settings))
			continue
		}
		var e struct {
			DType   string
			Shape   graph.Shape
			Offsets [2]int `json:"data_offsets"`
		}
		must(t, d.Decode(&e))
		f.tensors[key.(string)] = decode(e.DType, e.Shape, body[e.Offsets[0]:e.Offsets[1]])
		f.names = append(f.names, key.(string))
	}
	return f
}

func skip(d *json.Decoder) error {
	_, err := d.Token()
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func decode(dtype string, shape graph.Shape, b []byte) *interp.Tensor {
	x := interp.New(graph.F32, shape)
	for i := range x.Data {
		bits := binary.LittleEndian.Uint64(b[8*i:])
		x.Data[i] = math.Float64frombits(bits)
		if dtype == "I64" {
			x.DType, x.Data[i] = graph.I32, float64(int64(bits))
		}
	}
	return x
}

func (f *fixture) get(t *testing.T, name string) *interp.Tensor {
	t.Helper()
	x := f.tensors[name]
	if x == nil {
		t.Fatalf("the fixture has no tensor %q", name)
	}
	return x
}

// number is a setting, by its path: "optimisers", "sgd", "momentum".
func (f *fixture) number(t *testing.T, path ...string) float64 {
	t.Helper()
	var at any = f.settings
	for _, p := range path {
		m, _ := at.(map[string]any)
		at = m[p]
	}
	v, ok := at.(float64)
	if !ok {
		t.Fatalf("the fixture has no number %v", path)
	}
	return v
}

// near compares to 1e-9 of the tensor's largest magnitude.
func near(t *testing.T, name string, got, want *interp.Tensor) {
	t.Helper()
	if got == nil || !got.Shape.Equal(want.Shape) {
		t.Fatalf("%s: got %v, want shape %v", name, got, want.Shape)
	}
	top, apart := 0.0, 0.0
	for i, w := range want.Data {
		top = max(top, math.Abs(w))
		apart = max(apart, math.Abs(got.Data[i]-w)) // NaN wins
	}
	if !(apart <= 1e-9*top) {
		t.Errorf("%s: differs by %.3g where the largest is %.3g", name, apart, top)
	}
}

func eval(t *testing.T, g *graph.Graph, feed interp.Feed) *interp.Result {
	t.Helper()
	r, err := interp.Run(g, feed)
	must(t, err)
	return r
}
