//go:build cgo && !windows

package cuda

/*
#include <stdlib.h>
#include "nvrtc.h"
*/
import "C"

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"temper/kernels"
)

// Compiler is NVRTC.
type Compiler struct {
	Path         string
	Major, Minor int // of its CUDA version
	capabilities []int
	c            *C.nvrtc
}

// CompilerVersion describes the NVRTC that would be used on this machine.
func CompilerVersion() (string, error) {
	driver, arch := 0, ""
	if l, err := Open(""); err == nil {
		driver = l.Version
		if devices, err := l.Devices(); err == nil && len(devices) > 0 && devices[0].usable() == nil {
			arch = Arch(devices[0].Capability)
		}
	}
	n, err := OpenCompiler(driver, arch)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("CUDA %d.%d, %s", n.Major, n.Minor, n.Path), nil
}

// OpenCompiler finds an NVRTC whose kernels a driver loads that supports CUDA up
// to a version, as in Library.Version: those of any minor version, but of no later
// major one. 0 takes any. It compiles for arch, as Arch names it, unless that is "".
// It returns a *NoCompilerError if there is none.
func OpenCompiler(driver int, arch string) (*Compiler, error) {
	missing := &NoCompilerError{Driver: driver, Arch: arch}
	for _, p := range compilerLibraries() {
		builtins, _ := filepath.Glob(filepath.Join(filepath.Dir(p), "libnvrtc-builtins.so.*"))
		for _, b := range builtins { // where NVRTC itself finds them only if the linker's path has the folder
			name := C.CString(b)
			C.preload(name)
			C.free(unsafe.Pointer(name))
		}
		name := C.CString(p)
		var why *C.char
		c := C.nvrtc_open(name, &why)
		C.free(unsafe.Pointer(name))
		if c == nil {
			missing.Why = takeString(why)
			continue
		}
		n := &Compiler{Path: p, c: c}
		if err := n.ask(); err != nil {
			return nil, err
		}
		if n.serves(driver, arch) {
			return n, nil
		}
		if missing.Unfit == "" {
			missing.Unfit, missing.Version = p, 1000*n.Major+10*n.Minor
		}
	}
	return nil, missing
}

// ask asks the compiler for its version and its architectures.
func (c *Compiler) ask() error {
	var major, minor, n C.int
	if err := c.check("nvrtcVersion", C.call_nvrtcVersion(c.c, &major, &minor)); err != nil {
		return err
	}
	if err := c.check("nvrtcGetNumSupportedArchs", C.call_nvrtcGetNumSupportedArchs(c.c, &n)); err != nil {
		return err
	}
	archs := make([]C.int, n+1)
	if err := c.check("nvrtcGetSupportedArchs", C.call_nvrtcGetSupportedArchs(c.c, &archs[0])); err != nil {
		return err
	}
	c.Major, c.Minor = int(major), int(minor)
	for _, a := range archs[:n] {
		c.capabilities = append(c.capabilities, int(a))
	}
	return nil
}

// serves says whether a driver loads what the compiler makes for an architecture.
func (c *Compiler) serves(driver int, arch string) bool {
	return c.Major >= oldestCompiler/1000 && (driver == 0 || c.Major <= driver/1000) &&
		(arch == "" || slices.Contains(c.capabilities, capabilityOf(arch)))
}

func (c *Compiler) check(call string, code C.int) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", call, C.GoString(C.call_nvrtcGetErrorString(c.c, code)))
}

// Compile compiles a translation unit, which may include the headers of kernels, for
// an architecture such as "sm_90". The resources are those of each kernel.
func (c *Compiler) Compile(name, source, arch string) (cubin []byte, resources map[string]Resources, err error) {
	var mem []unsafe.Pointer
	defer func() {
		for _, p := range mem {
			C.free(p)
		}
	}()
	str := func(s string) *C.char {
		p := C.CString(s)
		mem = append(mem, unsafe.Pointer(p))
		return p
	}
	list := func(s ...string) (**C.char, C.int) {
		p := C.calloc(C.size_t(len(s)), C.size_t(unsafe.Sizeof(uintptr(0))))
		mem = append(mem, p)
		for i := range s {
			unsafe.Slice((**C.char)(p), len(s))[i] = str(s[i])
		}
		return (**C.char)(p), C.int(len(s))
	}
	var texts []string
	for _, h := range kernels.Headers {
		texts = append(texts, kernels.Source(h))
	}
	headers, n := list(texts...)
	names, _ := list(kernels.Headers...)
	var p C.nvrtc_program
	if err := c.check("nvrtcCreateProgram", C.call_nvrtcCreateProgram(c.c, &p, str(source), str(name), n, headers, names)); err != nil {
		return nil, nil, err
	}
	defer C.call_nvrtcDestroyProgram(c.c, &p)
	options, n := list("--gpu-architecture="+arch, "--std=c++17", "--ptxas-options=-v")
	failed := c.check("nvrtcCompileProgram", C.call_nvrtcCompileProgram(c.c, p, n, options))
	var size C.size_t
	if err := c.check("nvrtcGetProgramLogSize", C.call_nvrtcGetProgramLogSize(c.c, p, &size)); err != nil {
		return nil, nil, err
	}
	log := make([]byte, max(size, 1))
	if err := c.check("nvrtcGetProgramLog", C.call_nvrtcGetProgramLog(c.c, p, (*C.char)(unsafe.Pointer(&log[0])))); err != nil {
		return nil, nil, err
	}
	text := strings.TrimRight(string(log), "\x00\n")
	if failed != nil {
		return nil, nil, fmt.Errorf("%s for %s: %w\n%s", name, arch, failed, text)
	}
	if err := c.check("nvrtcGetCUBINSize", C.call_nvrtcGetCUBINSize(c.c, p, &size)); err != nil {
		return nil, nil, err
	}
	cubin = make([]byte, max(size, 1))
	if err := c.check("nvrtcGetCUBIN", C.call_nvrtcGetCUBIN(c.c, p, (*C.char)(unsafe.Pointer(&cubin[0])))); err != nil {
		return nil, nil, err
	}
	return cubin, parseResources(text), nil
}
