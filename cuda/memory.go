//go:build cgo && !windows

package cuda

/*
#include "driver.h"
*/
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"
)

// Ptr is an address in device memory.
type Ptr uint64

// Alloc returns device memory, not zeroed.
func (d *Device) Alloc(bytes int) (Ptr, error) {
	var p C.device_ptr
	code := C.call_cuMemAlloc_v2(d.c, &p, C.size_t(bytes))
	return Ptr(p), d.checkAlloc("cuMemAlloc", bytes, code)
}

// checkAlloc names the sizes when memory is short.
func (d *Device) checkAlloc(call string, bytes int, code C.int) error {
	err := d.check(call, code)
	if code != outOfMemory {
		return err
	}
	unused, total, infoErr := d.Memory()
	if infoErr != nil {
		return err
	}
	return fmt.Errorf("%w (%s wanted, %s of %s free)", err, mebibytes(bytes), mebibytes(unused), mebibytes(total))
}

func mebibytes(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// Free frees what Alloc returned, when no stream uses it any more.
func (d *Device) Free(p Ptr) error {
	return d.check("cuMemFree", C.call_cuMemFree_v2(d.c, C.device_ptr(p)))
}

// Memory is the device memory that is free, and all there is, in bytes.
func (d *Device) Memory() (unused, total int, err error) {
	var f, t C.size_t
	err = d.check("cuMemGetInfo", C.call_cuMemGetInfo_v2(d.c, &f, &t))
	return int(f), int(t), err
}

// HostMemory is page-locked memory of the host: copies from and to it run
// while the host goes on.
type HostMemory struct {
	dev *Device
	p   unsafe.Pointer
	n   int
}

// AllocHost returns page-locked memory.
func (d *Device) AllocHost(bytes int) (*HostMemory, error) {
	m := &HostMemory{dev: d, n: bytes}
	code := C.call_cuMemHostAlloc(d.c, &m.p, C.size_t(bytes), 0)
	err := d.check("cuMemHostAlloc", code)
	if code == outOfMemory {
		err = fmt.Errorf("%w (%s of page-locked memory of the host wanted): give the machine, or the container, more memory", err, mebibytes(bytes))
	}
	return m, err
}

// Bytes is the memory. It must not be used after Free.
func (m *HostMemory) Bytes() []byte { return unsafe.Slice((*byte)(m.p), m.n) }

// Free frees the memory, when no stream uses it any more.
func (m *HostMemory) Free() error {
	return m.dev.check("cuMemFreeHost", C.call_cuMemFreeHost(m.dev.c, m.p))
}

// Alloc returns device memory that may be used by what follows on the stream.
func (s *Stream) Alloc(bytes int) (Ptr, error) {
	var p C.device_ptr
	code := C.call_cuMemAllocAsync(s.dev.c, &p, C.size_t(bytes), s.h)
	return Ptr(p), s.dev.checkAlloc("cuMemAllocAsync", bytes, code)
}

// Free frees what Alloc returned, behind all that precedes on the stream.
func (s *Stream) Free(p Ptr) error {
	return s.dev.check("cuMemFreeAsync", C.call_cuMemFreeAsync(s.dev.c, C.device_ptr(p), s.h))
}

// Upload copies page-locked host memory to the device. It must stay as it is until
// the stream has done the copy.
func (s *Stream) Upload(dst Ptr, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	return s.dev.check("cuMemcpyHtoDAsync", C.call_cuMemcpyHtoDAsync_v2(s.dev.c, C.device_ptr(dst), unsafe.Pointer(&src[0]), C.size_t(len(src)), s.h))
}

// Write is Upload of any host memory, and waits: of memory that is not page-locked a
// driver only says that it may have been read when the call returns.
func (s *Stream) Write(dst Ptr, src []byte) error {
	defer pin(src)()
	return first(s.Upload(dst, src), s.Synchronize())
}

// Download copies device memory to page-locked host memory. It is there when the
// stream has done the copy.
func (s *Stream) Download(dst []byte, src Ptr) error {
	if len(dst) == 0 {
		return nil
	}
	return s.dev.check("cuMemcpyDtoHAsync", C.call_cuMemcpyDtoHAsync_v2(s.dev.c, unsafe.Pointer(&dst[0]), C.device_ptr(src), C.size_t(len(dst)), s.h))
}

// Read is Download to any host memory, and waits.
func (s *Stream) Read(dst []byte, src Ptr) error {
	defer pin(dst)()
	return first(s.Download(dst, src), s.Synchronize())
}

// pin keeps memory where it is, which the driver still uses when the call that it was
// given to has returned; until what pin returns is called.
func pin(b []byte) (unpin func()) {
	var p runtime.Pinner
	if len(b) > 0 {
		p.Pin(&b[0])
	}
	return p.Unpin
}

// Copy copies within device memory; the two ranges must not overlap.
func (s *Stream) Copy(dst, src Ptr, bytes int) error {
	return s.dev.check("cuMemcpyDtoDAsync", C.call_cuMemcpyDtoDAsync_v2(s.dev.c, C.device_ptr(dst), C.device_ptr(src), C.size_t(bytes), s.h))
}

// Fill sets every byte.
func (s *Stream) Fill(dst Ptr, value byte, bytes int) error {
	return s.dev.check("cuMemsetD8Async", C.call_cuMemsetD8Async(s.dev.c, C.device_ptr(dst), C.uchar(value), C.size_t(bytes), s.h))
}
