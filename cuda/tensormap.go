//go:build cgo && !windows

package cuda

/*
#include "driver.h"
*/
import "C"

import "unsafe"

// Encode makes of a tensor at an address what kernels read it by, one map behind
// the other: a parameter's bytes. The device is of compute capability 9.0 or
// later.
func (d *Device) Encode(maps []TensorMap, at Ptr) ([]byte, error) {
	all := make([]byte, len(maps)*C.TENSOR_MAP_BYTES)
	for k, m := range maps {
		s := C.tensor_shape{swizzle: C.int(m.Swizzle)}
		if m.Pixels {
			s.pixels = 1
		}
		for i := range m.Extents {
			s.extents[i], s.steps[i] = C.uint64_t(m.Extents[i]), C.uint(m.Steps[i])
		}
		for i := range m.Strides {
			s.strides[i], s.box[i] = C.uint64_t(m.Strides[i]), C.uint(m.Box[i])
		}
		for i := range m.Lower {
			s.lower[i], s.upper[i] = C.int(m.Lower[i]), C.int(m.Upper[i])
		}
		code := C.call_tensor_map(d.c, &s, C.device_ptr(at), unsafe.Pointer(&all[k*C.TENSOR_MAP_BYTES]))
		if err := d.check("cuTensorMapEncode", code); err != nil {
			return nil, err
		}
	}
	return all, nil
}
