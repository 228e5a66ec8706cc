//go:build gorgoniacu && cgo

package cuda

import (
	"os"
	"runtime"
	"testing"
	"unsafe"

	"gorgonia.org/cu"

	"temper/engine"
	"temper/engine/graph"
)

// A program that owns memory through gorgonia.org/cu trains in it: cu and temper
// share the primary context. $TEMPER_TEST_DEVICE is the device: cuda:0, or the
// emulator where cu is linked with the emulator's library.
func TestAdoptGorgonia(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spec := os.Getenv("TEMPER_TEST_DEVICE")
	if spec == "" {
		spec = "cuda:0"
	}
	dev := must(engine.Open(spec, engine.DeviceOptions{}))(t)
	defer dev.Close()
	gpu := must(cu.GetDevice(0))(t)
	ctx := must(gpu.RetainPrimaryCtx())(t)
	defer gpu.ReleasePrimaryCtx()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(cu.SetCurrentContext(ctx))
	weights := []float32{1, 2, 3}
	p := must(cu.MemAlloc(12))(t)
	ok(cu.MemcpyHtoD(p, unsafe.Pointer(&weights[0]), 12))

	st := dev.NewState()
	defer st.Free()
	ok(st.Adopt("w", graph.F32, graph.Shape{3}, must(AdoptGorgonia(dev, p, 12))(t)))
	g := graph.New("decay")
	w := g.State("w", graph.F32, 3)
	g.Assign(w, w.Mul(g.Scalar("rate", graph.F32)))
	e := must(dev.Compile(g, st, engine.Options{}))(t)
	defer e.Close()
	ok(e.Set("rate", 0.5))
	ok(e.Run())
	ok(e.Run())
	ok(Synchronize(dev))

	ok(cu.SetCurrentContext(ctx)) // temper's calls have set their own, which is the same
	ok(cu.MemcpyDtoH(unsafe.Pointer(&weights[0]), p, 12))
	if weights[0] != 0.25 || weights[1] != 0.5 || weights[2] != 0.75 {
		t.Errorf("%v", weights)
	}
	ok(cu.MemFree(p))
}
