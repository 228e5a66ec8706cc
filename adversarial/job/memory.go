package job

import (
	"time"

	"temper/adversarial/run"
	"temper/engine"
)

// memoryEvery is how often a training asks how much of its device's memory is in
// use.
const memoryEvery = 5 * time.Second

// deviceMemory is the memory of the device, in bytes: what is in use, by whomever,
// and all there is. A device without memory of its own has none.
func (s *session) deviceMemory() (used, total int, err error) {
	m, ok := s.dev.Driver.(engine.Meter)
	if !ok {
		return 0, 0, nil
	}
	unused, total, err := m.Memory()
	return total - unused, total, err
}

// memory is what a step's record says of the device's memory, every few seconds.
func (t *trainer) memory() ([]run.Field, error) {
	if time.Since(t.weighed) < memoryEvery {
		return nil, nil
	}
	t.weighed = time.Now()
	used, total, err := t.deviceMemory()
	if err != nil || total == 0 {
		return nil, err
	}
	return []run.Field{{Name: run.MemoryUsed, Value: float64(used)}}, nil
}
