package bench

import (
	"temper/adversarial"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/rng"
	"temper/nn"
)

// program is a case compiled on a device, ready to run.
type program struct {
	exec  *engine.Executable
	state *engine.State
	flops float64 // of the contractions in one run
	bytes float64 // that its kernels read and write
}

func (p *program) close() {
	p.exec.Close()
	p.state.Free()
}

// prepare compiles a case and runs it once.
func prepare(dev *engine.Device, s Spec, o engine.Options) (*program, error) {
	p := &program{state: dev.NewState()}
	layout := graph.NCHW
	target, err := dev.Target(o.Precision)
	if err != nil {
		return nil, err
	}
	if target.ChannelsLast {
		layout = graph.NHWC
	}
	build, feed := func(s Spec) (*graph.Graph, error) { return kernelGraph(s, layout) }, feedKernel
	if s.Kind == "step" {
		build, feed = stepGraph, feedStep
	}
	g, err := build(s)
	if err != nil {
		return nil, err
	}
	lean, err := passes.Run(g, passes.Options{})
	if err != nil {
		return nil, err
	}
	p.flops = lean.Root().FLOPs()
	if p.exec, err = dev.Compile(g, p.state, o); err != nil {
		return nil, err
	}
	p.bytes = traffic(p.exec.Plan(), p.exec.Plan().Steps)
	if err := feed(dev, p, s); err != nil {
		p.close()
		return nil, err
	}
	return p, p.exec.Run()
}

func stepModel(s Spec) (*nn.Model, error) {
	c := nn.Config{Input: []int{3, 32, 32}, Classes: 10}
	if s.Model == "mnist-madry" || s.Model == "mnist-wong" {
		c.Input = []int{1, 28, 28}
	}
	return nn.Lookup(s.Model, c)
}

func stepGraph(s Spec) (*graph.Graph, error) {
	m, err := stepModel(s)
	if err != nil {
		return nil, err
	}
	t, err := adversarial.LookupTraining(s.Method)
	if err != nil {
		return nil, err
	}
	switch s.Method {
	case "pgd-at", "fgsm-rs":
		t.Attack.Steps, t.Attack.RandomStart = s.Steps, true
		t.Attack.BN = "batch-update" // as a PyTorch module in training mode does
	case "trades": // whose authors attack in evaluation mode
		t.Attack.Steps = s.Steps
	}
	threat, err := threatModel()
	if err != nil {
		return nil, err
	}
	return adversarial.StepGraph(m, t, nn.SGD{Momentum: 0.9}, threat, s.Batch, graph.U8)
}

func threatModel() (adversarial.ThreatModel, error) {
	eps, err := adversarial.ParseEpsilon("8/255")
	return adversarial.ThreatModel{Norm: adversarial.Linf, Epsilon: eps, Domain: adversarial.Unit}, err
}

// feedStep draws weights and a batch, and sets the step block.
func feedStep(dev *engine.Device, p *program, s Spec) error {
	m, err := stepModel(s)
	if err != nil {
		return err
	}
	start, err := dev.Compile(m.InitGraph(), p.state, engine.Options{})
	if err != nil {
		return err
	}
	defer start.Close()
	if err := start.Set("seed", 0); err != nil {
		return err
	}
	if err := start.Run(); err != nil {
		return err
	}
	draws := rng.NewStream(0, "bench", 0)
	x, y, ids := make([]byte, s.Batch*m.Input[0]*m.Input[1]*m.Input[2]), make([]int32, s.Batch), make([]uint32, s.Batch)
	for i := range x {
		x[i] = byte(draws.Uint32())
	}
	for i := range y {
		y[i], ids[i] = int32(draws.Uint32()%10), uint32(i)
	}
	for name, b := range map[string][]byte{"x": x, "y": engine.Bytes(y), "ids": engine.Bytes(ids)} {
		if err := p.exec.FeedBytes(name, b); err != nil {
			return err
		}
	}
	for name, v := range map[string]float64{"seed": 0, "step": 0, "lr": 0.01, "weight_decay": 0, "eps": 8. / 255, "alpha": stepSize(s)} {
		if err := p.exec.Set(name, v); err != nil {
			return err
		}
	}
	return nil
}

// stepSize is that of an ascent step: for a single one, 1.25 ε.
func stepSize(s Spec) float64 {
	if s.Steps == 1 {
		return 10. / 255
	}
	return 2. / 255
}

// kernelGraph is one operation between states, images in the device's own
// layout, so that nothing else is measured.
func kernelGraph(s Spec, layout graph.Layout) (*graph.Graph, error) {
	g := graph.New(s.Name())
	var y *graph.Node
	switch {
	case s.Kind == "matmul":
		y = graph.MatMul(g.State("a", graph.F32, s.Size, s.Size), g.State("b", graph.F32, s.Size, s.Size), false, false)
	case s.Kind == "copy":
		y = g.State("x", graph.F32, s.Size).Neg()
	default:
		x := g.State("x", graph.F32, layout.Shape(s.Batch, s.Channels, s.Size, s.Size)...)
		w := g.State("w", graph.F32, layout.Shape(s.Out, s.Channels, s.Kernel, s.Kernel)...)
		a := graph.Attrs{Stride: [2]int{s.Stride, s.Stride}, Pad: [2]int{s.Kernel / 2, s.Kernel / 2}, Dilation: [2]int{1, 1}, Layout: layout}
		y = g.Make(graph.OpConv2D, a, x, w)
		if s.Kind != "conv2d" {
			dy := g.State("dy", graph.F32, y.Shape()...)
			if s.Kind == "conv2d-input-grad" {
				a.Size = []int{s.Size, s.Size}
				y = g.Make(graph.OpConv2DInputGrad, a, dy, w)
			} else {
				a.Size = []int{s.Kernel, s.Kernel}
				y = g.Make(graph.OpConv2DFilterGrad, a, x, dy)
			}
		}
	}
	if g.Err() != nil {
		return nil, g.Err()
	}
	g.Assign(g.State("y", graph.F32, y.Shape()...), y)
	return g, g.Err()
}

// feedKernel fills the states with numbers from U[-1,1), those of a copy with
// zeros: they must be written, for memory that never was is not read either.
func feedKernel(_ *engine.Device, p *program, s Spec) error {
	for i, name := range p.state.Names() {
		_, shape, err := p.state.Type(name)
		if err != nil {
			return err
		}
		draws, values := rng.NewStream(0, "bench", uint32(i)), make([]float32, shape.Size())
		for j := 0; j < len(values) && s.Kind != "copy"; j++ {
			values[j] = float32(int32(draws.Uint32())) * 0x1p-31
		}
		if err := p.state.SetBytes(name, engine.Bytes(values)); err != nil {
			return err
		}
	}
	return nil
}
