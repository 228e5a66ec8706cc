//go:build cgo && !windows

package cuda

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"temper/cuda/emulator"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/plan"
)

func init() {
	engine.Register("cuda", backend{})
	engine.Register("emulator", emulatorBackend{})
}

// backend opens GPUs: "cuda:0", "cuda:1", …; "cuda" is the first.
type backend struct{}

// Devices implements engine.Backend.
func (backend) Devices() ([]engine.Info, error) {
	lib, err := Open("")
	if err != nil {
		return nil, err
	}
	devices, err := lib.Devices()
	if err != nil {
		return nil, err
	}
	var infos []engine.Info
	for i := range devices {
		if unusable := devices[i].usable(); unusable != nil {
			err = unusable
			continue
		}
		infos = append(infos, lib.info(fmt.Sprintf("cuda:%d", i), &devices[i]))
	}
	if len(infos) > 0 {
		return infos, nil
	}
	if err == nil {
		err = fmt.Errorf("the CUDA driver %s finds no device", lib.Path)
	}
	return nil, err
}

// Open implements engine.Backend.
func (backend) Open(spec string, o engine.DeviceOptions) (engine.Driver, error) {
	_, number, found := strings.Cut(spec, ":")
	if !found {
		number = "0"
	}
	ordinal, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("no device %q: CUDA devices are cuda:0, cuda:1, …", spec)
	}
	lib, err := Open("")
	if missing := (*NoDriverError)(nil); errors.As(err, &missing) {
		err = fmt.Errorf("%w: install the NVIDIA driver, or take the device cpu", err)
	}
	if err != nil {
		return nil, fmt.Errorf("no device %q: %w", spec, err)
	}
	g, err := openGPU(lib, ordinal, fmt.Sprintf("cuda:%d", ordinal), nvrtcCompiler)
	if err != nil {
		return nil, err
	}
	if g.tuner.note = o.Note; !tuningOff() {
		g.tuner.clock = g.measure
	}
	return g, nil
}

// emulatorBackend opens the emulator, in the mode that $TEMPER_EMULATOR asks
// for: a list of emulator_set's options such as "checked,seed=3,memory=64".
type emulatorBackend struct{}

// Devices implements engine.Backend. It does not compile the emulator.
func (emulatorBackend) Devices() ([]engine.Info, error) {
	if err := emulator.Available(); err != nil {
		return nil, err
	}
	return []engine.Info{{Spec: "emulator", Name: "emulated GPU", Detail: "the CUDA kernels on the CPU, for tests", Precisions: precisions}}, nil
}

// Open implements engine.Backend.
func (emulatorBackend) Open(spec string, o engine.DeviceOptions) (engine.Driver, error) {
	if spec != "emulator" {
		return nil, fmt.Errorf("no device %q: the emulator is \"emulator\"", spec)
	}
	path, err := emulator.Library()
	if err != nil {
		return nil, err
	}
	lib, err := Open(path)
	if err != nil {
		return nil, err
	}
	checked, err := lib.emulate(os.Getenv("TEMPER_EMULATOR"))
	if err != nil {
		return nil, err
	}
	if lib, err = Open(path); err != nil { // it may now call itself old
		return nil, err
	}
	g, err := openGPU(lib, 0, spec, func(*gpu) (compileFunc, error) { return emulatorCompiler(checked), nil })
	if err != nil {
		return nil, err
	}
	g.tuner.note = o.Note
	return g, nil
}

// emulate sets the emulator's options, and says whether it checks.
func (l *Library) emulate(options string) (checked bool, err error) {
	for _, o := range strings.FieldsFunc(options, func(r rune) bool { return r == ',' }) {
		name, text, given := strings.Cut(o, "=")
		value := 1
		if given {
			if value, err = strconv.Atoi(text); err != nil {
				return false, fmt.Errorf("TEMPER_EMULATOR: %q is no number", text)
			}
		}
		if err := l.SetEmulator(name, value); err != nil {
			return false, fmt.Errorf("TEMPER_EMULATOR: %w", err)
		}
		checked = checked || name == "checked" && value != 0
	}
	return checked, nil
}

func (l *Library) info(spec string, d *DeviceInfo) engine.Info {
	return engine.Info{Spec: spec, Name: d.Name, Detail: fmt.Sprintf("sm_%d, %d multiprocessors, %.1f GiB, driver for CUDA %s",
		d.Capability, d.SMs, float64(d.Memory)/(1<<30), version(l.Version)), Precisions: precisions}
}

// precisions are those of every GPU that can be used.
var precisions = []graph.Precision{graph.PrecisionFloat32, graph.PrecisionTF32x3, graph.PrecisionTF32, graph.PrecisionBF16}

// gpu is an open device: engine.Driver. All runs of all programs are done in the
// order in which they are given, on one stream; a second one brings inputs, and
// a third has the branches beside.
type gpu struct {
	*Device
	spec      string
	compiler  func(*gpu) (compileFunc, error)
	compile   compileFunc // nil before the first use
	work      *Stream
	inputs    *Stream
	beside    *Stream
	forked    *Event // beside may begin
	joined    *Event // it has ended
	modules   []*Module
	functions map[string]*Function // by the kernel's name
	noGraph   bool                 // launch step by step instead of as a graph
	early     bool                 // kernels may begin before those before them have ended
	without   []string             // ways of computing contractions that the user left out
	arena     arena                // of all programs, which run one at a time
	programs  map[*program]bool    // that are loaded
	compiled  int                  // kernels compiled or found in the cache
	captured  int                  // graphs instantiated
	tuner     tuner
}

