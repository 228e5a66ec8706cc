//go:build cgo && !windows

package cuda

/*
#include "driver.h"
*/
import "C"

import (
	"time"
	"unsafe"
)

// Stream is a queue of work, done in order. It does not wait for the legacy
// default stream.
type Stream struct {
	dev *Device
	h   C.handle
}

// NewStream makes a stream.
func (d *Device) NewStream() (*Stream, error) {
	const nonBlocking = 1
	s := &Stream{dev: d}
	return s, d.check("cuStreamCreate", C.call_cuStreamCreate(d.c, &s.h, nonBlocking))
}

// Synchronize waits until all work of the stream is done, and reports the
// failure of any that failed.
func (s *Stream) Synchronize() error {
	return s.dev.check("cuStreamSynchronize", C.call_cuStreamSynchronize(s.dev.c, s.h))
}

// Close destroys the stream; work on it is still done.
func (s *Stream) Close() error {
	return s.dev.check("cuStreamDestroy", C.call_cuStreamDestroy_v2(s.dev.c, s.h))
}

// Event marks a place in a stream.
type Event struct {
	dev *Device
	h   C.handle
}

// NewEvent makes an event. One without timing is cheaper to wait for.
func (d *Device) NewEvent(timing bool) (*Event, error) {
	flags := C.uint(2) // CU_EVENT_DISABLE_TIMING
	if timing {
		flags = 0
	}
	e := &Event{dev: d}
	return e, d.check("cuEventCreate", C.call_cuEventCreate(d.c, &e.h, flags))
}

// Record puts the event behind what precedes on the stream.
func (s *Stream) Record(e *Event) error {
	return s.dev.check("cuEventRecord", C.call_cuEventRecord(s.dev.c, e.h, s.h))
}

// Wait lets what follows on the stream wait for an event, as last recorded.
func (s *Stream) Wait(e *Event) error {
	return s.dev.check("cuStreamWaitEvent", C.call_cuStreamWaitEvent(s.dev.c, s.h, e.h, 0))
}

// Synchronize lets the host wait for the event.
func (e *Event) Synchronize() error {
	return e.dev.check("cuEventSynchronize", C.call_cuEventSynchronize(e.dev.c, e.h))
}

// Since is the time from an earlier event to e; both have been reached.
func (e *Event) Since(earlier *Event) (time.Duration, error) {
	var ms C.float
	err := e.dev.check("cuEventElapsedTime", C.call_cuEventElapsedTime(e.dev.c, &ms, earlier.h, e.h))
	return time.Duration(float64(ms) * float64(time.Millisecond)), err
}

// Close destroys the event.
func (e *Event) Close() error {
	return e.dev.check("cuEventDestroy", C.call_cuEventDestroy_v2(e.dev.c, e.h))
}

// Graph is captured work.
type Graph struct {
	dev *Device
	h   C.handle
}

// Capture runs fn and collects, instead of doing it, the work that fn puts on
// the stream, and on others that join it by events and are joined again.
func (s *Stream) Capture(fn func() error) (*Graph, error) {
	const relaxed = 2 // the calls come from any thread
	if err := s.dev.check("cuStreamBeginCapture", C.call_cuStreamBeginCapture_v2(s.dev.c, s.h, relaxed)); err != nil {
		return nil, err
	}
	failed := fn()
	g := &Graph{dev: s.dev}
	err := s.dev.check("cuStreamEndCapture", C.call_cuStreamEndCapture(s.dev.c, s.h, &g.h))
	if failed != nil {
		if err == nil {
			g.Close()
		}
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

// Close destroys the graph; what was instantiated of it stays.
func (g *Graph) Close() error {
	return g.dev.check("cuGraphDestroy", C.call_cuGraphDestroy(g.dev.c, g.h))
}

// Exec is a graph that can be launched.
type Exec struct {
	dev *Device
	h   C.handle
}

// Instantiate makes a graph ready to launch.
func (g *Graph) Instantiate() (*Exec, error) {
	e := &Exec{dev: g.dev}
	return e, g.dev.check("cuGraphInstantiate", C.call_cuGraphInstantiateWithFlags(g.dev.c, &e.h, g.h, 0))
}

// Update takes over the arguments of another graph of the same structure.
func (e *Exec) Update(g *Graph) error {
	var result [4]C.ulonglong // CUgraphExecUpdateResultInfo: an enumeration and two handles
	return e.dev.check("cuGraphExecUpdate", C.call_cuGraphExecUpdate_v2(e.dev.c, e.h, g.h, unsafe.Pointer(&result)))
}

// LaunchGraph does the graph's work behind what precedes on the stream.
func (s *Stream) LaunchGraph(e *Exec) error {
	return s.dev.check("cuGraphLaunch", C.call_cuGraphLaunch(s.dev.c, e.h, s.h))
}

// Close destroys the executable graph.
func (e *Exec) Close() error {
	return e.dev.check("cuGraphExecDestroy", C.call_cuGraphExecDestroy(e.dev.c, e.h))
}
