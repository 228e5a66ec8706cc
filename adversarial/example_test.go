package adversarial_test

import (
	"fmt"
	"log"

	"temper/adversarial"
	"temper/engine"
	"temper/engine/autodiff"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/nn"
)

// nesterov is an attack of your own: ten sign steps with Nesterov's momentum in
// the L∞ ball of radius eps around images x in [0,1]. It is a function that builds
// a graph, so that it is compiled with whatever stands around it: a training step,
// an evaluation.
func nesterov(forward func(*graph.Node) *graph.Node, x, y, eps *graph.Node) *graph.Node {
	const steps, momentum = 10, 0.9
	alpha := eps.MulC(2.0 / steps)
	zero := x.MulC(0)
	last, _ := x.Graph().Loop(steps, []*graph.Node{x, zero}, nil, func(_ *graph.Node, carry, _ []*graph.Node) (next, _ []*graph.Node) {
		adv, velocity := carry[0], carry[1]
		ahead := adv.Add(velocity.Mul(alpha).MulC(momentum))
		loss := nn.CrossEntropy(forward(ahead), y).Sum()
		grad := autodiff.Grad(loss, ahead)[0]
		velocity = velocity.MulC(momentum).Add(grad.Div(grad.Abs().SumKeep(1, 2, 3).AddC(1e-12)))
		adv = adv.Add(velocity.Sign().Mul(alpha))
		adv = adv.Clamp(x.Sub(eps), x.Add(eps)).ClampC(0, 1)
		return []*graph.Node{adv, velocity}, nil
	})
	return last[0]
}

// An attack in twenty lines, nesterov above, against a network whose two logits
// are the means of the left and of the right half of an image.
func Example_attackOfYourOwn() {
	halves := func(x *graph.Node) *graph.Node {
		return graph.Concat(1, x.Slice(3, 0, 2).Mean(1, 2, 3).Expand(1), x.Slice(3, 2, 4).Mean(1, 2, 3).Expand(1))
	}
	threat := adversarial.ThreatModel{Norm: adversarial.Linf, Epsilon: adversarial.MustEpsilon("0.25"), Domain: adversarial.Unit}
	g := graph.New("attack")
	x, y := g.Input("x", graph.F32, 3, 1, 2, 4), g.Input("y", graph.I32, 3)
	adv := nesterov(halves, x, y, g.Scalar("eps", graph.F32))
	g.Output("before", halves(x).ArgMax(1))
	g.Output("after", halves(adv).ArgMax(1))
	g.Output("size", threat.Size(adv.Sub(x)))

	dev, err := engine.Open("cpu", engine.DeviceOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()
	e, err := dev.Compile(g, dev.NewState(), engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	images := []float32{ // the third is safe: its halves differ by more than 2ε
		0.75, 0.75, 0.5, 0.5, 0.75, 0.75, 0.5, 0.5,
		0.25, 0.25, 0.5, 0.5, 0.25, 0.25, 0.5, 0.5,
		1, 1, 0.25, 0.25, 1, 1, 0.25, 0.25,
	}
	for _, err := range []error{
		e.FeedBytes("x", engine.Bytes(images)), e.FeedBytes("y", engine.Bytes([]int32{0, 1, 0})),
		e.Set("eps", threat.Epsilon.Float64()), e.Run(),
	} {
		if err != nil {
			log.Fatal(err)
		}
	}
	for _, name := range []string{"before", "after", "size"} {
		v, err := e.Fetch(name)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(name, v)
	}
	// Output:
	// before [0  1  0]
	// after [1  0  0]
	// size [0.25  0.25  0.25]
}
