//go:build !cgo || windows

package cuda

import (
	"testing"

	"temper/engine"
	_ "temper/engine/cpu"
)

// A build without cgo says so wherever a GPU is asked for, and uses the CPU
// where none is.
func TestWithoutCgo(t *testing.T) {
	const want = "built without cgo, so without CUDA: install a C compiler or take the release binary with CUDA"
	_, probed := Probe("")
	_, cuda := engine.Open("cuda:0", engine.DeviceOptions{})
	_, emulator := engine.Open("emulator", engine.DeviceOptions{})
	_, built := Prebuild(nil, "sm_90a", nil)
	for _, c := range []struct {
		err  error
		want string
	}{{probed, want}, {cuda, `no device "cuda:0": ` + want}, {emulator, `no device "emulator": ` + want}, {built, want}} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%v, want %s", c.err, c.want)
		}
	}
	dev, err := engine.Open("auto", engine.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if dev.Info().Spec != "cpu" || dev.Why != want+": using the CPU" {
		t.Errorf("%s: %s", dev.Info().Spec, dev.Why)
	}
	infos, missing := engine.Devices()
	if len(infos) != 1 || len(missing) != 1 || missing[0] != ErrNoCgo {
		t.Errorf("%v, %v", infos, missing)
	}
}
