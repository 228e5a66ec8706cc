//go:build cgo && !windows

package cuda

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"temper/cuda/emulator"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/plan"
	"temper/kernels"
)

func nvrtc(t *testing.T) *Compiler {
	t.Helper()
	c, err := OpenCompiler(0, "")
	var missing *NoCompilerError
	if errors.As(err, &missing) && !required("nvrtc") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, CUDA %d.%d", c.Path, c.Major, c.Minor)
	return c
}

// Every source compiles for every generation that temper supports, and no
// kernel spills registers.
func TestCompile(t *testing.T) {
	c := nvrtc(t)
	units := map[string]string{"random.cu": kernels.Source("random.cu")}
	for name, file := range map[string]string{"pgd.cu": "testdata/pgd.cu", "streams.cu": "testdata/streams.cu", "sound.cu": "emulator/testdata/sound.cu"} {
		units[name] = string(must(os.ReadFile(file))(t))
	}
	units["pgd.cu"] = Unit(units["pgd.cu"])
	for name, source := range units {
		for _, arch := range []string{"sm_80", "sm_90"} {
			cubin, resources, err := c.Compile(name, source, arch)
			if err != nil {
				t.Error(err)
				continue
			}
			if !bytes.HasPrefix(cubin, []byte("\x7fELF")) {
				t.Errorf("%s, %s: %q is no cubin", name, arch, cubin[:min(8, len(cubin))])
			}
			if want := strings.Count(source, "\nEXPORT"); len(resources) != want {
				t.Errorf("%s, %s: resources of %d kernels, want %d", name, arch, len(resources), want)
			}
			for kernel, r := range resources {
				if r.Registers == 0 || r.Spills != 0 {
					t.Errorf("%s, %s, %s: %d registers, %d bytes of spills", name, arch, kernel, r.Registers, r.Spills)
				}
			}
		}
	}
}

func TestCompileMistake(t *testing.T) {
	c := nvrtc(t)
	_, _, err := c.Compile("bad.cu", "#include \"device.h\"\nextern \"C\" __global__ void k() { nonsense; }\n", "sm_90")
	if err == nil || !strings.Contains(err.Error(), "bad.cu for sm_90: ") || !strings.Contains(err.Error(), "bad.cu(2): error: identifier \"nonsense\" is undefined") {
		t.Error(err)
	}
}

// The assembler's remarks are read: on sums that are touched while products are
// under way, and on registers of a block whose size it does not know.
func TestLosses(t *testing.T) {
	c := nvrtc(t)
	const products = `extern "C" __global__ void __launch_bounds__(128) k(f32* out) {
  DYNAMIC_SHARED(u8, shared);
  typedef wgmma_operand<64, 64, 128, true> operand;
  f32 sums[1][32] = {};
  for (u32 k = 0; k < 4; k++) {
    wgmma_fence(sums);
    wgmma_bf16<true, true, 64>(sums[0], operand::matrix(shared, 0, 0), operand::matrix(shared, 0, 0), operand::STEP, operand::STEP);
    wgmma_commit();
    TOUCH
  }
  wgmma_wait_for(sums);
  for (u32 q = 0; q < 32; q++) out[threadIdx.x * 32 + q] = sums[0][q];
}`
	const registers = `extern "C" __global__ void BOUNDS k(f32* out) {
  if (threadIdx.x >= 128) release_registers<40>(), *out = 1;
  else acquire_registers<232>();
}`
	for _, k := range []struct {
		source string
		lost   bool
	}{
		{strings.ReplaceAll(products, "TOUCH", "wgmma_wait<1>();"), false},
		{strings.ReplaceAll(products, "TOUCH", "if (out[k] > 0) sums[0][3] += 1;"), true},
		{strings.ReplaceAll(registers, "BOUNDS", "__launch_bounds__(384, 1)"), false},
		{strings.ReplaceAll(registers, "BOUNDS", ""), true},
	} {
		_, resources, err := c.Compile("k.cu", Unit(k.source), "sm_90a")
		if err != nil || resources["k"].Losses > 0 != k.lost {
			t.Errorf("%v, %v of\n%s", resources, err, k.source)
		}
	}
}

