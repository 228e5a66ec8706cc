package adversarial

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"temper/adversarial/run"
	"temper/engine"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/passes"
	"temper/engine/plan"
	"temper/nn"
)

// reduced are the models of PyTorch's fixtures; build/oracle/README.md says
// what each file holds.
var reduced = []struct {
	fixture, model string
	config         nn.Config
}{
	{"patchcnn", "patchcnn", nn.Config{Filters: 4, Q: 3, Rho: 0.5}},
	{"patchcnn-q4", "patchcnn", nn.Config{Filters: 4, Q: 4, Rho: 0.75}},
	{"mnist-wong", "mnist-wong", nn.Config{Width: 4, Hidden: 20}},
	{"mnist-madry", "mnist-madry", nn.Config{Width: 4, Hidden: 16}},
	{"cifar-small", "cifar-small", nn.Config{Width: 4, Hidden: 16}},
	{"preactresnet10", "preactresnet18", nn.Config{Width: 2, Blocks: []int{1, 1, 1, 1}}},
	{"preactresnet18", "preactresnet18", nn.Config{Width: 4}},
	{"wideresnet-10-2", "wideresnet-28-10", nn.Config{Width: 2, Widen: 2, Blocks: []int{1, 1, 1}}},
	{"resnet10", "resnet18", nn.Config{Width: 2, Blocks: []int{1, 1, 1, 1}}},
	{"dm-wideresnet-10-2", "dm-wideresnet-28-10", nn.Config{Width: 2, Widen: 2, Blocks: []int{1, 1, 1}}},
}

// fixture is what PyTorch computed in float64 on one of them.
type fixture struct {
	model    *nn.Model
	tensors  map[string]*interp.Tensor // F64 as f32 and I64 as i32, the types that graphs have
	settings map[string]any
}

// eachFixture runs a test on every reduced model.
func eachFixture(t *testing.T, f func(t *testing.T, f *fixture)) {
	for _, r := range reduced {
		t.Run(r.fixture, func(t *testing.T) { f(t, readFixture(t, r.fixture, r.model, r.config)) })
	}
}

func readFixture(t *testing.T, name, model string, c nn.Config) *fixture {
	t.Helper()
	f := &fixture{tensors: map[string]*interp.Tensor{}}
	f.read(t, name)
	c.Input = f.get(t, "x").Shape[1:]
	c.Classes = 10
	if k, ok := f.settings["k"].(float64); ok {
		c.Classes = int(k)
	}
	if m := f.tensors["const/normalize.mean"]; m != nil {
		c.Mean, c.Std = m.Data, f.get(t, "const/normalize.std").Data
	}
	var err error
	f.model, err = nn.Lookup(model, c)
	must(t, err)
	return f
}

// read reads tensors and settings of a file.
func (f *fixture) read(t *testing.T, name string) {
	t.Helper()
	file, err := run.ReadSafetensorsFile(filepath.Join("..", "nn", "testdata", "oracle", name+".safetensors"))
	must(t, err)
	must(t, json.Unmarshal([]byte(file.Metadata["settings"]), &f.settings))
	for _, x := range file.List {
		f.tensors[x.Name] = decodeTensor(x)
	}
}

