// Package kernels holds the CUDA C++ of temper: the one device header, which is
// the only place with inline PTX, and the kernels that are not generated. They
// are compiled at run time: by NVRTC for a GPU, by a C++ compiler for the
// emulator. Nothing of a particular plan belongs here: package cuda generates
// that, against the device header.
package kernels

import "embed"

//go:embed device.h *.cu
var files embed.FS

// Header is the name under which kernels include the device header.
const Header = "device.h"

// Source is the content of a file of this folder: Header, "random.cu".
func Source(name string) string {
	b, err := files.ReadFile(name)
	if err != nil {
		panic("BUG: kernels: " + err.Error())
	}
	return string(b)
}
