package bench

import (
	"fmt"
	"slices"
	"time"

	"temper/engine"
)

// Options say how much is measured.
type Options struct {
	Budget   time.Duration // for each case, preparation not counted
	Compile  engine.Options
	Peer     *Peer    // nil: none
	Variants []string // of the peer
}

// Times are the times of one runner's steps, in seconds, ascending.
type Times []float64

// Best is the shortest: other programs on the machine only ever add.
func (t Times) Best() float64 { return t[0] }

// Median is the middle one.
func (t Times) Median() float64 { return t[len(t)/2] }

// Interval holds the median with a confidence of about 95 %: order statistics,
// without a guess at the distribution.
func (t Times) Interval() (lo, hi float64) {
	n := len(t)
	// The number of times below the median is binomial(n, ½): its 95 % are within
	// 0.98·√n of n/2.
	k := 0
	for k+1 <= n/2 && float64((n-2*(k+1))*(n-2*(k+1))) > 0.98*0.98*4*float64(n) {
		k++
	}
	return t[k], t[n-1-k]
}

// Result is what was measured of one case.
type Result struct {
	Name   string           `json:"name"`
	Times  Times            `json:"seconds"`
	Images int              `json:"images,omitempty"` // of a training step
	FLOPs  float64          `json:"flops"`            // of the contractions, as defined
	Bytes  float64          `json:"bytes"`            // that its kernels read and write, in memory or a cache
	Memory int              `json:"memory_bytes"`     // that the program holds beside its state
	Peer   map[string]Times `json:"peer,omitempty"`   // by variant
	// Skipped says why a variant of the peer has no times.
	Skipped map[string]string `json:"skipped,omitempty"`
}

// BestPeer is the variant with the shortest median; "" without a peer.
func (r *Result) BestPeer() string {
	best := ""
	for _, v := range Variants {
		if t := r.Peer[v]; t != nil && (best == "" || t.Median() < r.Peer[best].Median()) {
			best = v
		}
	}
	return best
}

// Measure runs one case on the device, in turn with the peer's variants, until
// the budget is spent: at least three times each.
func Measure(dev *engine.Device, s Spec, o Options) (*Result, error) {
	p, err := prepare(dev, s, o.Compile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name(), err)
	}
	defer p.close()
	r := &Result{Name: s.Name(), FLOPs: p.flops, Bytes: p.bytes, Memory: p.exec.Memory(), Peer: map[string]Times{}, Skipped: map[string]string{}}
	if s.Kind == "step" {
		r.Images = s.Batch
	}
	variants, err := r.preparePeer(s, o)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); len(r.Times) < 3 || time.Since(began) < o.Budget; {
		t, err := runOnce(dev, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name(), err)
		}
		r.Times = append(r.Times, t)
		for _, v := range variants {
			if t, err = o.Peer.run(v); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", s.Name(), v, err)
			}
			r.Peer[v] = append(r.Peer[v], t)
		}
	}
	slices.Sort(r.Times)
	for _, t := range r.Peer {
		slices.Sort(t)
	}
	return r, nil
}

func (r *Result) preparePeer(s Spec, o Options) (ready []string, err error) {
	if o.Peer == nil {
		return nil, nil
	}
	for _, v := range o.Variants {
		switch ok, err := o.Peer.prepare(s, v); {
		case err != nil:
			r.Skipped[v] = err.Error()
		case ok:
			ready = append(ready, v)
		}
	}
	if len(ready) == 0 {
		return nil, fmt.Errorf("%s: no variant of the peer runs: %v", s.Name(), r.Skipped)
	}
	return ready, nil
}

func runOnce(dev *engine.Device, p *program) (float64, error) {
	began := time.Now()
	err := p.exec.Run()
	if w, ok := dev.Driver.(engine.Waiter); ok && err == nil {
		err = w.Wait()
	}
	return time.Since(began).Seconds(), err
}
