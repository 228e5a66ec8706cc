package bench

import (
	"fmt"

	"temper/engine"
	"temper/engine/plan"
)

// Ceilings are what a device can do at most, by the best that was seen in a run.
type Ceilings struct {
	FLOPs float64 // a second, two for a multiply-add
	Bytes float64 // a second, read or written in memory
}

// probes measure what a device can do at most.
type probes struct {
	dev     *engine.Device
	peer    *Peer
	memory  *program
	product *program // nil: the driver measures its arithmetic itself
}

// What is measured of memory and, where the driver has no ceiling of its own, of
// arithmetic: both more than any cache holds.
var (
	memoryProbe  = Spec{Kind: "copy", Size: 32 << 20}
	productProbe = Spec{Kind: "matmul", Size: 8192}
)

// openProbes returns nil for the emulator, whose times say nothing.
func openProbes(dev *engine.Device, o Options) (*probes, error) {
	if dev.Info().Spec == "emulator" {
		return nil, nil
	}
	p := &probes{dev: dev, peer: o.Peer}
	var err error
	if p.memory, err = prepare(dev, memoryProbe, o.Compile); err != nil {
		return nil, fmt.Errorf("the memory's ceiling: %w", err)
	}
	if _, ok := dev.Driver.(engine.Measurer); ok {
		return p, nil
	}
	if p.product, err = prepare(dev, productProbe, o.Compile); err != nil {
		p.close()
		return nil, fmt.Errorf("the arithmetic's ceiling: %w", err)
	}
	return p, nil
}

func (p *probes) close() {
	for _, prog := range []*program{p.memory, p.product} {
		if prog != nil {
			prog.close()
		}
	}
}

// measure raises the ceilings to what is reached now: other programs, and a
// chip that is not warm yet, only ever lower it. Where there is no ceiling of the
// driver's, that of arithmetic is the best of temper's product and the peer's.
func (p *probes) measure(to *Ceilings) error {
	for range 3 {
		t, err := runOnce(p.dev, p.memory)
		if err != nil {
			return err
		}
		to.Bytes = max(to.Bytes, 2*4*float64(memoryProbe.Size)/t)
	}
	if m, ok := p.dev.Driver.(engine.Measurer); ok {
		flops, err := m.PeakFLOPs()
		to.FLOPs = max(to.FLOPs, flops)
		return err
	}
	for range 3 {
		t, err := runOnce(p.dev, p.product)
		if err != nil {
			return err
		}
		to.FLOPs = max(to.FLOPs, p.product.flops/t)
	}
	return p.measurePeer(to)
}

func (p *probes) measurePeer(to *Ceilings) error {
	if p.peer == nil {
		return nil
	}
	const variant = "nchw" // of a product, which has no other
	if _, err := p.peer.prepare(productProbe, variant); err != nil {
		return err
	}
	for range 3 {
		t, err := p.peer.run(variant)
		if err != nil {
			return err
		}
		to.FLOPs = max(to.FLOPs, p.product.flops/t)
	}
	return nil
}

// traffic is what the kernels of a plan read and write in one run, in bytes,
// whether it comes from memory or from a cache.
func traffic(p *plan.Plan, steps []plan.Step) (bytes float64) {
	for i := range steps {
		s := &steps[i]
		if s.Loop != nil {
			bytes += float64(s.Loop.Node.Attrs().Trips) * traffic(p, s.Loop.Steps)
			continue
		}
		c := p.Cost(s)
		bytes += float64(c.Read + c.Written)
	}
	return bytes
}
