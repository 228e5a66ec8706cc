//go:build cgo && !windows

package emulator_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"temper/cuda"
	"temper/cuda/emulator"
	"temper/engine/rng"
)

// open gives a device of the emulator in the given mode.
func open(t testing.TB, checked bool) *cuda.Device {
	t.Helper()
	path, err := emulator.Library()
	if errors.Is(err, emulator.ErrNoCompiler) && !slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "cxx") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	lib, err := cuda.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	set := func(option string, value int) {
		t.Helper()
		if err := lib.SetEmulator(option, value); err != nil {
			t.Fatal(err)
		}
	}
	if checked {
		set("checked", 1)
	}
	dev, err := lib.Device(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, option := range []string{"reset", "checked", "copies", "seed"} {
			set(option, 0)
		}
		set("lazy", 1)
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func load(t testing.TB, dev *cuda.Device, file string, checked bool) (*cuda.Module, string) {
	t.Helper()
	text := string(must(os.ReadFile("testdata/" + file))(t))
	image := must(emulator.Compile(file, text, checked))(t)
	return must(dev.Load(image))(t), text
}

func bytesOf[T any](s []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}

// upload copies a slice to new device memory.
func upload[T any](t testing.TB, dev *cuda.Device, s *cuda.Stream, v []T) cuda.Ptr {
	t.Helper()
	b := bytesOf(v)
	p := must(dev.Alloc(len(b)))(t)
	if err := s.Write(p, b); err != nil {
		t.Fatal(err)
	}
	return p
}

func download[T any](t *testing.T, s *cuda.Stream, p cuda.Ptr, n int) []T {
	t.Helper()
	v := make([]T, n)
	if err := s.Read(bytesOf(v), p); err != nil {
		t.Fatal(err)
	}
	return v
}

func launch(t testing.TB, m *cuda.Module, s *cuda.Stream, name string, grid, block [3]int, shared int, args ...any) error {
	t.Helper()
	l := must(must(m.Function(name))(t).Prepare(grid, block, shared, args...))(t)
	defer l.Close()
	if err := s.Launch(l); err != nil {
		return err
	}
	return s.Synchronize()
}

// TestMain is a child process of TestProcesses if that says so.
func TestMain(m *testing.M) {
	if os.Getenv("EMULATOR_CHILD") == "" {
		os.Exit(m.Run())
	}
	file, err := emulator.Library()
	if err == nil {
		var image []byte
		image, err = emulator.Compile("child.cu", "#include \"device.h\"\nextern \"C\" __global__ void k() {}\nEXPORT(k)\n", false)
		fmt.Println(filepath.Base(file), len(image))
	}
	if err != nil {
		fmt.Println(err)
	}
}

func child(t *testing.T, env ...string) *exec.Cmd {
	c := exec.Command(must(os.Executable())(t))
	c.Env = append(os.Environ(), append(env, "EMULATOR_CHILD=1")...)
	return c
}

// Processes that start at once on an empty cache all get the same, and leave
// nothing else behind.
func TestProcesses(t *testing.T) {
	open(t, false)
	cache := t.TempDir()
	var outs [2][]byte
	var wg sync.WaitGroup
	for i := range outs {
		c := child(t, "TEMPER_CACHE="+cache)
		wg.Go(func() { outs[i], _ = c.CombinedOutput() })
	}
	wg.Wait()
	for _, out := range outs {
		if !strings.HasPrefix(string(out), "libcuda-emulator-") || string(out) != string(outs[0]) {
			t.Errorf("%q, the first was %q", out, outs[0])
		}
	}
	if left := must(os.ReadDir(cache))(t); len(left) != 2 {
		t.Errorf("the cache has %v, want the library and a module", left)
	}
}

func TestNoCompiler(t *testing.T) {
	out, _ := child(t, "CXX=no-such-compiler").CombinedOutput()
	if got := string(out); got != emulator.ErrNoCompiler.Error()+"\n" {
		t.Errorf("%q", got)
	}
}

func TestCompileMistake(t *testing.T) {
	open(t, false)
	_, err := emulator.Compile("bad.cu", "#include \"device.h\"\nextern \"C\" __global__ void k() { nonsense; }\n", false)
	if err == nil || !strings.Contains(err.Error(), "bad.cu:2:") || !strings.Contains(err.Error(), "nonsense") {
		t.Error(err)
	}
}

// In checked mode an image without checks would go unnoticed: it is refused.
func TestUncheckedImage(t *testing.T) {
	dev := open(t, true)
	image := must(emulator.Compile("sound.cu", string(must(os.ReadFile("testdata/sound.cu"))(t)), false))(t)
	if _, err := dev.Load(image); err == nil || !strings.Contains(err.Error(), "not in the mode it is in") {
		t.Error(err)
	}
}

// Checked mode must find each planted bug and say in which line it is.
func TestPlantedBugs(t *testing.T) {
	for name, says := range map[string]string{
		"out_of_bounds":         "out of bounds: write of 4 bytes, from byte 2000 of an allocation of 2000, thread 244 of block (1,0,0)",
		"null_pointer":          "read of 4 bytes at address (nil), which is in no allocation, thread 0 ",
		"misaligned":            "misaligned read of 16 bytes",
		"uninitialised_shared":  "read of shared memory that nothing has been written to yet: byte ",
		"uninitialised_global":  "read of uninitialised global memory: byte 0 of an allocation of 2000, thread 0 ",
		"divergent_barrier":     "divergent __syncthreads in block (0,0,0): 64 threads at ",
		"deadlock":              "; 128 threads (first 0) wait at __syncthreads",
		"warp_divergence":       "diverges: ",
		"race_across_warps":     "race in shared memory (",
		"race_in_a_warp":        "race in shared memory (",
		"race_write_after_read": "race in shared memory (",
		"race_global":           "race in global memory (write after write) at byte 0: the launch's block number 0 ",
		"race_global_in_block":  "race in global memory (",
		"race_of_bytes":         "race in shared memory (write after write)",
		"copy_without_wait":     "read of shared memory that nothing has been written to yet: byte ",
		"copy_without_barrier":  "race in shared memory (",
		"copy_misaligned":       "cp.async: an address of thread 0 ",
		"rows_outside_shared":   "ldmatrix: the row of thread 0 of block (0,0,0) is not in shared memory",
		"dynamic_out_of_bounds": "out of bounds: write of 4 bytes, from byte 512 of 512 bytes of dynamic shared memory, thread 128 ",
	} {
		t.Run(name, func(t *testing.T) {
			dev := open(t, true)
			m, text := load(t, dev, "bugs.cu", true)
			s := must(dev.NewStream())(t)
			const n = 500
			a, b := upload(t, dev, s, make([]float32, n)), upload(t, dev, s, make([]float32, n))
			u := must(dev.Alloc(4 * n))(t)
			err := launch(t, m, s, name, [3]int{2, 1, 1}, [3]int{256, 1, 1}, 512, a, b, u, uint32(n))
			if err == nil {
				t.Fatal("no error")
			}
			line := 1 + strings.Count(text[:strings.Index(text, "bug: "+name)], "\n")
			for _, want := range []string{"kernel " + name + ": ", says, fmt.Sprintf("bugs.cu:%d", line)} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nwant it to say %q", err, want)
				}
			}
			if err := s.Synchronize(); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_LAUNCH_FAILED") {
				t.Errorf("after a failure: %v, want the failure again", err)
			}
		})
	}
}

