//go:build cgo && !windows

package cuda

/*
#cgo CFLAGS: -std=c11 -Wall
#cgo linux LDFLAGS: -ldl
#include <stdlib.h>
#include "driver.h"
*/
import "C"

import (
	"cmp"
	"errors"
	"fmt"
	"unsafe"
)

// usualDrivers are where Open looks if it is not told: the dynamic linker's
// places, and the two of containers and of Windows' subsystem for Linux that
// images forget to add to them.
var usualDrivers = []string{"libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"}

// Library is an opened driver library: libcuda, or the emulator's look-alike.
type Library struct {
	Path    string
	Version int // of CUDA, the newest that the driver supports: 12040 is 12.4
	c       *C.library
}

// Open opens a driver library and initialises it; "" looks in the usual places.
// It returns a *NoDriverError if there is none. Libraries stay open.
func Open(path string) (*Library, error) {
	if path != "" {
		return openFirst(path)
	}
	return openFirst(usualDrivers...)
}

// openFirst opens the first of some libraries that is there, and no stub.
func openFirst(tried ...string) (*Library, error) {
	missing := &NoDriverError{Tried: tried}
	var stub error
	for _, p := range tried {
		name := C.CString(p)
		var why *C.char
		c := C.library_open(name, &why)
		C.free(unsafe.Pointer(name))
		if c == nil {
			missing.Why = takeString(why)
			continue
		}
		l := &Library{Path: p, c: c}
		err := l.init()
		if err == nil {
			return l, nil
		}
		if failed := (*Error)(nil); !errors.As(err, &failed) || failed.Code != stubLibrary {
			return nil, err
		}
		stub = fmt.Errorf("the driver %s: %w", p, err)
	}
	if stub != nil {
		return nil, stub
	}
	return nil, missing
}

// takeString is a string of C's, which it frees.
func takeString(s *C.char) string {
	defer C.free(unsafe.Pointer(s))
	return C.GoString(s)
}

func (l *Library) init() error {
	missing := C.GoString(C.library_resolve(l.c))
	if l.c.cuDriverGetVersion == nil {
		return fmt.Errorf("%s is no CUDA driver: it has no %s", l.Path, missing)
	}
	var v C.int
	if err := l.check("cuDriverGetVersion", C.call_cuDriverGetVersion(l.c, &v)); err != nil {
		return err
	}
	if l.Version = int(v); l.Version < oldestDriver {
		return fmt.Errorf("the driver %s supports CUDA %s: temper needs %s or later; update the NVIDIA driver", l.Path, version(l.Version), version(oldestDriver))
	}
	if missing != "" {
		return fmt.Errorf("the driver %s (CUDA %s) has no %s", l.Path, version(l.Version), missing)
	}
	return l.check("cuInit", C.call_cuInit(l.c, 0))
}

// check makes an error of a call's result.
func (l *Library) check(call string, code C.int) error {
	if code == 0 {
		return nil
	}
	what := known[int(code)]
	e := &Error{Call: call, Code: int(code), Name: cmp.Or(what.name, fmt.Sprintf("CUDA error %d", code)), Text: "the driver describes it no further", Do: what.do}
	if code == launchFailed && l.c.emulator_set != nil {
		e.Do = "" // the emulator's report says it all
	}
	var s *C.char
	if l.c.cuGetErrorName != nil && C.call_cuGetErrorName(l.c, code, &s) == 0 {
		e.Name = C.GoString(s)
	}
	if l.c.cuGetErrorString != nil && C.call_cuGetErrorString(l.c, code, &s) == 0 {
		e.Text = C.GoString(s)
	}
	return e
}

// SetEmulator sets an option of the emulator, which lists them; a real driver
// has none.
func (l *Library) SetEmulator(option string, value int) error {
	name := C.CString(option)
	defer C.free(unsafe.Pointer(name))
	if C.call_emulator_set(l.c, name, C.long(value)) != 0 {
		return fmt.Errorf("%s has no option %q", l.Path, option)
	}
	return nil
}

// EmulatorLog is what the emulator wrote down, with its option log, since the last
// call; it says in which form.
func (l *Library) EmulatorLog() string { return C.GoString(C.call_emulator_log(l.c)) }

// Probe lists the devices of the driver at path, or of the usual one.
func Probe(path string) ([]DeviceInfo, error) {
	l, err := Open(path)
	if err != nil {
		return nil, err
	}
	return l.Devices()
}

