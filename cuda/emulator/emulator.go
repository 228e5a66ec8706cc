// Package emulator makes a look-alike of libcuda that runs kernels on the CPU,
// and compiles kernels for it: package cuda opens and uses it like the driver
// of a GPU. It exists to test kernels and what launches them where there is no
// GPU, and to look at every memory access of a kernel (checked mode).
//
// The library and the kernels are C++, compiled by g++ (or $CXX) when they are
// first used and kept in the cache of package cuda/cache. The folder src holds
// the library: driver.cc, the driver API; block.hpp, a block of threads as
// fibers; hopper.hpp, what sm_90a adds; check.hpp and memory.hpp, checked mode; emulator.h, which stands in
// for CUDA in the kernels' header.
package emulator

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"temper/cuda/cache"
	"temper/kernels"
)

//go:embed src
var sources embed.FS

var common = []string{"-std=c++20", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-fPIC"}

// Library compiles the look-alike of libcuda and returns its file.
func Library() (string, error) {
	cxx, err := compiler()
	if err != nil {
		return "", err
	}
	flags := append([]string{"-O3"}, common...)
	text := []string{"library", cxx.version, fmt.Sprint(flags)}
	files := map[string]string{}
	for _, name := range []string{"driver.cc", "block.hpp", "hopper.hpp", "check.hpp", "memory.hpp", "abi.h"} {
		files[name] = source(name)
		text = append(text, name, files[name])
	}
	_, file, unsaved, err := cache.Entry("libcuda-emulator-"+cache.Key(text...)+".so", func() ([]byte, error) {
		return cxx.compile(files, "driver.cc", flags)
	})
	if err == nil && unsaved != nil {
		err = fmt.Errorf("the emulator cannot be stored: %w: set TEMPER_CACHE to a folder with room", unsaved)
	}
	return file, err
}

// Compile compiles a translation unit of kernels, which may include the device
// header, to an image for the emulator. The name is what reports call it. In
// checked mode only images that are compiled with checked can be loaded.
func Compile(name, text string, checked bool) ([]byte, error) {
	cxx, err := compiler()
	if err != nil {
		return nil, err
	}
	flags := append([]string{"-O1", "-DTEMPER_EMULATOR"}, common...)
	if checked {
		// Accesses to whole vectors stay whole, as they are on a GPU.
		flags = append(flags, "-fno-tree-sra", "-g1", "-fsanitize=thread", "-DTEMPER_CHECKED")
	}
	files := map[string]string{
		"kernels.cc": fmt.Sprintf("#line 1 %q\n%s", name, text),
		"emulator.h": source("emulator.h"),
		"abi.h":      source("abi.h"),
	}
	for _, h := range kernels.Headers {
		files[h] = kernels.Source(h)
	}
	key := cache.Key("module", cxx.version, fmt.Sprint(flags), files["kernels.cc"], kernels.HeaderText(), files["emulator.h"], files["abi.h"])
	image, _, _, err := cache.Entry("emulator-"+key+".so", func() ([]byte, error) { return cxx.compile(files, "kernels.cc", flags) })
	return image, err
}

func source(name string) string {
	b, err := sources.ReadFile("src/" + name)
	if err != nil {
		panic("BUG: emulator: " + err.Error())
	}
	return string(b)
}

type cxx struct {
	path, version string // version: with the architecture
}

// ErrNoCompiler says that the emulator cannot be built.
var ErrNoCompiler = errors.New("the emulator needs a C++ compiler: install g++, or set CXX to one that takes its options")

var compiler = sync.OnceValues(func() (cxx, error) {
	name := os.Getenv("CXX")
	if name == "" {
		name = "g++"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return cxx{}, ErrNoCompiler
	}
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		return cxx{}, fmt.Errorf("%s --version: %w", path, err)
	}
	return cxx{path, runtime.GOARCH + " " + string(version)}, nil
})

// Available says why the emulator cannot be used on this machine, nil if it can.
func Available() error {
	_, err := compiler()
	return err
}

// compile makes a shared object of one of some files. It links without the
// flags, which would ask for the run time of a sanitizer.
func (c cxx) compile(files map[string]string, main string, flags []string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "temper-emulator-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	for _, args := range [][]string{append([]string{"-c", main, "-o", "out.o"}, flags...), {"-shared", "out.o", "-o", "out.so"}} {
		cmd := exec.Command(c.path, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", c.path, err, strings.TrimSpace(string(out)))
		}
	}
	return os.ReadFile(filepath.Join(dir, "out.so"))
}
