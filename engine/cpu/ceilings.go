package cpu

import (
	"time"

	"temper/engine"
	"temper/engine/cpu/kernel"
)

// Ceilings implements engine.Measurer: the best of several short bursts on all
// workers, since other programs only ever slow one down.
func (d *device) Ceilings() (engine.Ceilings, error) {
	const rounds = 20
	best := 0.0
	burst := func(_, _ int) { kernel.Burn() }
	for range rounds {
		began := time.Now()
		d.pool.Run(d.pool.Workers(), burst)
		best = max(best, float64(d.pool.Workers())*kernel.BurnFLOPs/time.Since(began).Seconds())
	}
	return engine.Ceilings{FLOPs: best}, nil
}
