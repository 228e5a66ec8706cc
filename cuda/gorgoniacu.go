//go:build gorgoniacu

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"temper/engine"
)

// GorgoniaDevices lists the GPUs that gorgonia.org/cu finds.
//
// The build needs cgo, libcuda to link with, and the headers of CUDA 11 or 12:
// v0.9.6 of cu does not compile with those of CUDA 13. A binary that has it
// exits at start where there is no driver, in cu's init, before any code of
// temper's runs. So the tag is for programs that use cu anyway; never use the
// tag cuda, which switches gorgonia itself to its cuDNN 8 back end.
func GorgoniaDevices() ([]GorgoniaDevice, error) {
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("number of CUDA devices: %w", err)
	}
	var out []GorgoniaDevice
	for i := range n {
		d, err := gorgoniaDevice(i)
		if err != nil {
			return nil, fmt.Errorf("CUDA device %d: %w", i, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// AdoptGorgonia is Adopt for memory that gorgonia.org/cu allocated, in the
// primary context of the device's GPU: cu.Device.RetainPrimaryCtx gives it.
func AdoptGorgonia(dev *engine.Device, p cu.DevicePtr, bytes int64) (engine.Memory, error) {
	return Adopt(dev, Ptr(p), int(bytes))
}

func gorgoniaDevice(i int) (d GorgoniaDevice, err error) {
	d.Ordinal = i
	dev, err := cu.GetDevice(i)
	if err != nil {
		return d, err
	}
	if d.Name, err = dev.Name(); err != nil {
		return d, err
	}
	if d.Capability[0], d.Capability[1], err = dev.ComputeCapability(); err != nil {
		return d, err
	}
	d.Memory, err = dev.TotalMem()
	return d, err
}
