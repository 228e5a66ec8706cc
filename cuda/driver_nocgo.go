//go:build !cgo || windows

package cuda

// Probe lists the devices of a driver library; this build cannot.
func Probe(string) ([]DeviceInfo, error) { return nil, ErrNoCgo }
