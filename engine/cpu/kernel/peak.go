package kernel

import "runtime"

// A burst is short enough to be preempted soon and long enough to be timed.
const (
	burstRounds = 1 << 16
	peakLanes   = 96 // multiply-adds in a round, at every level
)

// BurnFLOPs is what one call of Burn computes: a multiply-add counts as two.
const BurnFLOPs = burstRounds * peakLanes * 2

// Burn does multiply-adds on registers, as fast as the active level can: what
// the matrix kernels are measured against.
func Burn() { active.peak(burstRounds) }

func peakPortable(rounds int) {
	a := [8]float32{1, 1, 1, 1, 1, 1, 1, 1}
	x, y := a[0]*0.999, a[1]*0.001
	for range rounds {
		for range peakLanes / len(a) {
			for i := range a {
				a[i] = a[i]*x + y
			}
		}
	}
	runtime.KeepAlive(a)
}
