//go:build cgo && !windows

package cuda

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"temper/cuda/emulator"
)

// required says whether TEMPER_REQUIRE names something that tests can do
// without.
func required(what string) bool {
	return slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), what)
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

// emulated opens the emulator with some options, which it takes back.
func emulated(t *testing.T, options map[string]int) *Library {
	t.Helper()
	path, err := emulator.Library()
	if errors.Is(err, emulator.ErrNoCompiler) && !required("cxx") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	lib := must(Open(path))(t)
	t.Cleanup(func() { usual(t, lib) })
	for option, value := range options {
		if err := lib.SetEmulator(option, value); err != nil {
			t.Fatal(err)
		}
	}
	return lib
}

// usual takes the emulator's options back.
func usual(t testing.TB, lib *Library) {
	for option, value := range map[string]int{"reset": 0, "checked": 0, "copies": 0, "seed": 0, "lazy": 1, "devices": 1, "capability": 90, "driver": 13000, "memory": 16384, "refuse": 0, "init": 0, "mode": 0, "log": 0} {
		if err := lib.SetEmulator(option, value); err != nil {
			t.Error(err)
		}
	}
}

// rig is a device with a stream and the kernels of a file.
type rig struct {
	t   *testing.T
	dev *Device
	s   *Stream
	m   *Module
}

func newRig(t *testing.T, lib *Library, file string, checked bool) *rig {
	t.Helper()
	r := &rig{t: t, dev: must(lib.Device(0))(t)}
	r.s = must(r.dev.NewStream())(t)
	text := must(os.ReadFile("testdata/" + file))(t)
	r.m = must(r.dev.Load(must(emulator.Compile(file, string(text), checked))(t)))(t)
	t.Cleanup(func() {
		for _, err := range []error{r.m.Close(), r.s.Close(), r.dev.Close()} {
			if err != nil && !t.Failed() {
				t.Error(err)
			}
		}
	})
	return r
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func bytesOf[T any](s []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0])))
}

func (r *rig) upload(v ...float32) Ptr {
	r.t.Helper()
	p := must(r.dev.Alloc(4 * len(v)))(r.t)
	r.ok(r.s.Write(p, bytesOf(v)))
	return p
}

func (r *rig) download(p Ptr, n int) []float32 {
	r.t.Helper()
	v := make([]float32, n)
	r.ok(r.s.Read(bytesOf(v), p))
	return v
}

func (r *rig) prepare(name string, args ...any) *Launch {
	r.t.Helper()
	l := must(must(r.m.Function(name))(r.t).Prepare([3]int{1, 1, 1}, [3]int{64, 1, 1}, 0, args...))(r.t)
	r.t.Cleanup(l.Close)
	return l
}

func (r *rig) want(p Ptr, want ...float32) {
	r.t.Helper()
	if got := r.download(p, len(want)); !slices.Equal(got, want) {
		r.t.Errorf("%v, want %v", got, want)
	}
}

