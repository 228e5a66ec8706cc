package adversarial_test

import (
	"fmt"
	"log"

	"temper/adversarial"
	"temper/engine"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/nn"
)

// A network of your own, trained adversarially and then attacked: StepGraph is the
// whole training step, EvalGraph the evaluation, and both programs share the
// weights on the device.
func Example_trainingOfYourOwn() {
	net, err := nn.NewModel("stripes", graph.Shape{1, 8, 8}, 2, func(s *nn.Scope, x *graph.Node) (features, logits *graph.Node) {
		x = nn.Conv2D(s.Sub("conv"), x, nn.Conv{Out: 4, Kernel: 3, Pad: 1}).ReLU() // (N,4,8,8)
		features = nn.GlobalAvgPool(nn.MaxPool(x, 2))                              // (N,4)
		return features, nn.Linear(s.Sub("fc"), features, 2, nil)
	})
	check(err)
	threat := adversarial.ThreatModel{Norm: adversarial.Linf, Epsilon: adversarial.MustEpsilon("0.1"), Domain: adversarial.Unit}
	method, err := adversarial.LookupTraining("pgd-at")
	check(err)
	method.Attack.Steps = 5
	method = method.Resolve(threat) // what is not set takes its default
	pgd, err := adversarial.LookupAttack("pgd")
	check(err)
	pgd.Steps, pgd.Restarts = 20, 2
	pgd = pgd.Resolve(threat)

	const n = 32
	adam := nn.Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
	stepGraph, err := adversarial.StepGraph(net, method, adam, threat, n, graph.F32)
	check(err)
	evalGraph, err := adversarial.EvalGraph(net, &pgd, threat, n, graph.F32)
	check(err)

	dev, err := engine.Open("cpu", engine.DeviceOptions{})
	check(err)
	defer dev.Close()
	weights := dev.NewState()
	defer weights.Free()
	compile := func(g *graph.Graph) *engine.Executable {
		p, err := dev.Compile(g, weights, engine.Options{})
		check(err)
		return p
	}
	start, step, eval := compile(net.InitGraph()), compile(stepGraph), compile(evalGraph)
	defer start.Close()
	defer step.Close()
	defer eval.Close()

	images, labels := stripes(n)
	ids := make([]uint32, n) // the random draws depend on a sample's id
	for i := range ids {
		ids[i] = uint32(i)
	}
	for _, p := range []*engine.Executable{step, eval} {
		check(p.FeedBytes("x", engine.Bytes(images)), p.FeedBytes("y", engine.Bytes(labels)), p.FeedBytes("ids", engine.Bytes(ids)), p.Set("seed", 1))
	}
	check(start.Set("seed", 1), start.Run())
	check(step.Set("lr", 0.02), step.Set("weight_decay", 0))
	for i := range 200 {
		eps, alpha := method.Radius(threat, nn.Progress{Step: i, PerEpoch: 1, Epochs: 200})
		check(step.Set("eps", eps), step.Set("alpha", alpha), step.Set("step", float64(i)), step.Run())
	}
	check(eval.Set("eps", threat.Epsilon.Float64()), eval.Set("alpha", pgd.Alpha(threat).Float64()), eval.Run())
	fmt.Println(method.Attack.Describe(threat))
	fmt.Println(pgd.Describe(threat))
	for _, name := range []string{"clean_correct", "adv_correct"} {
		right, err := eval.Fetch(name) // (N) of bool
		check(err)
		count := 0
		for _, r := range right.Data().([]bool) {
			if r {
				count++
			}
		}
		fmt.Printf("%s: %d of %d\n", name, count, n)
	}
	// Output:
	// PGD-5, L∞ 0.1, step 0.05, loss ce
	// PGD-20-2, L∞ 0.1, step 0.0125, loss ce
	// clean_correct: 32 of 32
	// adv_correct: 32 of 32
}

// check ends the program at the first error.
func check(errs ...error) {
	for _, err := range errs {
		if err != nil {
			log.Fatal(err)
		}
	}
}

// stripes draws lying (label 0) and standing (label 1) stripes of all phases and
// several strengths.
func stripes(n int) (images []float32, labels []int32) {
	for i := range n {
		labels = append(labels, int32(i%2))
		for p := range 64 {
			at := p / 8
			if i%2 == 1 {
				at = p % 8
			}
			images = append(images, float32((at+i/2)%2)*(0.5+float32(i)/float32(2*n)))
		}
	}
	return images, labels
}
