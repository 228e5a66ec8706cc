package cpu

import (
	"time"

	"temper/engine/cpu/kernel"
)

// PeakFLOPs implements engine.Measurer: the best of several short bursts on all
// workers, since other programs only ever slow one down.
func (d *device) PeakFLOPs() (float64, error) {
	const rounds = 20
	best := 0.0
	burst := func(_, _ int) { kernel.Burn() }
	for range rounds {
		began := time.Now()
		d.pool.Run(d.pool.Workers(), burst)
		best = max(best, float64(d.pool.Workers())*kernel.BurnFLOPs/time.Since(began).Seconds())
	}
	return best, nil
}
