package cuda

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// NoCompilerError says that no NVRTC was found, or none that can be used.
type NoCompilerError struct {
	Why string // what the dynamic linker said of the last library tried
	// Unfit is the first library that was found, of the CUDA Version; "" if there is
	// none. Driver is the newest CUDA that the driver supports, Arch what is to be
	// compiled for: 0 and "" if that is open. Versions are as in Library.Version.
	Unfit           string
	Version, Driver int
	Arch            string
}

// oldestCompiler is the first CUDA whose NVRTC knows sm_90a, and with which temper's
// kernels have been compiled.
const oldestCompiler = 12000

func (e *NoCompilerError) Error() string {
	const none = "no NVRTC, CUDA's run-time compiler"
	wheel := "nvidia-cuda-nvrtc-cu12"
	if e.Driver >= 13000 { // the first without the suffix
		wheel = fmt.Sprintf("'nvidia-cuda-nvrtc==%d.*'", e.Driver/1000)
	}
	switch {
	case e.Unfit == "" && os.Getenv("TEMPER_NVRTC") != "":
		named := os.Getenv("TEMPER_NVRTC")
		return fmt.Sprintf("%s, in TEMPER_NVRTC=%s: %s: name the library, or unset it to have it looked for", none, named, strings.TrimPrefix(e.Why, named+": "))
	case e.Unfit == "":
		return fmt.Sprintf("%s: install a CUDA toolkit or `pip install %s`, or set TEMPER_NVRTC to the library", none, wheel)
	case e.Driver != 0 && e.Version/1000 > e.Driver/1000:
		return fmt.Sprintf("%s, for a driver of CUDA %s (%s is of %s): update the NVIDIA driver, or `pip install %s`", none, version(e.Driver), e.Unfit, version(e.Version), wheel)
	case e.Version < oldestCompiler:
		return fmt.Sprintf("%s, of CUDA %s or later (%s is of %s): `pip install %s`, or set TEMPER_NVRTC to a newer one", none, version(oldestCompiler), e.Unfit, version(e.Version), wheel)
	}
	return fmt.Sprintf("%s, that knows %s (%s is of CUDA %s): `pip install --upgrade %s`, or set TEMPER_NVRTC to a newer one", none, e.Arch, e.Unfit, version(e.Version), wheel)
}

// compilerLibraries lists where NVRTC may be, in the order to try:
// $TEMPER_NVRTC alone if it is set; the toolkit of $CUDA_HOME or $CUDA_PATH;
// what the dynamic linker finds; the usual prefixes of toolkits; conda's; the
// packages of pip, first those of the active environment and of the python3 that
// a shell would run.
func compilerLibraries() []string {
	if p := os.Getenv("TEMPER_NVRTC"); p != "" {
		return []string{p}
	}
	var found []string
	newest := func(patterns ...string) {
		for _, p := range patterns {
			files, _ := filepath.Glob(p)
			slices.SortFunc(files, func(a, b string) int { return slices.Compare(numbers(b), numbers(a)) })
			found = append(found, files...)
		}
	}
	for _, name := range []string{"CUDA_HOME", "CUDA_PATH"} {
		if home := os.Getenv(name); home != "" {
			newest(filepath.Join(home, "lib64", "libnvrtc.so.*"), filepath.Join(home, "lib", "libnvrtc.so.*"))
		}
	}
	found = append(found, "libnvrtc.so.13", "libnvrtc.so.12")
	newest("/usr/local/cuda/lib64/libnvrtc.so.*", "/usr/local/cuda-*/lib64/libnvrtc.so.*", "/opt/cuda/lib64/libnvrtc.so.*")
	conda := os.Getenv("CONDA_PREFIX")
	if conda != "" {
		newest(filepath.Join(conda, "lib", "libnvrtc.so.*"))
	}
	home, _ := os.UserHomeDir()
	for _, prefix := range []string{os.Getenv("VIRTUAL_ENV"), conda, pythonPrefix(), filepath.Join(home, ".local"), "/usr/local", "/usr"} {
		if prefix == "" {
			continue
		}
		for _, python := range []string{"lib/python3*/site-packages", "lib64/python3*/site-packages", "lib/python3*/dist-packages"} {
			packages := filepath.Join(prefix, python, "nvidia")
			newest(filepath.Join(packages, "cu[0-9]*", "lib", "libnvrtc.so.*"), filepath.Join(packages, "cuda_nvrtc", "lib", "libnvrtc.so.*"))
		}
	}
	return slices.DeleteFunc(found, func(p string) bool { return strings.Contains(p, ".alt.") })
}

// pythonPrefix is where python3 on the path has its packages; "" if there is none.
// A virtual environment's is a link, which is not followed.
func pythonPrefix() string {
	python, err := exec.LookPath("python3")
	if err != nil {
		return ""
	}
	return filepath.Dir(filepath.Dir(python))
}

var digits = regexp.MustCompile(`\d+`)

// numbers are the numbers in a path, for sorting by version.
func numbers(path string) []int {
	var out []int
	for _, s := range digits.FindAllString(path, -1) {
		n, _ := strconv.Atoi(s)
		out = append(out, n)
	}
	return out
}

// Resources is what a kernel needs of a multiprocessor.
type Resources struct {
	Registers int // of a thread
	Spills    int // bytes that a thread stores and loads for want of registers
	Shared    int // static, bytes
	// Losses counts the assembler's remarks, on the kernels compiled together, that
	// it made products of warpgroups wait for one another or left registers where
	// they are.
	Losses int
}

var (
	entryLine = regexp.MustCompile(`Compiling entry function '(\w+)'`)
	spillLine = regexp.MustCompile(`(\d+) bytes spill stores, (\d+) bytes spill loads`)
	lossLine  = regexp.MustCompile(`\(C75\d\d\)`)
	usedLine  = regexp.MustCompile(`Used (\d+) registers(?:.*?(\d+) bytes smem)?`)
)

// parseResources reads the compiler's log.
func parseResources(log string) map[string]Resources {
	all := map[string]Resources{}
	kernel, losses := "", 0
	for line := range strings.Lines(log) {
		r := all[kernel]
		if lossLine.MatchString(line) {
			losses++
		} else if m := entryLine.FindStringSubmatch(line); m != nil {
			kernel, r = m[1], Resources{}
		} else if m := spillLine.FindStringSubmatch(line); m != nil {
			r.Spills = sumOf(m[1:])
		} else if m := usedLine.FindStringSubmatch(line); m != nil {
			r.Registers, r.Shared = sumOf(m[1:2]), sumOf(m[2:])
		}
		if kernel != "" {
			all[kernel] = r
		}
	}
	for kernel, r := range all {
		r.Losses = losses
		all[kernel] = r
	}
	return all
}

func sumOf(parts []string) (sum int) {
	for _, d := range parts {
		n, _ := strconv.Atoi(d)
		sum += n
	}
	return sum
}
