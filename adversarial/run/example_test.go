package run_test

import (
	"encoding/binary"
	"fmt"
	"log"
	"os"

	"temper/adversarial/run"
	"temper/engine"
	_ "temper/engine/cpu"
	"temper/engine/graph"
	"temper/nn"
)

// A run's newest checkpoint, read into a network on a device. Tensors have the
// names of PyTorch's state_dict; those under "optimizer/" are the optimiser's.
func ExampleLatestCheckpoint() {
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	leaveRun(dir) // stands for temper train

	ck, err := run.LatestCheckpoint(dir)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("step", ck.Step)
	net, err := nn.NewModel("linear", graph.Shape{1, 1, 2}, 2, func(s *nn.Scope, x *graph.Node) (features, logits *graph.Node) {
		return x.Flatten(1), nn.Linear(s.Sub("fc"), x.Flatten(1), 2, nil)
	})
	if err != nil {
		log.Fatal(err)
	}
	g := graph.New("logits")
	params, buffers := net.Declare(g, "")
	g.Output("logits", net.Apply(params, buffers, g.Input("x", graph.F32, 1, 1, 1, 2), nn.Eval).Logits)

	dev, err := engine.Open("cpu", engine.DeviceOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()
	weights := dev.NewState()
	program, err := dev.Compile(g, weights, engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()
	for _, t := range ck.Tensors {
		fmt.Println(t.Name, t.DType, t.Shape)
		if _, _, err := weights.Type(t.Name); err != nil { // the optimiser's
			continue
		}
		if err := weights.SetBytes(t.Name, t.Data); err != nil {
			log.Fatal(err)
		}
	}
	if err := program.FeedBytes("x", engine.Bytes([]float32{1, 10})); err != nil {
		log.Fatal(err)
	}
	if err := program.Run(); err != nil {
		log.Fatal(err)
	}
	logits, err := program.Fetch("logits")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("logits", logits.Data())
	// Output:
	// step 300
	// fc.bias F32 [2]
	// fc.weight F32 [2 2]
	// optimizer/fc.bias/momentum_buffer F32 [2]
	// logits [21.5 42.5]
}

// leaveRun writes a checkpoint as training does.
func leaveRun(dir string) {
	f32 := func(values ...float32) []byte {
		b, _ := binary.Append(nil, binary.LittleEndian, values)
		return b
	}
	ck := &run.Checkpoint{Step: 300, Tensors: []run.Tensor{
		{Name: "fc.weight", DType: "F32", Shape: []int{2, 2}, Data: f32(1, 2, 2, 4)},
		{Name: "fc.bias", DType: "F32", Shape: []int{2}, Data: f32(0.5, 0.5)},
		{Name: "optimizer/fc.bias/momentum_buffer", DType: "F32", Shape: []int{2}, Data: f32(0, 0)},
	}}
	if err := os.Mkdir(dir+"/checkpoints", 0o777); err != nil {
		log.Fatal(err)
	}
	if err := run.SaveCheckpoint(dir, ck, 0); err != nil {
		log.Fatal(err)
	}
}
