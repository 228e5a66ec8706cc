//go:build cgo && !windows

package cuda

import (
	"errors"
	"fmt"

	"temper/cuda/cache"
	"temper/kernels"
)

// Cubins compiles kernels for one architecture, with a cache on disk.
type Cubins struct {
	arch     string
	driver   int              // the newest CUDA whose kernels are loaded, as in Library.Version
	compiler *Compiler        // nil if there is none:
	missing  *NoCompilerError // then only what is in the cache can be had
}

// NewCubins looks for NVRTC for a driver, as OpenCompiler does. Without it, the
// cache must have been filled ahead.
func NewCubins(arch string, driver int) (*Cubins, error) {
	k := &Cubins{arch: arch, driver: driver}
	var err error
	if k.compiler, err = OpenCompiler(driver, arch); err != nil && !errors.As(err, &k.missing) {
		return nil, err
	}
	return k, nil
}

// Get returns the cubin of a translation unit.
func (k *Cubins) Get(name, source string) ([]byte, error) {
	cubin, _, _, err := k.entry(name, source)
	return cubin, err
}

// entry is Get. It says whether it had to compile, and why the cubin could not
// be kept.
func (k *Cubins) entry(name, source string) (cubin []byte, made bool, unsaved, err error) {
	entry := "cubin-" + cache.Key(source, kernels.HeaderText()) + "-" + k.arch
	if k.compiler == nil {
		if cubin := k.cached(entry); cubin != nil {
			return cubin, false, nil, nil
		}
		return nil, false, nil, fmt.Errorf("%s is not compiled for %s, and there is %w", name, k.arch, k.missing)
	}
	cubin, _, unsaved, err = cache.Entry(fmt.Sprintf("%s-nvrtc%02d.%02d", entry, k.compiler.Major, k.compiler.Minor), func() ([]byte, error) {
		made = true
		cubin, _, err := k.compiler.Compile(name, source, k.arch)
		return cubin, err
	})
	return cubin, made, unsaved, err
}

// cached is what another machine's NVRTC made, if the driver loads it: by the
// newest.
func (k *Cubins) cached(entry string) []byte {
	for major := k.driver / 1000; major >= oldestDriver/1000; major-- {
		if cubin := cache.Newest(fmt.Sprintf("%s-nvrtc%02d.*", entry, major)); cubin != nil {
			return cubin
		}
	}
	return nil
}
