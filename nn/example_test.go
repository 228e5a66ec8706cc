package nn_test

import (
	"fmt"
	"log"

	"temper/engine"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/nn"
)

// A network of your own, trained: a function from images to logits, a graph that
// makes one step of it, and a loop. Names of layers become PyTorch's names of
// parameters.
func Example() {
	net, err := nn.NewModel("stripes", graph.Shape{1, 8, 8}, 2, func(s *nn.Scope, x *graph.Node) (features, logits *graph.Node) {
		x = nn.Conv2D(s.Sub("conv"), x, nn.Conv{Out: 4, Kernel: 3, Pad: 1}).ReLU() // (N,4,8,8)
		features = nn.GlobalAvgPool(nn.MaxPool(x, 2))                              // (N,4)
		return features, nn.Linear(s.Sub("fc"), features, 2, nil)
	})
	if err != nil {
		log.Fatal(err)
	}

	// One step: loss, gradients, new weights.
	const n = 32
	g := graph.New("step")
	x, y := g.Input("x", graph.F32, n, 1, 8, 8), g.Input("y", graph.I32, n)
	params, buffers := net.Declare(g, "")
	logits := net.Apply(params, buffers, x, nn.BatchUpdate).Logits
	loss := nn.CrossEntropy(logits, y).Mean()
	adam := nn.Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
	slots := adam.Declare(g, "optimizer/", params)
	newParams, newSlots := adam.Step(params, nn.Grad(loss, params), slots, nn.Rates{LR: g.Scalar("lr", graph.F32)})
	nn.Assign(params, newParams)
	nn.Assign(slots, newSlots)
	g.Output("correct", nn.CountCorrect(logits, y))

	// A device, the weights on it, and the two programs that use them.
	dev, err := engine.Open("cpu", engine.DeviceOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()
	weights := dev.NewState()
	defer weights.Free()
	start, err := dev.Compile(net.InitGraph(), weights, engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer start.Close()
	step, err := dev.Compile(g, weights, engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer step.Close()

	images, labels := stripes(n)
	for _, err := range []error{
		start.Set("seed", 1), start.Run(),
		step.FeedBytes("x", engine.Bytes(images)), step.FeedBytes("y", engine.Bytes(labels)), step.Set("lr", 0.02),
	} {
		if err != nil {
			log.Fatal(err)
		}
	}
	for range 200 {
		if err := step.Run(); err != nil {
			log.Fatal(err)
		}
	}
	correct, err := step.Scalar("correct")
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range net.Specs() {
		fmt.Println(s.Name, s.Shape)
	}
	fmt.Printf("%v of %d right\n", correct, n)
	// Output:
	// conv.weight [4,1,3,3]
	// conv.bias [4]
	// fc.weight [2,4]
	// fc.bias [2]
	// 32 of 32 right
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
