package gorgonia_test

import (
	"fmt"
	"log"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine"
	"temper/engine/autodiff"
	_ "temper/engine/cpu"
	"temper/engine/gorgonia"
	"temper/engine/graph"
)

// A network of theirs, with its weights, is attacked here: the loss is
// differentiated by the image, not by the weights.
func ExampleImport() {
	g := G.NewGraph()
	x := G.NewTensor(g, tensor.Float32, 4, G.WithShape(1, 1, 4, 4), G.WithName("image"))
	w := G.NewTensor(g, tensor.Float32, 4, G.WithShape(2, 1, 3, 3), G.WithName("conv.weight"), G.WithInit(G.Ones()))
	fc := G.NewMatrix(g, tensor.Float32, G.WithShape(8, 1), G.WithName("fc.weight"), G.WithInit(G.Ones()))
	h := G.Must(G.Rectify(G.Must(G.Conv2d(x, w, tensor.Shape{3, 3}, []int{0, 0}, []int{1, 1}, []int{1, 1}))))
	loss := G.Must(G.Mean(G.Must(G.Square(G.Must(G.Mul(G.Must(G.Reshape(h, tensor.Shape{1, 8})), fc))))))

	im, err := gorgonia.Import(loss, x)
	if err != nil {
		log.Fatal(err)
	}
	im.Graph.Output("gradient", autodiff.Grad(im.Loss, im.Nodes[x])[0].Reshape(4, 4))

	dev, err := engine.Open("cpu", engine.DeviceOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()
	st := dev.NewState()
	e, err := dev.Compile(im.Graph, st, engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	if err := im.Init(st); err != nil {
		log.Fatal(err)
	}
	image := []float32{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5}
	if err := e.Feed("image", tensor.New(tensor.WithShape(1, 1, 4, 4), tensor.WithBacking(image))); err != nil {
		log.Fatal(err)
	}
	if err := e.Run(); err != nil {
		log.Fatal(err)
	}
	value, err := e.Scalar("loss")
	if err != nil {
		log.Fatal(err)
	}
	gradient, err := e.Fetch("gradient")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("state:", st.Names())
	fmt.Println("loss:", value)
	fmt.Printf("gradient:\n%v", gradient)
	// Output:
	// state: [conv.weight fc.weight]
	// loss: 9
	// gradient:
	// ⎡12  12  12   0⎤
	// ⎢12  24  24  12⎥
	// ⎢12  24  24  12⎥
	// ⎣ 0  12  12  12⎦
}

// A program of temper's in a graph of theirs, differentiated there.
func ExampleNewOp() {
	dev, err := engine.Open("cpu", engine.DeviceOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()
	p := graph.New("silu")
	v := p.Input("x", graph.F64, 3)
	p.Output("y", v.Mul(v.Sigmoid()))
	silu, err := gorgonia.NewOp(dev, dev.NewState(), p)
	if err != nil {
		log.Fatal(err)
	}
	defer silu.Close()

	g := G.NewGraph()
	x := G.NewVector(g, tensor.Float64, G.WithShape(3), G.WithName("x"),
		G.WithValue(tensor.New(tensor.WithBacking([]float64{-1, 0, 1}))))
	y := G.Must(G.ApplyOp(silu, x))
	if _, err := G.Grad(G.Must(G.Sum(y)), x); err != nil {
		log.Fatal(err)
	}
	vm := G.NewTapeMachine(g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		log.Fatal(err)
	}
	dx, err := x.Grad()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.4f\n%.4f\n", y.Value(), dx)
	// Output:
	// [-0.2689   0.0000   0.7311]
	// [0.0723  0.5000  0.9277]
}