func TestNoDriver(t *testing.T) {
	_, err := Open("libno-such-driver.so.1")
	var missing *NoDriverError
	if !errors.As(err, &missing) || err.Error() != "no CUDA driver (tried libno-such-driver.so.1)" || missing.Why == "" {
		t.Errorf("%v (%+v)", err, missing)
	}
	junk := filepath.Join(t.TempDir(), "libjunk.so")
	if err := os.WriteFile(junk, []byte("junk"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(junk); !errors.As(err, &missing) {
		t.Errorf("a file that is no library: %v", err)
	}
	if _, err := Open("libm.so.6"); err == nil || !strings.Contains(err.Error(), "libm.so.6 is no CUDA driver") {
		t.Errorf("a library that is no driver: %v", err)
	}
}

func TestMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		options map[string]int
		do      func(lib *Library) error
		says    string
	}{
		"old driver": {map[string]int{"driver": 11040}, func(l *Library) error { _, err := Open(l.Path); return err },
			"supports CUDA 11.4: temper needs 12.0 or later"},
		"old GPU":        {map[string]int{"capability": 75}, device(0), "CUDA device 0 (emulated GPU) is sm_75: temper needs sm_80 or later"},
		"prohibited GPU": {map[string]int{"mode": 2}, device(0), "CUDA device 0 (emulated GPU) is in compute mode Prohibited: nvidia-smi -i 0 -c DEFAULT lets programs use it"},
		"no GPU at all": {map[string]int{"init": 100}, func(l *Library) error { _, err := Open(l.Path); return err },
			"cuInit: CUDA_ERROR_NO_DEVICE: the driver describes it no further: nvidia-smi should list one; a container needs --gpus all"},
		"exclusive GPU": {map[string]int{"fail": 46}, device(0), "cuDevicePrimaryCtxRetain: CUDA_ERROR_DEVICE_UNAVAILABLE: the driver describes it no further: another process may have it to itself"},
		"full GPU":      {map[string]int{"fail": 2}, device(0), "cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY: out of memory: other programs have the device's memory: see nvidia-smi, or take another device"},
		"a later error": {map[string]int{"init": 4321}, func(l *Library) error { _, err := Open(l.Path); return err }, "cuInit: CUDA error 4321: the driver describes it no further"},
		"ECC": {nil, on(func(d *Device) error {
			s, _ := d.NewStream()
			return first(d.lib.SetEmulator("fail", 214), s.Synchronize())
		}), "cuStreamSynchronize: CUDA_ERROR_ECC_UNCORRECTABLE: the driver describes it no further: the GPU itself failed: see nvidia-smi -q and the kernel's log for an Xid"},
		"a kernel that reads elsewhere": {nil, on(func(d *Device) error {
			s, _ := d.NewStream()
			return first(d.lib.SetEmulator("fail", 700), s.Synchronize())
		}), "cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS: the driver describes it no further: a kernel went wrong: TEMPER_CUDA_GRAPH=off and CUDA_LAUNCH_BLOCKING=1 have the run say which one"},
		"no memory of the host": {map[string]int{"refuse": 1}, on(func(d *Device) error {
			_, err := d.AllocHost(3 << 20)
			return err
		}), "cuMemHostAlloc: CUDA_ERROR_OUT_OF_MEMORY: out of memory (3.0 MiB of page-locked memory of the host wanted): give the machine, or the container, more memory"},
		"no such GPU": {nil, device(3), "no CUDA device 3: there are 1, counted from 0"},
		"negative":    {nil, device(-1), "no CUDA device -1"},
		"option":      {nil, func(l *Library) error { return l.SetEmulator("speed", 1) }, `has no option "speed"`},
		"out of memory": {map[string]int{"memory": 64}, on(func(d *Device) error {
			_, err := d.Alloc(100 << 20)
			return err
		}), "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: out of memory (100.0 MiB wanted, 64.0 MiB of 64.0 MiB free)"},
		"image": {nil, on(func(d *Device) error { _, err := d.Load([]byte("no image at all")); return err }),
			"cuModuleLoadDataEx: CUDA_ERROR_INVALID_IMAGE: "},
		"empty image": {nil, on(func(d *Device) error { _, err := d.Load(nil); return err }), "is empty"},
		"freed twice": {nil, on(func(d *Device) error {
			p, err := d.Alloc(8)
			return errors.Join(err, d.Free(p), d.Free(p))
		}), "cuMemFree: CUDA_ERROR_INVALID_VALUE: invalid argument"},
		"copy too long": {nil, on(func(d *Device) error {
			s, _ := d.NewStream()
			p, _ := d.Alloc(8)
			return s.Upload(p, make([]byte, 9))
		}), "cuMemcpyHtoDAsync: CUDA_ERROR_INVALID_VALUE"},
	} {
		t.Run(name, func(t *testing.T) {
			lib := emulated(t, c.options)
			if err := c.do(lib); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nwant it to say %q in one line", err, c.says)
			}
		})
	}
}