// modes runs a test checked and unchecked, with copies landing late, early and
// at random, and with random schedules.
func modes(t *testing.T, test func(t *testing.T, dev *cuda.Device, m *cuda.Module)) {
	for _, c := range []struct {
		checked      bool
		copies, seed int
	}{{false, 0, 0}, {true, 0, 0}, {true, 1, 0}, {true, 2, 1}, {false, 2, 2}, {true, 0, 3}} {
		t.Run(fmt.Sprintf("checked=%v copies=%d seed=%d", c.checked, c.copies, c.seed), func(t *testing.T) {
			dev := open(t, c.checked)
			lib := must(cuda.Open(must(emulator.Library())(t)))(t)
			for option, value := range map[string]int{"copies": c.copies, "seed": c.seed} {
				if err := lib.SetEmulator(option, value); err != nil {
					t.Fatal(err)
				}
			}
			m, _ := load(t, dev, "sound.cu", c.checked)
			test(t, dev, m)
		})
	}
}

func floats(n int) []float32 {
	v, s := make([]float32, n), rng.NewStream(1, "emulator", 0)
	for i := range v {
		v[i] = s.Uniform() - 0.5
	}
	return v
}

func TestTranspose(t *testing.T) {
	modes(t, func(t *testing.T, dev *cuda.Device, m *cuda.Module) {
		s := must(dev.NewStream())(t)
		const rows, columns = 37, 23
		v := floats(rows * columns)
		x, y := upload(t, dev, s, v), must(dev.Alloc(4*rows*columns))(t)
		shape := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, rows), columns)
		shape = binary.LittleEndian.AppendUint32(shape, math.Float32bits(2))
		if err := launch(t, m, s, "transpose", [3]int{2, 3, 1}, [3]int{16, 16, 1}, 0, x, y, shape); err != nil {
			t.Fatal(err)
		}
		for i, got := range download[float32](t, s, y, rows*columns) {
			if want := 2 * v[i%rows*columns+i/rows]; got != want {
				t.Fatalf("element %d is %v, want %v", i, got, want)
			}
		}
	})
}

func TestScan(t *testing.T) {
	modes(t, func(t *testing.T, dev *cuda.Device, m *cuda.Module) {
		s := must(dev.NewStream())(t)
		v := make([]float32, 256) // small integers: any order of adding gives the same
		for i := range v {
			v[i] = float32(i % 7)
		}
		x, y, z := upload(t, dev, s, v), must(dev.Alloc(1024))(t), must(dev.Alloc(1024))(t)
		if err := launch(t, m, s, "scan", [3]int{1, 1, 1}, [3]int{256, 1, 1}, 0, x, y, z); err != nil {
			t.Fatal(err)
		}
		gy, gz := download[float32](t, s, y, 256), download[float32](t, s, z, 256)
		sum := float32(0)
		for i := range v {
			if i%32 == 0 {
				sum = 0
			}
			if sum += v[i]; gy[i] != sum || gz[i] != sum {
				t.Fatalf("element %d is %v and %v, want %v", i, gy[i], gz[i], sum)
			}
		}
	})
}

