//go:build !cgo || windows

package cuda

import (
	"fmt"

	"temper/engine"
	"temper/engine/plan"
)

func init() {
	engine.Register("cuda", without{ErrNoCgo})
	engine.Register("emulator", without{})
}

// without is a back end of a build that cannot open a driver. One of them tells
// those who list the devices why.
type without struct{ why error }

// Devices implements engine.Backend.
func (b without) Devices() ([]engine.Info, error) { return nil, b.why }

// Open implements engine.Backend.
func (without) Open(spec string, _ engine.DeviceOptions) (engine.Driver, error) {
	return nil, fmt.Errorf("no device %q: %w", spec, ErrNoCgo)
}

// Probe lists the devices of a driver library; this build cannot.
func Probe(string) ([]DeviceInfo, error) { return nil, ErrNoCgo }

// CompilerVersion describes the NVRTC that would be used: none.
func CompilerVersion() (string, error) { return "", ErrNoCgo }

// Prebuild fills the cache with compiled kernels; this build cannot.
func Prebuild([]*plan.Plan, string, func(done, all int)) (Prebuilt, error) {
	return Prebuilt{}, ErrNoCgo
}
