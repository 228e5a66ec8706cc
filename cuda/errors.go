package cuda

import (
	"errors"
	"fmt"
	"strings"
)

// Error is a failed call of the driver.
type Error struct {
	Call string // "cuLaunchKernel", with what it was to do where that helps
	Code int
	Name string // "CUDA_ERROR_INVALID_VALUE"
	Text string // the driver's sentence, or the emulator's report
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %s", e.Call, e.Name, e.Text) }

// NoDriverError says that no driver could be opened. Where that means that the
// CPU is used, whoever chooses it says so.
type NoDriverError struct {
	Tried []string // libraries, in order
	Why   string   // what the dynamic linker said of the last one
}

func (e *NoDriverError) Error() string {
	return fmt.Sprintf("no CUDA driver (tried %s)", strings.Join(e.Tried, ", "))
}

// ErrNoCgo says that the binary cannot open any driver.
var ErrNoCgo = errors.New("built without cgo, so without CUDA: install a C compiler or take the release binary with CUDA")

// The oldest that temper supports: CUDA 12.0 brought the last driver functions
// that it needs, sm_80 the bf16 tensor cores and asynchronous copies.
const (
	oldestDriver     = 12000
	oldestCapability = 80
)

// version writes the driver's number of a version: 12040 is "12.4".
func version(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// DeviceInfo describes a GPU, or the emulator's.
type DeviceInfo struct {
	Ordinal        int
	Name           string
	Capability     int   // compute capability: 90 is 9.0, sm_90
	Memory         int64 // bytes
	SMs            int   // streaming multiprocessors
	SharedPerBlock int   // largest shared memory of a block, in bytes
}

// usable says why temper cannot run on a device, nil if it can.
func (i *DeviceInfo) usable() error {
	if i.Capability < oldestCapability {
		return fmt.Errorf("CUDA device %d (%s) is sm_%d: temper needs sm_%d or later", i.Ordinal, i.Name, i.Capability, oldestCapability)
	}
	return nil
}
