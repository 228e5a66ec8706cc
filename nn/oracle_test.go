package nn

import (
	"math"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
)

// reduced are the models of the fixtures, built by the very definitions of the
// full ones.
var reduced = []struct {
	fixture, model string
	config         Config
}{
	{"patchcnn", "patchcnn", Config{Filters: 4, Q: 3, Rho: 0.5}},
	{"patchcnn-q4", "patchcnn", Config{Filters: 4, Q: 4, Rho: 0.75}},
	{"mnist-wong", "mnist-wong", Config{Width: 4, Hidden: 20}},
	{"mnist-madry", "mnist-madry", Config{Width: 4, Hidden: 16}},
	{"cifar-small", "cifar-small", Config{Width: 4, Hidden: 16}},
	{"preactresnet10", "preactresnet18", Config{Width: 2, Blocks: []int{1, 1, 1, 1}}},
	{"preactresnet18", "preactresnet18", Config{Width: 4}},
	{"wideresnet-10-2", "wideresnet-28-10", Config{Width: 2, Widen: 2, Blocks: []int{1, 1, 1}}},
	{"resnet10", "resnet18", Config{Width: 2, Blocks: []int{1, 1, 1, 1}}},
	{"dm-wideresnet-10-2", "dm-wideresnet-28-10", Config{Width: 2, Widen: 2, Blocks: []int{1, 1, 1}}},
}

// job is a fixture with the model that it was computed on.
type job struct {
	*fixture
	model   *Model
	x, y    *interp.Tensor
	weights interp.Feed // the states, by Key
}

func open(t *testing.T, fixture, model string, c Config) job {
	f := readFixture(t, fixture)
	j := job{fixture: f, x: f.get(t, "x"), y: f.get(t, "y"), weights: interp.Feed{}}
	c.Input = j.x.Shape[1:]
	c.Classes = int(f.logits(t).Shape[1])
	if m := f.tensors["const/normalize.mean"]; m != nil {
		c.Mean, c.Std = m.Data, f.get(t, "const/normalize.std").Data
	}
	j.model = lookup(t, model, c)
	var names []string
	for _, n := range f.names {
		if p, ok := strings.CutPrefix(n, "param/"); ok {
			names = append(names, p)
			j.weights["state "+p] = f.tensors[n]
		}
	}
	checkNames(t, j.model, names)
	return j
}

// checkNames compares with the names of a state_dict, their order included;
// shapes are checked by the interpreter's feed.
func checkNames(t *testing.T, m *Model, want []string) {
	t.Helper()
	var got []string
	for _, s := range m.Specs() {
		got = append(got, s.Name)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the state is\n%v\nwant\n%v", got, want)
	}
}

func (f *fixture) logits(t *testing.T) *interp.Tensor {
	if l := f.tensors["logits"]; l != nil {
		return l
	}
	return f.get(t, "logits_train")
}

// feed is the weights, the batch, and scalars.
func (j job) feed(scalars map[string]float64) interp.Feed {
	f := interp.Feed{"input x": j.x, "input y": j.y}
	for k, v := range j.weights {
		f[k] = v
	}
	for k, v := range scalars {
		f["scalar "+k] = interp.New(graph.F32, nil, v)
	}
	return f
}

func (j job) start() (g *graph.Graph, x, y *graph.Node, params, buffers Tree) {
	g = graph.New(j.model.Name)
	x, y = g.Input("x", graph.F32, j.x.Shape...), g.Input("y", graph.I32, j.y.Shape...)
	params, buffers = j.model.Declare(g, "")
	return
}

// Logits in both modes, the loss, all gradients, and the buffers after one
// pass.
func TestOracleModels(t *testing.T) {
	for _, c := range reduced {
		t.Run(c.fixture, func(t *testing.T) {
			j := open(t, c.fixture, c.model, c.config)
			g, x, y, params, buffers := j.start()
			out := j.model.Apply(params, buffers, x, BatchUpdate)
			loss := CrossEntropy(out.Logits, y).Mean()
			g.Output("loss", loss)
			g.Output("grad_x", Grad(loss, Tree{{"x", x}})[0].Node)
			if len(buffers) == 0 {
				g.Output("logits", out.Logits)
			} else {
				g.Output("logits_train", out.Logits)
				g.Output("logits_eval", j.model.Apply(params, buffers, x, Eval).Logits)
			}
			for _, l := range Grad(loss, params) {
				g.Output("grad/"+l.Name, l.Node)
			}
			for _, l := range out.Buffers {
				g.Output("buffer1/"+l.Name, l.Node)
			}
			if j.tensors["lsemargin/loss"] != nil {
				margin := LSEMargin(out.Logits, y)
				g.Output("lsemargin/loss", margin)
				g.Output("lsemargin/grad_x", Grad(margin.Sum(), Tree{{"x", x}})[0].Node)
			}
			r := eval(t, g, j.feed(nil))
			for name, got := range r.Outputs {
				near(t, name, got, j.get(t, name))
			}
		})
	}
}

// Batch and BatchUpdate agree but for the buffers.
func TestBatchModeLeavesBuffers(t *testing.T) {
	j := open(t, "preactresnet10", "preactresnet18", reduced[5].config)
	g, x, _, params, buffers := j.start()
	out := j.model.Apply(params, buffers, x, Batch)
	if out.Logits != j.model.Apply(params, buffers, x, BatchUpdate).Logits {
		t.Error("the logits of batch and batch-update are different nodes")
	}
	if g.Err() != nil {
		t.Fatal(g.Err())
	}
	for i, b := range out.Buffers {
		if b != buffers[i] {
			t.Errorf("%s changes", b.Name)
		}
	}
}

