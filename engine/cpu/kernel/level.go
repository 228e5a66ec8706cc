package kernel

import (
	"fmt"
	"os"
	"strings"

	"temper/engine/rng"
)

// Float is an element type of the arithmetic kernels.
type Float interface{ float32 | float64 }

// level is one complete set of kernels.
type level struct {
	name      string
	supported bool // by this processor
	f32       *micro[float32]
	f64       *micro[float64]
	v32       *vector[float32]
	v64       *vector[float64]
	words     func(dst []uint32, d rng.Draw, first uint32)
	columns   columns
	chain     func(first *ChainStep, slots **float32, n int)
	halves    halves
	pairs     *pairs           // nil: no products of bf16
	peak      func(rounds int) // of 96 multiply-adds each
}

var portable = &level{
	name:      "portable",
	supported: true,
	f32:       portableMicro[float32](),
	f64:       portableMicro[float64](),
	v32:       portableVector[float32](),
	v64:       portableVector[float64](),
	words:     words,
	columns:   portableColumns,
	chain:     portableChain,
	halves:    portableHalves,
	pairs:     portablePairs,
	peak:      peakPortable,
}

// active is the set that new plans and element-wise calls use.
var active, levelErr = choose(os.Getenv("TEMPER_CPU"))

// choose returns the best supported level that does not exceed the wanted
// one; an empty name wants the best.
func choose(want string) (*level, error) {
	var names []string
	for i, l := range levels {
		names = append(names, l.name)
		if want != "" && want != l.name {
			continue
		}
		for !levels[i].supported {
			i++ // ends at portable, which always is
		}
		return levels[i], nil
	}
	l, _ := choose("")
	return l, fmt.Errorf("TEMPER_CPU=%q is not a level of this build: choose %s, or unset it", want, strings.Join(names, " or "))
}

// Level names the set of kernels in use: "amx", "avx512", "avx2" or "portable". It is chosen
// once, at start: the best that the processor supports, or a lower one named
// by the environment variable TEMPER_CPU.
func Level() string { return active.name }

// LevelError reports a TEMPER_CPU that names no level of this build, in which
// case Level is the processor's best.
func LevelError() error { return levelErr }

// microFor returns the active level's matrix kernels for T.
func microFor[T Float]() *micro[T] {
	if m, ok := any(active.f32).(*micro[T]); ok {
		return m
	}
	return any(active.f64).(*micro[T])
}
