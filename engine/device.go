package engine

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/plan"
)

// Info describes a device.
type Info struct {
	Spec   string // what Open takes: "cpu", "cuda:0"
	Name   string // the processor's name
	Detail string // what a bug report should hold: instruction sets, memory, versions
	// Precisions are those that programs can be compiled for, the most exact first.
	Precisions []graph.Precision `json:"-"`
}

// PrecisionNames are Precisions as the command line has them.
func (i Info) PrecisionNames() []string {
	var names []string
	for _, p := range i.Precisions {
		names = append(names, p.String())
	}
	return names
}

// DeviceOptions are the choices made when a device is opened.
type DeviceOptions struct {
	// Threads is the number of workers on a CPU; 0 means all processors that Go
	// may use. Results do not depend on it.
	Threads int
	// Note is told, a line at a time, what the device does on its own account, such
	// as choosing between kernels. nil: nobody listens.
	Note func(line string)
}

// Backend is what a back end registers.
type Backend interface {
	// Devices lists what can be opened, or says in one line why nothing can.
	Devices() ([]Info, error)
	// Open opens the device of that spec.
	Open(spec string, o DeviceOptions) (Driver, error)
}

// Driver is a device that a back end has opened. Calls come from one goroutine
// at a time.
type Driver interface {
	Info() Info
	// Target is what the compiler should do for this device at a precision. Its
	// error says what the device lacks for that, and what to do about it.
	Target(p graph.Precision) (passes.Target, error)
	// Alloc returns zeroed device memory.
	Alloc(bytes int) (Memory, error)
	// Load makes a plan ready to run.
	Load(p *plan.Plan) (Code, error)
	Close() error
}

// Measurer is a Driver that can measure its arithmetic: float32 multiply-adds
// from registers, two operations each, per second. It takes about a tenth of a
// second.
type Measurer interface {
	PeakFLOPs() (float64, error)
}

// Waiter is a Driver whose programs run on after Run has returned.
type Waiter interface {
	// Wait returns when everything that was started is done.
	Wait() error
}

// Tuner is a Driver that chooses between kernels, by how long they take on the
// device at hand. What is summed in which order depends on these choices, so a run
// that is gone on with has to make those that it began with.
type Tuner interface {
	// Recall has the programs that are loaded from now on use the choices of a
	// record. It is an error, and nothing else changes, if the record has none for
	// this kind of device.
	Recall(record []byte) error
	// Record adds the choices of all programs so far to a record, which may be
	// empty.
	Record(old []byte) []byte
	// OnChoice sets what is called whenever there are new choices, and calls it if
	// there are some.
	OnChoice(fn func() error) error
}

// Meter is a Driver whose device has memory of its own.
type Meter interface {
	// Memory is the device's memory that is free, and all there is, in bytes.
	Memory() (unused, total int, err error)
}

// Memory is device memory.
type Memory interface {
	Write(src []byte) error // from its start
	Read(dst []byte) error
	Free()
}

// Code is a loaded plan. Buffers are named by their index in the plan.
type Code interface {
	// BindState ties a state buffer to its memory, once.
	BindState(buffer int, m Memory)
	// Feed sets an input buffer's host memory for the next runs. The memory must
	// stay as it is until Run returns; when it is read in between is the
	// device's choice.
	Feed(buffer int, host []byte)
	// SetScalar sets a four-byte entry of the step block.
	SetScalar(buffer int, bits uint32)
	// Run runs the plan once. It may return before that is done: Fetch waits.
	Run() error
	// Fetch returns host memory with a buffer's content as of the last Run;
	// the next Run may change it.
	Fetch(buffer int) ([]byte, error)
	Close()
}

// Lagging is Code whose runs may go on when Run has returned, and a run may be
// started before the one before it is done.
type Lagging interface {
	// FetchPast is Fetch, for an output of one element, as of the last run but
	// back, which is 0 or 1. It waits for that run, and for none behind it.
	FetchPast(buffer, back int) ([]byte, error)
}

var (
	backendMu sync.Mutex
	backends  = map[string]Backend{}
)

// preference is the order in which "auto" looks for a device.
var preference = []string{"cuda", "cpu"}

// Register makes a back end available under the part of a spec before the
// colon. Back ends call it from init.
func Register(kind string, b Backend) {
	backendMu.Lock()
	defer backendMu.Unlock()
	if backends[kind] != nil {
		panic("BUG: engine: two back ends named " + kind)
	}
	backends[kind] = b
}

func kinds() []string {
	var out []string
	for k := range backends {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Device is an open device.
type Device struct {
	Driver
	// Why says how the device was chosen, for people.
	Why string
}

// Open opens a device by its spec: "cpu", "cuda:0", …, or "auto": the first
// CUDA device if there is one, else the CPU.
func Open(spec string, o DeviceOptions) (*Device, error) {
	backendMu.Lock()
	defer backendMu.Unlock()
	if spec != "auto" {
		kind, _, _ := strings.Cut(spec, ":")
		b := backends[kind]
		if b == nil {
			return nil, fmt.Errorf("no device %q: this build knows auto, %s", spec, strings.Join(kinds(), ", "))
		}
		d, err := b.Open(spec, o)
		if err != nil {
			return nil, err
		}
		return &Device{Driver: d, Why: "as asked"}, nil
	}
	var reasons []string
	for _, kind := range preference {
		b := backends[kind]
		if b == nil {
			continue
		}
		infos, err := b.Devices()
		if err != nil || len(infos) == 0 {
			reasons = append(reasons, fmt.Sprint(err))
			continue
		}
		d, err := b.Open(infos[0].Spec, o)
		if err != nil {
			return nil, err
		}
		why := "the first choice of auto"
		if len(reasons) > 0 {
			why = strings.Join(reasons, "; ") + ": using the " + strings.ToUpper(kind)
		}
		return &Device{Driver: d, Why: why}, nil
	}
	return nil, fmt.Errorf("no device at all: import a back end (temper/engine/cpu)")
}

// Devices lists all devices of all back ends, and for each back end without
// one the reason.
func Devices() (infos []Info, missing []error) {
	backendMu.Lock()
	defer backendMu.Unlock()
	for _, k := range kinds() {
		is, err := backends[k].Devices()
		if err != nil {
			missing = append(missing, err)
		}
		infos = append(infos, is...)
	}
	return infos, missing
}