// A model in the body of a loop, its buffers carried: the fixtures' PGD on
// batch statistics with running updates.
func TestOracleModelInLoop(t *testing.T) {
	for _, c := range reduced[5:] { // those with batch norm
		t.Run(c.fixture, func(t *testing.T) {
			j := open(t, c.fixture, c.model, c.config)
			g, x, y, params, buffers := j.start()
			eps, alpha := g.Scalar("eps", graph.F32), g.Scalar("alpha", graph.F32)
			start := g.Input("start", graph.F32, x.Shape()...)
			carry := append([]*graph.Node{start}, buffers.Nodes()...)
			last, losses := g.Loop(5, carry, nil, func(_ *graph.Node, carry, _ []*graph.Node) (next, stack []*graph.Node) {
				at := carry[0]
				out := j.model.Apply(params, buffers.With(carry[1:]), at, BatchUpdate)
				loss := CrossEntropy(out.Logits, y)
				ascent := Grad(loss.Sum(), Tree{{"at", at}})[0].Node.Sign().Mul(alpha)
				delta := at.Add(ascent).Sub(x).Clamp(eps.Neg(), eps)
				return append([]*graph.Node{x.Add(delta).ClampC(0, 1)}, out.Buffers.Nodes()...), []*graph.Node{loss}
			})
			g.Output("pgd_train/5", last[0])
			g.Output("losses", losses[0])
			for _, l := range buffers.With(last[1:]) {
				g.Output("pgd_train/buffer/"+l.Name, l.Node)
			}
			feed := j.feed(map[string]float64{"eps": j.number(t, "pgd", "eps"), "alpha": j.number(t, "pgd", "alpha")})
			feed["input start"] = j.get(t, "pgd/start")
			r := eval(t, g, feed)
			want := j.get(t, "pgd_train/loss") // (6,N): the last row is after the loop
			near(t, "losses", r.Outputs["losses"], interp.New(graph.F32, graph.Shape{5, want.Shape[1]}, want.Data[:5*want.Shape[1]]...))
			delete(r.Outputs, "losses")
			for name, got := range r.Outputs {
				near(t, name, got, j.get(t, name))
			}
		})
	}
}

func (j job) optimizer(t *testing.T, name string) (Optimizer, map[string]float64) {
	opt := func(k string) float64 { return j.number(t, "optimisers", name, k) }
	scalars := map[string]float64{"lr": j.number(t, "lr"), "decay": opt("weight_decay")}
	if strings.HasPrefix(name, "adam") {
		scalars["lr"] = j.number(t, "adam_lr")
		betas := j.settings["optimisers"].(map[string]any)[name].(map[string]any)["betas"].([]any)
		return Adam{Beta1: betas[0].(float64), Beta2: betas[1].(float64), Eps: opt("eps"), Decay: Decay{Decoupled: name == "adamw"}}, scalars
	}
	return SGD{Momentum: opt("momentum"), Nesterov: name == "nesterov"}, scalars
}

// Ten training steps with each optimiser: the losses, then the state.
func TestOracleOptimizers(t *testing.T) {
	for _, c := range reduced {
		for _, name := range []string{"sgd", "nesterov", "adam", "adamw"} {
			t.Run(c.fixture+"/"+name, func(t *testing.T) {
				j := open(t, c.fixture, c.model, c.config)
				opt, scalars := j.optimizer(t, name)
				g, x, y, params, buffers := j.start()
				out := j.model.Apply(params, buffers, x, BatchUpdate)
				loss := CrossEntropy(out.Logits, y).Mean()
				slots := opt.Declare(g, "opt/", params)
				rates := Rates{LR: g.Scalar("lr", graph.F32), Decay: g.Scalar("decay", graph.F32)}
				newParams, newSlots := opt.Step(params, Grad(loss, params), slots, rates)
				Assign(params, newParams)
				Assign(slots, newSlots)
				Assign(buffers, out.Buffers)
				g.Output("loss", loss)
				feed := j.feed(scalars)
				for _, s := range slots {
					feed[interp.Key(s.Node)] = interp.New(s.Node.DType(), s.Node.Shape())
				}
				losses := interp.New(graph.F32, graph.Shape{10})
				for i := range losses.Data {
					r := eval(t, g, feed)
					losses.Data[i] = r.Outputs["loss"].Data[0]
					for k, v := range r.States {
						feed["state "+k] = v
					}
				}
				near(t, "loss", losses, j.get(t, name+"/loss"))
				j.checkState(t, name, feed)
			})
		}
	}
}

func (j job) checkState(t *testing.T, optimizer string, feed interp.Feed) {
	for _, n := range j.names {
		if p, ok := strings.CutPrefix(n, optimizer+"/param/"); ok {
			near(t, p, feed["state "+p], j.tensors[n])
		}
		if p, ok := strings.CutPrefix(n, optimizer+"/norm/"); ok {
			near(t, "norm of "+p, norm(feed["state "+p]), j.tensors[n])
		}
	}
}

func norm(x *interp.Tensor) *interp.Tensor {
	sum := 0.0
	for _, v := range x.Data {
		sum += v * v
	}
	return interp.New(x.DType, nil, math.Sqrt(sum))
}