// What a compiler has put into the cache is found without one.
func TestCubins(t *testing.T) {
	nvrtc(t)
	t.Setenv("TEMPER_CACHE", t.TempDir())
	const source = "#include \"device.h\"\nextern \"C\" __global__ void k() {}\n"
	with := must(NewCubins("sm_90", 13000))(t)
	cubin := must(with.Get("k.cu", source))(t)
	if again := must(with.Get("k.cu", source))(t); !bytes.Equal(again, cubin) {
		t.Error("the second cubin differs from the first")
	}
	files := must(filepath.Glob(filepath.Join(os.Getenv("TEMPER_CACHE"), "cubin-*")))(t)
	if len(files) != 1 {
		t.Fatalf("the cache has %v", files)
	}
	if err := os.WriteFile(files[0], cubin[:len(cubin)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if again := must(with.Get("k.cu", source))(t); !bytes.Equal(again, cubin) {
		t.Error("the cubin that was made anew differs from the first")
	}
	t.Setenv("TEMPER_NVRTC", filepath.Join(t.TempDir(), "libnvrtc.so.12"))
	without := must(NewCubins("sm_90", 13000))(t)
	if got := must(without.Get("k.cu", source))(t); !bytes.Equal(got, cubin) {
		t.Error("the cubin without a compiler differs from the one with it")
	}
	_, err := without.Get("other.cu", source+"\n")
	if err == nil || !strings.Contains(err.Error(), "other.cu is not compiled for sm_90, and there is no NVRTC") {
		t.Error(err)
	}
}

// A driver does not load what a later CUDA's compiler made: an older one is taken,
// or an older one's product in the cache, or the error names both versions.
func TestNewerCompiler(t *testing.T) {
	newer := nvrtc(t)
	older := os.Getenv("TEMPER_NVRTC12")
	if older == "" && !required("nvrtc") {
		t.Skip("no TEMPER_NVRTC12: eval \"$(build/nvrtc.sh)\" sets it")
	}
	dir := t.TempDir()
	lib := filepath.Join(dir, "lib64")
	err := errors.Join(os.Mkdir(lib, 0o755), os.Symlink(newer.Path, filepath.Join(lib, "libnvrtc.so.13")), os.Symlink(older, filepath.Join(lib, "libnvrtc.so.12")))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CUDA_HOME", dir)
	t.Setenv("TEMPER_NVRTC", "")
	t.Setenv("TEMPER_CACHE", filepath.Join(dir, "cache"))
	for driver, want := range map[int]int{0: 13, 12040: 12, 12090: 12, 13000: 13, 14020: 13} {
		if c := must(OpenCompiler(driver, "sm_90a"))(t); c.Major != want {
			t.Errorf("for a driver of CUDA %s: %s, want one of CUDA %d", version(driver), c.Path, want)
		}
	}
	const source = "#include \"device.h\"\nextern \"C\" __global__ void k() {}\n"
	t.Setenv("TEMPER_NVRTC", newer.Path)
	must(must(NewCubins("sm_90", 13000))(t).Get("k.cu", source))(t)
	old := must(NewCubins("sm_90", 12040))(t)
	says := fmt.Sprintf("k.cu is not compiled for sm_90, and there is no NVRTC, CUDA's run-time compiler, for a driver of CUDA 12.4 (%s is of 13.%d): update the NVIDIA driver, or `pip install nvidia-cuda-nvrtc-cu12`", newer.Path, newer.Minor)
	if _, err := old.Get("k.cu", source); err == nil || err.Error() != says {
		t.Errorf("%v\nwant %s", err, says)
	}
	t.Setenv("TEMPER_NVRTC", older)
	cubin := must(must(NewCubins("sm_90", 12080))(t).Get("k.cu", source))(t)
	if got := must(old.Get("k.cu", source))(t); !bytes.Equal(got, cubin) {
		t.Error("what CUDA 12's compiler left in the cache is not what is found there")
	}
}

// A compiler that cannot do what is asked is passed over, and the error names the
// one that can.
func TestUnfitCompiler(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil && !required("cxx") {
		t.Skip(err)
	}
	fake := func(name string, major int, archs string) string {
		source, lib := filepath.Join(t.TempDir(), "nvrtc.c"), filepath.Join(t.TempDir(), name)
		text := fmt.Sprintf(`static int archs[] = {%s};
int nvrtcVersion(int* major, int* minor) { return *major = %d, *minor = 1, 0; }
int nvrtcGetNumSupportedArchs(int* n) { return *n = sizeof archs / sizeof *archs, 0; }
int nvrtcGetSupportedArchs(int* to) { for (unsigned i = 0; i < sizeof archs / sizeof *archs; i++) to[i] = archs[i]; return 0; }
const char* nvrtcGetErrorString(int code) { return ""; }
void nvrtcCreateProgram() {} void nvrtcDestroyProgram() {} void nvrtcCompileProgram() {} void nvrtcGetCUBINSize() {}
void nvrtcGetCUBIN() {} void nvrtcGetProgramLogSize() {} void nvrtcGetProgramLog() {}
`, archs, major)
		if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(cc, "-shared", "-fPIC", "-o", lib, source).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return lib
	}
	eleven, twelve := fake("libnvrtc.so.11.2", 11, "80, 86, 90"), fake("libnvrtc.so.12", 12, "80, 90")
	for _, c := range []struct {
		lib    string
		driver int
		arch   string
		says   string // "": it is opened
	}{
		{twelve, 12040, "sm_90a", ""},
		{twelve, 0, "", ""},
		{eleven, 12040, "sm_80", "no NVRTC, CUDA's run-time compiler, of CUDA 12.0 or later (" + eleven + " is of 11.1): `pip install nvidia-cuda-nvrtc-cu12`, or set TEMPER_NVRTC to a newer one"},
		{twelve, 12080, "sm_100", "no NVRTC, CUDA's run-time compiler, that knows sm_100 (" + twelve + " is of CUDA 12.1): `pip install --upgrade nvidia-cuda-nvrtc-cu12`, or set TEMPER_NVRTC to a newer one"},
		{twelve, 13000, "sm_110", "no NVRTC, CUDA's run-time compiler, that knows sm_110 (" + twelve + " is of CUDA 12.1): `pip install --upgrade 'nvidia-cuda-nvrtc==13.*'`, or set TEMPER_NVRTC to a newer one"},
		{"libm.so.6", 0, "", "no NVRTC, CUDA's run-time compiler, in TEMPER_NVRTC=libm.so.6: it has no nvrtcVersion: name the library, or unset it to have it looked for"},
		{"/no/libnvrtc.so.12", 0, "", "no NVRTC, CUDA's run-time compiler, in TEMPER_NVRTC=/no/libnvrtc.so.12: cannot open shared object file: No such file or directory: name the library, or unset it to have it looked for"},
	} {
		t.Setenv("TEMPER_NVRTC", c.lib)
		_, err := OpenCompiler(c.driver, c.arch)
		if got := fmt.Sprint(err); err == nil && c.says != "" || err != nil && got != c.says {
			t.Errorf("%s for %s: %s\nwant %s", c.lib, c.arch, got, c.says)
		}
	}
	// Of several libraries the first that serves is taken.
	home := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(home, "lib64"), 0o755), os.Symlink(eleven, filepath.Join(home, "lib64/libnvrtc.so.13")), os.Symlink(twelve, filepath.Join(home, "lib64/libnvrtc.so.12"))); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEMPER_NVRTC", "")
	t.Setenv("CUDA_HOME", home)
	if c := must(OpenCompiler(12040, "sm_90a"))(t); filepath.Base(c.Path) != "libnvrtc.so.12" || c.Major != 12 {
		t.Errorf("%s of CUDA %d.%d is taken", c.Path, c.Major, c.Minor)
	}
}

