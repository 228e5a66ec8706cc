package engine_test

import (
	"fmt"
	"log"

	_ "temper/cuda" // back ends register themselves
	"temper/engine"
	_ "temper/engine/cpu"
	"temper/engine/graph"
)

// A program runs on a GPU if there is one, else on the CPU: nothing but the
// device's name differs. "auto" does the same, and its device says why.
func ExampleOpen() {
	dev, err := engine.Open("cuda:0", engine.DeviceOptions{})
	if err != nil { // no driver, or no device: the error says which
		dev, err = engine.Open("cpu", engine.DeviceOptions{})
	}
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()

	g := graph.New("running sum")
	x := g.Input("x", graph.F32, 2, 2)
	total := g.State("total", graph.F32, 2, 2) // lives on the device from run to run
	g.Assign(total, total.Add(x.MatMul(x).Mul(g.Scalar("scale", graph.F32))))
	g.Output("largest", x.ReduceMax())
	state := dev.NewState()
	defer state.Free()
	program, err := dev.Compile(g, state, engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()

	for step, scale := range []float64{1, 10} {
		x := []float32{1, float32(step), 0, 2}
		for _, err := range []error{program.FeedBytes("x", engine.Bytes(x)), program.Set("scale", scale), program.Run()} {
			if err != nil {
				log.Fatal(err)
			}
		}
	}
	largest, err := program.Scalar("largest")
	if err != nil {
		log.Fatal(err)
	}
	sum, err := state.Read("total")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(largest, sum.Data())
	// Output: 2 [11 30 0 44]
}
