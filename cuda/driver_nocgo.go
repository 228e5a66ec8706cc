//go:build !cgo || windows

package cuda

import "temper/engine"

func init() {
	engine.Register("cuda", without{})
	engine.Register("emulator", without{})
}

// without is the back end of a build that cannot open a driver.
type without struct{}

// Devices implements engine.Backend.
func (without) Devices() ([]engine.Info, error) { return nil, ErrNoCgo }

// Open implements engine.Backend.
func (without) Open(string, engine.DeviceOptions) (engine.Driver, error) { return nil, ErrNoCgo }

// Probe lists the devices of a driver library; this build cannot.
func Probe(string) ([]DeviceInfo, error) { return nil, ErrNoCgo }
