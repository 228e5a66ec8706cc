// Package kernels holds the CUDA C++ of temper: the one device header, which is
// the only place with inline PTX, templates over it, and the kernels that are
// not generated. They are compiled at run time: by NVRTC for a GPU, by a C++
// compiler for the emulator. Nothing of a particular plan belongs here: package
// cuda generates that, against the device header.
package kernels

import "embed"

//go:embed *.h *.cu
var files embed.FS

// Headers are the names under which kernels include the headers: the device
// header, and those of contractions, which include it.
var Headers = []string{"device.h", "contract.h", "tensor.h", "conv.h", "conv_sm90.h"}

// Source is the content of a file of this folder: a header, "random.cu".
func Source(name string) string {
	b, err := files.ReadFile(name)
	if err != nil {
		panic("BUG: kernels: " + err.Error())
	}
	return string(b)
}

// HeaderText is the content of all headers, for those that name what was
// compiled with them.
func HeaderText() string {
	var all string
	for _, h := range Headers {
		all += Source(h)
	}
	return all
}
