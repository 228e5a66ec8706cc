//go:build !gorgoniacu

package cuda

import "errors"

// GorgoniaDevices lists the GPUs that gorgonia.org/cu finds. This build does
// not have it: the error says how to get one that has.
func GorgoniaDevices() ([]GorgoniaDevice, error) {
	return nil, errors.New("this build has no gorgonia.org/cu: build with -tags gorgoniacu, cgo and the headers of CUDA 11 or 12, for a machine with a driver")
}