// The toolkit's stub is passed over for a driver behind it; alone, it is named.
func TestStub(t *testing.T) {
	driver := emulated(t, nil).Path
	stub := filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(stub, must(os.ReadFile(driver))(t), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := must(Open(stub))(t).SetEmulator("init", stubLibrary); err != nil {
		t.Fatal(err)
	}
	if l := must(openFirst(stub, driver))(t); l.Path != driver {
		t.Errorf("%s is opened, want %s", l.Path, driver)
	}
	want := "the driver " + stub + ": cuInit: CUDA_ERROR_STUB_LIBRARY: the driver describes it no further: the library is the toolkit's stub, which is there to be linked with: install the NVIDIA driver, or take the folder stubs out of LD_LIBRARY_PATH"
	if _, err := openFirst(stub, "libno-such-driver.so.1"); err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func device(ordinal int) func(*Library) error {
	return func(l *Library) error { _, err := l.Device(ordinal); return err }
}

func on(do func(*Device) error) func(*Library) error {
	return func(l *Library) error {
		d, err := l.Device(0)
		if err != nil {
			return err
		}
		defer d.Close()
		return do(d)
	}
}

// What is used after its device was closed is refused, not the end of the process.
func TestClosed(t *testing.T) {
	dev := must(emulated(t, nil).Device(0))(t)
	s := must(dev.NewStream())(t)
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	_, allocated := dev.Alloc(8)
	for _, err := range []error{s.Synchronize(), allocated, dev.Close()} {
		if err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_INVALID_CONTEXT") {
			t.Error(err)
		}
	}
}

func TestProbe(t *testing.T) {
	lib := emulated(t, nil)
	infos := must(Probe(lib.Path))(t)
	want := DeviceInfo{Name: "emulated GPU", Capability: 90, Memory: 16 << 30, SMs: 8, SharedPerBlock: 227 << 10}
	if len(infos) != 1 || infos[0] != want {
		t.Errorf("%+v, want %+v", infos, want)
	}
}

func TestLaunchMistakes(t *testing.T) {
	r := newRig(t, emulated(t, nil), "streams.cu", false)
	if _, err := r.m.Function("nothing"); err == nil || !strings.Contains(err.Error(), "cuModuleGetFunction nothing: CUDA_ERROR_NOT_FOUND") {
		t.Error(err)
	}
	f := must(r.m.Function("scale"))(t)
	if _, err := f.Prepare([3]int{1, 1, 1}, [3]int{1, 1, 1}, 0, 5); err == nil || !strings.Contains(err.Error(), "argument 0 of kernel scale is a int") {
		t.Error(err)
	}
	x := r.upload(1, 2)
	for name, shape := range map[string][3]int{"threads": {1, 2048, 0}, "grid": {0, 32, 0}, "shared memory": {1, 32, 64 << 10}} {
		l := must(f.Prepare([3]int{shape[0], 1, 1}, [3]int{shape[1], 1, 1}, shape[2], x, x, float32(1), float32(0), uint32(2)))(t)
		if err := r.s.Launch(l); err == nil || !strings.Contains(err.Error(), "cuLaunchKernel scale: CUDA_ERROR_INVALID_VALUE") {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
	}
	r.ok(f.SetDynamicShared(64 << 10))
	if v := must(f.Attr(AttrDynamicShared))(t); v != 64<<10 {
		t.Errorf("the limit of dynamic shared memory is %d", v)
	}
	l := must(f.Prepare([3]int{1, 1, 1}, [3]int{32, 1, 1}, 64<<10, x, x, float32(3), float32(1), uint32(2)))(t)
	defer l.Close()
	r.ok(r.s.Launch(l))
	r.want(x, 4, 7)
}

// Static shared memory counts towards what a block has unasked: whatever a kernel
// wants of dynamic shared memory is asked for when it is loaded.
func TestDynamicShared(t *testing.T) {
	dev, g := openEmulator(t, "")
	const bytes = 1 << 10
	k := named(`extern "C" __global__ void NAME(u8* out) {
  __shared__ u8 fixed[48 << 10];
  DYNAMIC_SHARED(u8, more);
  for (u32 i = threadIdx.x; i < 1024; i += blockDim.x) fixed[i] = (u8)i, more[i] = 1, out[i] = fixed[i] + more[i];
}
EXPORT(NAME)
`)
	k.Shared = bytes
	if err := g.load([]Kernel{k}); err != nil {
		t.Fatal(err)
	}
	f := g.functions[k.Name]
	if limit := must(f.Attr(AttrDynamicShared))(t); limit != bytes {
		t.Errorf("%d bytes may be asked for, want %d", limit, bytes)
	}
	m := must(dev.Alloc(bytes))(t)
	defer m.Free()
	l := must(f.Prepare([3]int{1, 1, 1}, [3]int{k.Threads, 1, 1}, k.Shared, m.(*memory).address()))(t)
	defer l.Close()
	got := make([]byte, bytes)
	if err := first(g.work.Launch(l), m.Read(got)); err != nil || got[7] != 8 {
		t.Errorf("%v, %v", got[:8], err)
	}
}

// Work is done when something waits for it, not before.
func TestOrder(t *testing.T) {
	r := newRig(t, emulated(t, nil), "streams.cu", false)
	other := must(r.dev.NewStream())(t)
	x, y, z := r.upload(1, 2, 3), r.upload(0, 0, 0), r.upload(0, 0, 0)
	r.ok(r.s.Synchronize())
	e := must(r.dev.NewEvent(true))(t)
	r.ok(r.s.Launch(r.prepare("scale", x, y, float32(2), float32(0), uint32(3))))
	r.ok(r.s.Record(e))

	// Another stream that does not wait reads what was there before.
	r.ok(other.Launch(r.prepare("scale", y, z, float32(1), float32(0), uint32(3))))
	r.ok(other.Synchronize())
	r.want(z, 0, 0, 0)

	r.ok(r.s.Launch(r.prepare("scale", x, y, float32(2), float32(0), uint32(3))))
	r.ok(r.s.Record(e))
	r.ok(other.Wait(e))
	r.ok(other.Launch(r.prepare("scale", y, z, float32(1), float32(0), uint32(3))))
	r.ok(other.Synchronize())
	r.want(z, 2, 4, 6)

	late := must(r.dev.NewEvent(true))(t)
	r.ok(r.s.Record(late))
	if _, err := late.Since(e); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_NOT_READY") {
		t.Errorf("the time of an event that is not reached: %v", err)
	}
	r.ok(late.Synchronize())
	if d, err := late.Since(e); err != nil || d < 0 {
		t.Errorf("%v, %v", d, err)
	}
	r.ok(errors.Join(e.Close(), late.Close(), other.Close()))
}

// Page-locked memory is read when the copy is done, other memory when Write returns.
func TestHostMemory(t *testing.T) {
	r := newRig(t, emulated(t, nil), "streams.cu", false)
	h := must(r.dev.AllocHost(8))(t)
	src := unsafe.Slice((*float32)(unsafe.Pointer(&h.Bytes()[0])), 2)
	p, q := r.upload(0, 0), r.upload(0, 0)
	pageable := []float32{5, 6}
	other := must(r.dev.NewStream())(t)
	copy(src, pageable)
	r.ok(r.s.Upload(p, h.Bytes()))
	r.ok(other.Write(q, bytesOf(pageable)))
	src[0], pageable[0] = 7, 7
	r.ok(other.Close())
	r.want(p, 7, 6)
	r.want(q, 5, 6)

	src[0] = 1
	r.ok(r.s.Download(h.Bytes(), p))
	if src[0] != 1 {
		t.Error("a copy to page-locked memory was done before anything waited for it")
	}
	r.ok(r.s.Synchronize())
	if src[0] != 7 {
		t.Error("a copy to page-locked memory was not done")
	}
	r.ok(r.s.Copy(q, p, 8))
	r.ok(r.s.Fill(p, 0, 4))
	r.want(p, 0, 6)
	r.want(q, 7, 6)
	r.ok(h.Free())
}

// Go's memory stays until the driver has read or written it, which it may do when
// the call has long returned.
func TestGoMemory(t *testing.T) {
	r := newRig(t, emulated(t, nil), "streams.cu", false)
	const size = 4 << 20
	p := must(r.dev.Alloc(size))(t)
	for name, do := range map[string]func(b []byte) error{
		"write": func(b []byte) error { return r.s.Write(p, b) },
		"read":  func(b []byte) error { return r.s.Read(b, p) },
	} {
		for range 100 { // what the copy waits for
			r.ok(r.s.Fill(p, 1, size))
		}
		var done atomic.Bool
		collected := make(chan bool)
		go func() {
			for !done.Load() {
				runtime.GC()
			}
			close(collected)
		}()
		var early atomic.Bool
		func() {
			b := make([]byte, size)
			runtime.AddCleanup(&b[0], func(struct{}) { early.CompareAndSwap(false, !done.Load()) }, struct{}{})
			r.ok(do(b))
		}()
		done.Store(true)
		<-collected
		if early.Load() {
			t.Errorf("%s: the memory was collected while the driver used it", name)
		}
	}
}

func TestStreamOrderedMemory(t *testing.T) {
	r := newRig(t, emulated(t, nil), "streams.cu", false)
	before, _, _ := r.dev.Memory()
	p := must(r.s.Alloc(1 << 20))(t)
	r.ok(r.s.Fill(p, 1, 1<<20))
	r.ok(r.s.Free(p))
	if unused, _, _ := r.dev.Memory(); unused != before-1<<20 {
		t.Errorf("%d bytes are free before the stream is done, want %d", unused, before-1<<20)
	}
	r.ok(r.s.Synchronize())
	if unused, _, _ := r.dev.Memory(); unused != before {
		t.Errorf("%d bytes are free, want %d", unused, before)
	}
}

// A diamond: x on the captured stream, 2x and 3x on two, their difference on
// the first again.
func (r *rig) diamond(x, a, b, y Ptr, shift float32, joined bool) (*Graph, error) {
	fork := must(r.dev.NewEvent(false))(r.t)
	join := must(r.dev.NewEvent(false))(r.t)
	other := must(r.dev.NewStream())(r.t)
	return r.s.Capture(func() error {
		r.ok(r.s.Launch(r.prepare("scale", x, x, float32(1), shift, uint32(2))))
		r.ok(r.s.Record(fork))
		r.ok(other.Wait(fork))
		r.ok(r.s.Launch(r.prepare("scale", x, a, float32(2), float32(0), uint32(2))))
		r.ok(other.Launch(r.prepare("scale", x, b, float32(3), float32(0), uint32(2))))
		r.ok(other.Record(join))
		if joined {
			r.ok(r.s.Wait(join))
		}
		r.ok(r.s.Launch(r.prepare("subtract", b, a, y, uint32(2))))
		return nil
	})
}

func TestGraph(t *testing.T) {
	for _, seed := range []int{0, 1, 2, 3} {
		r := newRig(t, emulated(t, map[string]int{"seed": seed}), "streams.cu", false)
		x, a, b, y := r.upload(1, 2), r.upload(0, 0), r.upload(0, 0), r.upload(0, 0)
		g := must(r.diamond(x, a, b, y, 0, true))(t)
		r.want(y, 0, 0) // capturing does nothing
		e := must(g.Instantiate())(t)
		r.ok(r.s.LaunchGraph(e))
		r.want(y, 1, 2)

		// New arguments, the same structure.
		r.ok(g.Close())
		g = must(r.diamond(x, a, b, y, 10, true))(t)
		r.ok(e.Update(g))
		r.ok(r.s.LaunchGraph(e))
		r.want(y, 11, 12)
		r.ok(r.s.LaunchGraph(e))
		r.want(y, 21, 22)

		small := must(r.s.Capture(func() error { return r.s.Fill(y, 0, 8) }))(t)
		if err := e.Update(small); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE") {
			t.Errorf("an update to another structure: %v", err)
		}
		r.ok(errors.Join(e.Close(), g.Close(), small.Close()))
	}
}

