//go:build unix

package kernel

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"temper/engine/rng"
)

// The assembly interleaves as its Go loop does.
func TestInterleave(t *testing.T) {
	if !avx2.supported {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "avx2") {
			t.Fatal("TEMPER_REQUIRE lists avx2, but it was not found")
		}
		t.Skip("no AVX2")
	}
	s := rng.NewStream(1, "interleave", 0)
	for _, panels := range []int{1, 2, 5} {
		const stride = 3 * Lanes
		even, odd := randomBF16(s, panels*Lanes), randomBF16(s, panels*Lanes)
		fence := newFence[float32](t)
		size := (panels-1)*stride + Lanes
		want, got := fence.new(size), fence.new(size)
		interleavePairs(panels, want, stride, even, odd)
		interleaveAVX2(panels, got, stride, fencedCopy(fence, even), fencedCopy(fence, odd))
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%d panels: word %d is %x, want %x", panels, i, math.Float32bits(got[i]), math.Float32bits(want[i]))
			}
		}
	}
}