func decodeTensor(from run.Tensor) *interp.Tensor {
	x := interp.New(graph.F32, from.Shape)
	for i := range x.Data {
		bits := binary.LittleEndian.Uint64(from.Data[8*i:])
		x.Data[i] = math.Float64frombits(bits)
		if from.DType == "I64" {
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

// number is a setting by its path: "pgd", "eps".
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

// threat is the fixture's threat model in a norm; ε is the graph's business.
func (f *fixture) threat(n Norm) ThreatModel {
	clips := f.settings["pgd"].(map[string]any)["clip"].(bool)
	t := ThreatModel{Norm: n, Epsilon: MustEpsilon("1"), Domain: Unbounded}
	if clips {
		t.Domain = Unit
	}
	return t
}

// feed is the initial state, the batch, and scalars.
func (f *fixture) feed(t *testing.T, scalars map[string]float64) interp.Feed {
	feed := interp.Feed{"input x": f.get(t, "x"), "input y": f.get(t, "y")}
	for name, x := range f.tensors {
		if p, ok := strings.CutPrefix(name, "param/"); ok {
			feed["state "+p] = x
		}
	}
	for name, v := range scalars {
		feed["scalar "+name] = interp.New(graph.F32, nil, v)
	}
	return feed
}

// attackGraph starts a graph of one attack on the fixture's batch.
func (f *fixture) attackGraph(t *testing.T, threat ThreatModel, start string) (*graph.Graph, Problem) {
	g := graph.New(f.model.Name)
	shape := f.get(t, "x").Shape
	params, buffers := f.model.Declare(g, "")
	p := Problem{
		Forward: Of(f.model, params), Buffers: buffers,
		X: g.Input("x", graph.F32, shape...), Y: g.Input("y", graph.I32, shape[0]),
		Threat: threat, Eps: g.Scalar("eps", graph.F32), Alpha: g.Scalar("alpha", graph.F32),
	}
	if start != "" {
		p.Start = g.Input("start", graph.F32, shape...)
	}
	return g, p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eval(t *testing.T, g *graph.Graph, feed interp.Feed) *interp.Result {
	t.Helper()
	r, err := interp.Run(g, feed)
	must(t, err)
	return r
}

// apart is the largest difference, and the largest magnitude of what is wanted.
func apart(got, want []float64) (diff, top float64) {
	for i, w := range want {
		diff, top = max(diff, math.Abs(got[i]-w)), max(top, math.Abs(w)) // NaN wins
	}
	return diff, top
}

// near compares to 1e-9 of the largest magnitude.
func near(t *testing.T, name string, got, want *interp.Tensor) {
	t.Helper()
	if got == nil || !got.Shape.Equal(want.Shape) {
		t.Fatalf("%s: got %v, want shape %v", name, got, want.Shape)
	}
	if diff, top := apart(got.Data, want.Data); !(diff <= 1e-9*top) {
		t.Errorf("%s: differs by %.3g where the largest is %.3g", name, diff, top)
	}
}

// program is a graph compiled for the CPU, with its state.
type program struct {
	*engine.Executable
	t     *testing.T
	state *engine.State
}

func compile(t *testing.T, g *graph.Graph, off ...string) program {
	t.Helper()
	d, err := engine.Open("cpu", engine.DeviceOptions{})
	must(t, err)
	t.Cleanup(func() { d.Close() })
	p := program{t: t, state: d.NewState()}
	p.Executable, err = d.Compile(g, p.state, engine.Options{Passes: passes.Options{Off: off}})
	must(t, err)
	return p
}

// give feeds what a reference run was fed.
func (p program) give(feed interp.Feed) {
	p.t.Helper()
	for key, x := range feed {
		kind, name, _ := strings.Cut(key, " ")
		switch {
		case kind == "scalar":
			must(p.t, p.Set(name, x.Data[0]))
		case kind == "input":
			must(p.t, p.FeedBytes(name, aligned(x.Bytes())))
		case slices.Contains(p.state.Names(), name):
			must(p.t, p.state.SetBytes(name, x.Bytes()))
		}
	}
}

// aligned copies bytes to memory that may be viewed as any element type.
func aligned(b []byte) []byte {
	words := make([]uint64, (len(b)+7)/8)
	out := engine.Bytes(words)[:len(b)]
	copy(out, b)
	return out
}

func (p program) run() {
	p.t.Helper()
	must(p.t, p.Run())
}

// output copies an output of the last run as float64.
func (p program) output(name string) *interp.Tensor {
	p.t.Helper()
	b, err := p.FetchBytes(name)
	must(p.t, err)
	outs := p.Plan().Outputs
	out := outs[slices.IndexFunc(outs, func(o plan.Output) bool { return o.Name == name })]
	x, err := interp.FromBytes(out.DType, out.Shape, b)
	must(p.t, err)
	return x
}

func (p program) scalar(name string) float64 {
	p.t.Helper()
	v, err := p.Scalar(name)
	must(p.t, err)
	return v
}

// tensor copies a state as float64.
func (p program) tensor(name string) *interp.Tensor {
	p.t.Helper()
	dtype, shape, err := p.state.Type(name)
	must(p.t, err)
	b, err := p.state.Bytes(name)
	must(p.t, err)
	x, err := interp.FromBytes(dtype, shape, b)
	must(p.t, err)
	return x
}

// tinySizes are every registered model at sizes that compile and run in no
// time. No extent is a multiple of 7, the batch of the tests that look at
// shapes.
var tinySizes = map[string]nn.Config{
	"patchcnn":            {Input: graph.Shape{8, 1, 9}, Classes: 3, Filters: 4, Sigma: 0.3},
	"mnist-wong":          {Input: graph.Shape{1, 12, 12}, Classes: 10, Width: 4, Hidden: 20},
	"mnist-madry":         {Input: graph.Shape{1, 12, 12}, Classes: 10, Width: 4, Hidden: 16},
	"cifar-small":         {Input: graph.Shape{3, 16, 16}, Classes: 10, Width: 4, Hidden: 16},
	"preactresnet18":      {Input: graph.Shape{3, 16, 16}, Classes: 10, Width: 4, Blocks: []int{1, 1, 1, 1}},
	"resnet18":            {Input: graph.Shape{3, 16, 16}, Classes: 10, Width: 4, Blocks: []int{1, 1, 1, 1}},
	"dm-wideresnet-28-10": {Input: graph.Shape{3, 16, 16}, Classes: 10, Width: 4, Widen: 2, Blocks: []int{1, 1, 1}},
	"wideresnet-28-10":    {Input: graph.Shape{3, 16, 16}, Classes: 10, Width: 4, Widen: 2, Blocks: []int{1, 1, 1}},
	"wideresnet-34-10":    {Input: graph.Shape{3, 16, 16}, Classes: 10, Width: 4, Widen: 2, Blocks: []int{1, 2, 1}, Activation: "silu"},
}

func tiny(t *testing.T, name string) *nn.Model {
	t.Helper()
	c, ok := tinySizes[name]
	if !ok {
		t.Fatalf("%s: a new model: give it a line in tinySizes", name)
	}
	m, err := nn.Lookup(name, c)
	must(t, err)
	return m
}

// startOf is a model's initial state.
func startOf(t *testing.T, m *nn.Model, seed float64) interp.Feed {
	t.Helper()
	feed := interp.Feed{"scalar seed": interp.New(graph.U32, nil, seed)}
	for _, s := range m.Specs() {
		feed["state "+s.Name] = interp.New(s.DType, s.Shape)
	}
	r := eval(t, m.InitGraph(), feed)
	for name, x := range r.States {
		feed["state "+name] = x
	}
	delete(feed, "scalar seed")
	return feed
}