// In checked mode, kernels that might run at once must not touch what one of them
// writes.
func TestBranchesRace(t *testing.T) {
	for _, c := range []struct {
		name string
		same func(x, a, b Ptr) (Ptr, Ptr) // what the branches write
	}{
		{"both write", func(x, a, b Ptr) (Ptr, Ptr) { return a, a }},
		{"one writes what the other reads", func(x, a, b Ptr) (Ptr, Ptr) { return a, x }},
		{"the other one", func(x, a, b Ptr) (Ptr, Ptr) { return x, b }},
	} {
		r := newRig(t, emulated(t, map[string]int{"checked": 1}), "streams.cu", true)
		x, a, b, y := r.upload(1, 2), r.upload(0, 0), r.upload(0, 0), r.upload(0, 0)
		p, q := c.same(x, a, b)
		e := must(must(r.diamond(x, p, q, y, 0, true))(t).Instantiate())(t)
		err := first(r.s.LaunchGraph(e), r.s.Synchronize())
		if err == nil || !strings.Contains(err.Error(), "race in global memory between two branches of a graph, at byte 0: kernel scale, and ") {
			t.Errorf("%s: %v", c.name, err)
		}
		r.ok(r.dev.lib.SetEmulator("reset", 0))
		r.ok(e.Close())
	}
}

func TestCaptureMistakes(t *testing.T) {
	r := newRig(t, emulated(t, nil), "streams.cu", false)
	x, a, b, y := r.upload(1, 2), r.upload(0, 0), r.upload(0, 0), r.upload(0, 0)
	if _, err := r.diamond(x, a, b, y, 0, false); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_STREAM_CAPTURE_UNJOINED") {
		t.Errorf("work that is not joined: %v", err)
	}
	if _, err := r.s.Capture(r.s.Synchronize); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED") {
		t.Errorf("a wait in a capture: %v", err)
	}
	boom := errors.New("boom")
	if _, err := r.s.Capture(func() error { return boom }); err != boom {
		t.Errorf("a function that fails: %v", err)
	}
	r.ok(r.s.Launch(r.prepare("scale", x, y, float32(2), float32(0), uint32(2)))) // the stream works as before
	r.want(y, 2, 4)
}
