package graph

import (
	"fmt"
	"runtime"
	"strings"
)

// Err is the first error made while building, with the file and line of the
// code that asked for the operation; nil if there was none.
func (g *Graph) Err() error { return g.err }

// Fail makes err the graph's error if it has none yet. Code that builds graphs
// (layers, attacks) reports its own bad arguments through it.
func (g *Graph) Fail(err error) { g.fail(err) }

func (g *Graph) failf(format string, args ...any) { g.fail(fmt.Errorf(format, args...)) }

func (g *Graph) fail(err error) {
	if g.err == nil {
		g.err = fmt.Errorf("%s: %w", caller(), err)
	}
}

// caller finds the line outside the engine that led here.
func caller() string {
	pc := make([]uintptr, 32)
	frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc)])
	for {
		f, more := frames.Next()
		inside := strings.Contains(f.Function, "temper/engine/") && !strings.HasSuffix(f.File, "_test.go")
		if !inside && f.File != "" {
			return fmt.Sprintf("%s:%d", f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line)
		}
		if !more {
			return "unknown caller"
		}
	}
}