// Attributes of devices and functions, by their numbers in the driver API.
const (
	attrSharedPerBlock  = 97 // opt-in maximum
	attrSMs             = 16
	attrComputeMode     = 20
	attrCapabilityMajor = 75
	attrCapabilityMinor = 76
)

// Devices describes all devices, those that temper cannot use included.
func (l *Library) Devices() ([]DeviceInfo, error) {
	var n C.int
	if err := l.check("cuDeviceGetCount", C.call_cuDeviceGetCount(l.c, &n)); err != nil {
		return nil, err
	}
	infos := make([]DeviceInfo, n)
	for i := range infos {
		var err error
		if infos[i], err = l.describe(i); err != nil {
			return nil, err
		}
	}
	return infos, nil
}

func (l *Library) describe(ordinal int) (info DeviceInfo, err error) {
	var dev C.int
	if err := l.check("cuDeviceGet", C.call_cuDeviceGet(l.c, &dev, C.int(ordinal))); err != nil {
		return info, err
	}
	var name [256]C.char
	if err := l.check("cuDeviceGetName", C.call_cuDeviceGetName(l.c, &name[0], C.int(len(name)), dev)); err != nil {
		return info, err
	}
	var memory C.size_t
	if err := l.check("cuDeviceTotalMem", C.call_cuDeviceTotalMem_v2(l.c, &memory, dev)); err != nil {
		return info, err
	}
	info = DeviceInfo{Ordinal: ordinal, Name: C.GoString(&name[0]), Memory: int64(memory)}
	var major, minor, mode int
	for _, a := range []struct {
		attribute C.int
		value     *int
	}{{attrCapabilityMajor, &major}, {attrCapabilityMinor, &minor}, {attrSMs, &info.SMs}, {attrComputeMode, &mode}, {attrSharedPerBlock, &info.SharedPerBlock}} {
		var v C.int
		if err := l.check("cuDeviceGetAttribute", C.call_cuDeviceGetAttribute(l.c, &v, a.attribute, dev)); err != nil {
			return info, err
		}
		*a.value = int(v)
	}
	const prohibited = 2
	info.Capability, info.Prohibited = major*10+minor, mode == prohibited
	return info, nil
}

// Device is a GPU in use, through its primary context, which it shares with
// other users in the process. A call makes that context current on the thread
// that it runs on, as the CUDA runtime does. A Device may be used by several
// goroutines, a stream by one at a time.
type Device struct {
	Info DeviceInfo
	lib  *Library
	dev  C.int
	c    *C.device
}

// Device takes a device into use.
func (l *Library) Device(ordinal int) (*Device, error) {
	infos, err := l.Devices()
	if err != nil {
		return nil, err
	}
	if ordinal < 0 || ordinal >= len(infos) {
		return nil, fmt.Errorf("no CUDA device %d: there are %d, counted from 0", ordinal, len(infos))
	}
	if err := infos[ordinal].usable(); err != nil {
		return nil, err
	}
	d := &Device{Info: infos[ordinal], lib: l}
	if err := l.check("cuDeviceGet", C.call_cuDeviceGet(l.c, &d.dev, C.int(ordinal))); err != nil {
		return nil, err
	}
	var context C.handle
	if code := C.call_cuDevicePrimaryCtxRetain(l.c, &context, d.dev); code != 0 {
		err := l.check("cuDevicePrimaryCtxRetain", code)
		if code == outOfMemory {
			err = fmt.Errorf("%w: other programs have the device's memory: see nvidia-smi, or take another device", err)
		}
		return nil, err
	}
	d.c = (*C.device)(C.calloc(1, C.sizeof_device))
	d.c.lib, d.c.context = l.c, context
	return d, nil
}

// Close gives the device back. What was made on it must be closed before, and
// fails when it is used later.
func (d *Device) Close() error {
	if d.c == nil {
		return d.check("cuDevicePrimaryCtxRelease", C.INVALID_CONTEXT)
	}
	err := d.check("cuDevicePrimaryCtxRelease", C.call_cuDevicePrimaryCtxRelease_v2(d.lib.c, d.dev))
	C.free(unsafe.Pointer(d.c))
	d.c = nil
	return err
}

func (d *Device) check(call string, code C.int) error { return d.lib.check(call, code) }
