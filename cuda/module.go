//go:build cgo && !windows

package cuda

/*
#include <stdlib.h>
#include "driver.h"
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// Module is a loaded image of compiled kernels.
type Module struct {
	dev *Device
	h   C.handle
}

// Load loads a cubin, or what the emulator's compiler made.
func (d *Device) Load(image []byte) (*Module, error) {
	if len(image) == 0 {
		return nil, fmt.Errorf("an image of compiled kernels is empty")
	}
	m := &Module{dev: d}
	return m, d.check("cuModuleLoadDataEx", C.call_cuModuleLoadDataEx(d.c, &m.h, unsafe.Pointer(&image[0]), 0, nil, nil))
}

// Close unloads the module; its functions must not be used any more.
func (m *Module) Close() error {
	return m.dev.check("cuModuleUnload", C.call_cuModuleUnload(m.dev.c, m.h))
}

// Function is a kernel of a module.
type Function struct {
	Name string
	dev  *Device
	h    C.handle
}

// Function finds a kernel by its (extern "C") name.
func (m *Module) Function(name string) (*Function, error) {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	f := &Function{Name: name, dev: m.dev}
	return f, m.dev.check("cuModuleGetFunction "+name, C.call_cuModuleGetFunction(m.dev.c, &f.h, m.h, s))
}

// FuncAttr is an attribute of a function, by its number in the driver API.
type FuncAttr int

// The attributes that temper reads and, the last one, sets.
const (
	AttrMaxThreads    FuncAttr = 0 // largest block
	AttrSharedBytes   FuncAttr = 1 // static shared memory
	AttrLocalBytes    FuncAttr = 3 // local memory of a thread: spills
	AttrRegisters     FuncAttr = 4 // of a thread
	AttrDynamicShared FuncAttr = 8 // the most dynamic shared memory that a launch may ask for
)

// Attr reads an attribute.
func (f *Function) Attr(a FuncAttr) (int, error) {
	var v C.int
	err := f.dev.check("cuFuncGetAttribute "+f.Name, C.call_cuFuncGetAttribute(f.dev.c, &v, C.int(a), f.h))
	return int(v), err
}

// SetDynamicShared lets launches ask for up to that much dynamic shared memory;
// without it the limit is 48 KiB, less the static shared memory.
func (f *Function) SetDynamicShared(bytes int) error {
	return f.dev.check("cuFuncSetAttribute "+f.Name, C.call_cuFuncSetAttribute(f.dev.c, f.h, C.int(AttrDynamicShared), C.int(bytes)))
}

// Launch is a kernel with a grid and arguments, ready to be launched any number
// of times. It lives in C memory.
type Launch struct {
	name string
	c    *C.launch
	mem  []unsafe.Pointer // to free
}

// Prepare makes a launch of blocks of threads with so many bytes of dynamic
// shared memory. Arguments are Ptr, int32, uint32, float32, float64, or a
// parameter struct's bytes; they must be the kernel's parameters, in order.
func (f *Function) Prepare(grid, block [3]int, shared int, args ...any) (*Launch, error) {
	l := &Launch{name: f.Name}
	l.c = (*C.launch)(l.alloc(C.sizeof_launch))
	l.c.function, l.c.shared = f.h, C.uint(shared)
	for i := range 3 {
		l.c.grid[i], l.c.block[i] = C.uint(grid[i]), C.uint(block[i])
	}
	l.c.params = (*unsafe.Pointer)(l.alloc(8 * (len(args) + 1)))
	params := unsafe.Slice(l.c.params, len(args)+1)
	for i, a := range args {
		switch v := a.(type) {
		case Ptr:
			params[i] = place(l, v)
		case int32:
			params[i] = place(l, v)
		case uint32:
			params[i] = place(l, v)
		case float32:
			params[i] = place(l, v)
		case float64:
			params[i] = place(l, v)
		case []byte:
			params[i] = l.alloc(len(v))
			copy(unsafe.Slice((*byte)(params[i]), len(v)), v)
		default:
			l.Close()
			return nil, fmt.Errorf("argument %d of kernel %s is a %T: want a Ptr, int32, uint32, float32, float64 or bytes", i, f.Name, a)
		}
	}
	return l, nil
}

// alloc returns zeroed C memory, which malloc aligns for every type.
func (l *Launch) alloc(bytes int) unsafe.Pointer {
	p := C.calloc(1, C.size_t(bytes))
	l.mem = append(l.mem, p)
	return p
}

func place[T any](l *Launch, v T) unsafe.Pointer {
	p := l.alloc(int(unsafe.Sizeof(v)))
	*(*T)(p) = v
	return p
}

// Early lets the kernel begin while the one right before it on its stream still
// runs: it must call wait_for_turn of the device header. The device is of compute
// capability 9.0 or later.
func (l *Launch) Early() { l.c.early = 1 }

// Close frees the launch. A captured graph keeps its own copy of the arguments.
func (l *Launch) Close() {
	for _, p := range l.mem {
		C.free(p)
	}
	l.mem, l.c = nil, nil
}

// Launch starts a kernel behind what precedes on the stream.
func (s *Stream) Launch(l *Launch) error {
	if code := C.call_launch(s.dev.c, l.c, s.h); code != 0 {
		return s.dev.check("cuLaunchKernel "+l.name, code)
	}
	return nil
}