func TestBytes(t *testing.T) {
	modes(t, func(t *testing.T, dev *cuda.Device, m *cuda.Module) {
		s := must(dev.NewStream())(t)
		const n = 100
		v := floats(n)
		x, y := upload(t, dev, s, v), must(dev.Alloc(n))(t)
		if err := launch(t, m, s, "bytes", [3]int{7, 1, 1}, [3]int{15, 1, 1}, 0, x, y, uint32(n)); err != nil {
			t.Fatal(err)
		}
		for i, got := range download[uint8](t, s, y, n) {
			if want := v[i] > 0; (got == 1) != want {
				t.Fatalf("element %d is %d, want %v", i, got, want)
			}
		}
	})
}

func bf16(v float32) uint16     { return uint16(math.Float32bits(v) >> 16) }
func fromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }
func dot(a, b []uint16) (s, abs float64) {
	for i := range a {
		p := float64(fromBF16(a[i])) * float64(fromBF16(b[i]))
		s, abs = s+p, abs+math.Abs(p)
	}
	return s, abs
}

func TestGEMM(t *testing.T) {
	modes(t, func(t *testing.T, dev *cuda.Device, m *cuda.Module) {
		s := must(dev.NewStream())(t)
		const rows, columns, k = 128, 64, 96
		var a, b []uint16
		for i, v := range floats((rows + columns) * k) {
			if i < rows*k {
				a = append(a, bf16(v))
			} else {
				b = append(b, bf16(v))
			}
		}
		pa, pb, pc := upload(t, dev, s, a), upload(t, dev, s, b), must(dev.Alloc(4*rows*columns))(t)
		if err := launch(t, m, s, "gemm_bf16", [3]int{columns / 64, rows / 64, 1}, [3]int{128, 1, 1}, 3*128*40*2, pa, pb, pc, uint32(columns), uint32(k)); err != nil {
			t.Fatal(err)
		}
		for i, got := range download[float32](t, s, pc, rows*columns) {
			want, abs := dot(a[i/columns*k:][:k], b[i%columns*k:][:k])
			if math.Abs(float64(got)-want) > 1e-6*abs {
				t.Fatalf("element %d is %v, want %v", i, got, want)
			}
		}
	})
}

// BenchmarkGEMM is 256³ in bf16, with and without checks.
func BenchmarkGEMM(b *testing.B) {
	for _, checked := range []bool{false, true} {
		b.Run(fmt.Sprintf("checked=%v", checked), func(b *testing.B) {
			dev := open(b, checked)
			s := must(dev.NewStream())(b)
			m, _ := load(b, dev, "sound.cu", checked)
			const n = 256
			x, y := upload(b, dev, s, make([]uint16, n*n)), must(dev.Alloc(4*n*n))(b)
			for b.Loop() {
				if err := launch(b, m, s, "gemm_bf16", [3]int{n / 64, n / 64, 1}, [3]int{128, 1, 1}, 3*128*40*2, x, x, y, uint32(n), uint32(n)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestFragments(t *testing.T) {
	modes(t, func(t *testing.T, dev *cuda.Device, m *cuda.Module) {
		s := must(dev.NewStream())(t)
		a, b := make([]float32, 16*8), make([]float32, 8*8)
		for i := range a {
			a[i] = float32(i%13 - 6)
		}
		for i := range b {
			b[i] = float32(i%11 - 5)
		}
		rows := make([]uint16, 256)
		for i := range rows {
			rows[i] = uint16(i)
		}
		d, out := must(dev.Alloc(4*128))(t), must(dev.Alloc(4*128))(t)
		if err := launch(t, m, s, "fragments", [3]int{1, 1, 1}, [3]int{32, 1, 1}, 0, upload(t, dev, s, a), upload(t, dev, s, b), d, upload(t, dev, s, rows), out); err != nil {
			t.Fatal(err)
		}
		for i, got := range download[float32](t, s, d, 128) {
			want := float32(0)
			for k := range 8 {
				want += a[i/8*8+k] * b[k*8+i%8]
			}
			if got != want {
				t.Errorf("product %d is %v, want %v", i, got, want)
			}
		}
		for i, got := range download[uint32](t, s, out, 128) {
			lane, matrix := i/4, i%4
			at := func(k int) uint32 { return uint32(rows[(matrix*8+lane%4*2+k)*8+lane/4]) } // row 2(l%4)+k, column l/4
			if want := at(0) | at(1)<<16; got != want {
				t.Errorf("lane %d, matrix %d: %#x, want %#x", lane, matrix, got, want)
			}
		}
	})
}