// earlyDriver is the first whose graphs keep that a kernel may begin early.
const earlyDriver = 12030

// openGPU takes a device into use.
func openGPU(lib *Library, ordinal int, spec string, compiler func(*gpu) (compileFunc, error)) (*gpu, error) {
	d, err := lib.Device(ordinal)
	if err != nil {
		return nil, err
	}
	g := &gpu{Device: d, spec: spec, compiler: compiler, functions: map[string]*Function{}, programs: map[*program]bool{}, noGraph: os.Getenv("TEMPER_CUDA_GRAPH") == "off",
		early: d.Info.Capability >= 90 && lib.Version >= earlyDriver && os.Getenv("TEMPER_CUDA_EARLY") != "off",
		tuner: tuner{used: map[string]Choice{}, times: map[string]map[string]float64{}}}
	if g.without, err = leftOut(); err != nil {
		d.Close()
		return nil, err
	}
	for _, s := range []**Stream{&g.work, &g.inputs, &g.beside} {
		if *s, err = d.NewStream(); err != nil {
			d.Close()
			return nil, err
		}
	}
	for _, e := range []**Event{&g.forked, &g.joined} {
		if *e, err = d.NewEvent(false); err != nil {
			d.Close()
			return nil, err
		}
	}
	return g, nil
}

// Info implements engine.Driver.
func (g *gpu) Info() engine.Info { return g.lib.info(g.spec, &g.Device.Info) }

// Target implements engine.Driver.
func (g *gpu) Target(p graph.Precision) (passes.Target, error) { return Target(p), nil }

// Wait implements engine.Waiter.
func (g *gpu) Wait() error { return first(g.inputs.Synchronize(), g.work.Synchronize()) }

// Close implements engine.Driver.
func (g *gpu) Close() error {
	errs := []error{g.work.Synchronize(), g.inputs.Synchronize()}
	for _, m := range g.modules {
		errs = append(errs, m.Close())
	}
	errs = append(errs, g.forked.Close(), g.joined.Close(), g.work.Close(), g.inputs.Close(), g.beside.Close(), g.Device.Close())
	return first(errs...)
}

// first is the first error: once a kernel has failed, every call reports it.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// memory is engine.Memory.
type memory struct {
	gpu   *gpu
	at    Ptr
	bytes int
}

// Alloc implements engine.Driver. It is for states, whose size is the model's.
func (g *gpu) Alloc(bytes int) (engine.Memory, error) {
	p, err := g.Device.Alloc(max(bytes, 1))
	if failed := (*Error)(nil); errors.As(err, &failed) && failed.Code == outOfMemory {
		err = fmt.Errorf("%w: no batch would fit; take a smaller model, or a device with more memory", err)
	}
	if err != nil {
		return nil, err
	}
	return &memory{g, p, bytes}, g.work.Fill(p, 0, max(bytes, 1))
}

func (m *memory) address() Ptr { return m.at }

// Write implements engine.Memory. It waits for the programs that run.
func (m *memory) Write(src []byte) error { return m.gpu.work.Write(m.at, src) }

// Read implements engine.Memory. It waits for the programs that run.
func (m *memory) Read(dst []byte) error { return m.gpu.work.Read(dst, m.at) }

// Free implements engine.Memory.
func (m *memory) Free() {
	// Whatever fails here has failed before, or will when the device is next used.
	_ = first(m.gpu.work.Synchronize(), m.gpu.Device.Free(m.at))
}

// Adopt makes device memory that others allocated in the device's primary
// context, by another library in the process, memory for engine.State.Adopt.
// It starts at a multiple of 16 bytes, and stays theirs: they free it, when no
// program uses it any more. What others do on streams of their own and what programs do is not ordered: wait with
// their means before a program runs, and with Synchronize before they go on.
func Adopt(dev *engine.Device, p Ptr, bytes int) (engine.Memory, error) {
	g, ok := dev.Driver.(*gpu)
	if !ok {
		return nil, notCUDA(dev)
	}
	if p%16 != 0 {
		return nil, fmt.Errorf("device memory at %#x: want a multiple of 16", uint64(p))
	}
	return adopted{&memory{g, p, bytes}}, nil
}

// Synchronize waits until a CUDA device has done what its programs are to do.
func Synchronize(dev *engine.Device) error {
	g, ok := dev.Driver.(*gpu)
	if !ok {
		return notCUDA(dev)
	}
	return g.work.Synchronize()
}

func notCUDA(dev *engine.Device) error {
	return fmt.Errorf("device %s is no CUDA device", dev.Info().Spec)
}

// adopted is memory that is not the device's to free.
type adopted struct{ *memory }

// Free implements engine.Memory.
func (adopted) Free() {}

// Load implements engine.Driver.
func (g *gpu) Load(p *plan.Plan) (engine.Code, error) {
	if err := g.tune(p); err != nil {
		return nil, err
	}
	of, all, err := kernelsOf(p, g.target())
	if err != nil {
		return nil, err
	}
	c, err := newProgram(g, p, of) // first: it may not fit
	if err != nil {
		return nil, err
	}
	if err := g.load(all); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