// With the kernels of a plan in the cache, a machine without NVRTC loads them.
// The GPU is the emulator, which takes no cubin: it is asked to.
func TestPrebuild(t *testing.T) {
	nvrtc(t)
	library := must(emulator.Library())(t)
	drive(t, library)
	t.Setenv("TEMPER_CACHE", t.TempDir())
	g := trainStep(8)
	plans := []*plan.Plan{planOf(t, g, graph.PrecisionFloat32), planOf(t, g, graph.PrecisionFloat32)}
	var told [][2]int
	first := must(Prebuild(plans, "sm_90a", func(done, all int) { told = append(told, [2]int{done, all}) }))(t)
	for i, of := range told {
		if of != [2]int{i, first.Kernels} || len(told) != first.Kernels+1 {
			t.Errorf("told of %v, want 0 to %d", told, first.Kernels)
			break
		}
	}
	if first.Kernels == 0 || first.Compiled != first.Kernels {
		t.Errorf("%+v", first)
	}
	if again := must(Prebuild(plans, "sm_90a", nil))(t); again.Kernels != first.Kernels || again.Compiled != 0 {
		t.Errorf("%+v after %+v", again, first)
	}
	entries := must(filepath.Glob(filepath.Join(os.Getenv("TEMPER_CACHE"), "cubin-*")))(t)
	if err := os.WriteFile(entries[0], []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if mended := must(Prebuild(plans, "sm_90a", nil))(t); mended.Compiled != 1 {
		t.Errorf("%+v with a damaged entry", mended)
	}
	t.Setenv("TEMPER_NVRTC", "/no/libnvrtc.so.12")
	if _, err := Prebuild(plans, "sm_90a", nil); err == nil || !strings.HasPrefix(err.Error(), "no NVRTC, ") {
		t.Error(err)
	}
	dev := must(engine.Open("cuda", engine.DeviceOptions{}))(t)
	defer dev.Close()
	st := dev.NewState()
	defer st.Free()
	if _, err := dev.Compile(g, st, engine.Options{}); err == nil || !strings.Contains(err.Error(), "cuModuleLoadDataEx: CUDA_ERROR_INVALID_IMAGE") {
		t.Error(err)
	}
	if _, err := dev.Compile(trainStep(9), st, engine.Options{}); err == nil || !strings.Contains(err.Error(), " is not compiled for sm_90a, and there is no NVRTC") {
		t.Error(err)
	}
}

func TestParseArch(t *testing.T) {
	for name, want := range map[string]string{"sm_80": "sm_80", "sm_90": "sm_90a", "sm_90a": "sm_90a", "sm_120": "sm_120",
		"sm_75": "sm_75: temper needs sm_80 or later", "hopper": `no architecture "hopper": they are called sm_80, sm_90, …`} {
		got, err := ParseArch(name)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestParseResources(t *testing.T) {
	got := parseResources(`ptxas info    : 24 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_90'
ptxas info    : Function properties for a
ptxas         .     0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 27 registers, used 1 barriers, 32 bytes smem
ptxas info    : Compiling entry function 'b' for 'sm_90'
ptxas info    : Used 10 registers, used 0 barriers
`)
	if len(got) != 2 || got["a"] != (Resources{Registers: 27, Spills: 12, Shared: 32}) || got["b"] != (Resources{Registers: 10}) {
		t.Errorf("%+v", got)
	}
}

// The search finds libraries where toolkits and pip put them, newest first.
func TestCompilerLibraries(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"toolkit/lib64/libnvrtc.so.12", "toolkit/lib64/libnvrtc.so.13", "toolkit/lib64/libnvrtc.alt.so.13",
		"venv/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12", "venv/lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
		"conda/lib/libnvrtc.so.12", "torch/bin/python3", "torch/lib64/python3.12/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"} {
		p := filepath.Join(dir, f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, nil, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TEMPER_NVRTC", "")
	t.Setenv("CUDA_PATH", "")
	t.Setenv("CUDA_HOME", filepath.Join(dir, "toolkit"))
	t.Setenv("VIRTUAL_ENV", filepath.Join(dir, "venv"))
	t.Setenv("CONDA_PREFIX", filepath.Join(dir, "conda"))
	t.Setenv("PATH", filepath.Join(dir, "torch/bin"))
	var got []string
	for _, p := range compilerLibraries() {
		if rel, ok := strings.CutPrefix(p, dir+"/"); ok {
			got = append(got, rel)
		}
	}
	want := "toolkit/lib64/libnvrtc.so.13 toolkit/lib64/libnvrtc.so.12 conda/lib/libnvrtc.so.12 venv/lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13 venv/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12 torch/lib64/python3.12/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"
	if strings.Join(got, " ") != want {
		t.Errorf("%v\nwant %s", got, want)
	}
}
