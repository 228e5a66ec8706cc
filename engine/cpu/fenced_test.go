//go:build unix

package cpu

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"temper/engine"
	"temper/engine/cpu/kernel/fence"
	"temper/engine/graph"
	"temper/engine/optest"
	"temper/engine/passes"
	"temper/engine/plan"
)

// fencedDevice is a device whose programs' memory lies between pages that
// cannot be touched: every input, state, constant and scratch, and each value in
// the arena for itself.
type fencedDevice struct {
	*device
	t    testing.TB
	last bool // where in its pages a value lies
}

type fencedCode struct {
	*code
	d *fencedDevice
}

// memory is n bytes between pages that cannot be touched. What is not written
// yet is NaN, unless it is to be zero.
func (d *fencedDevice) memory(n int, zero bool) []byte {
	r := fence.New(d.t, max(n, 1))
	b := r.First(n)
	if d.last {
		b = r.Last(n)
	}
	for i := range b {
		if !zero {
			b[i] = 0xff
		}
	}
	return b
}

func (d *fencedDevice) Alloc(bytes int) (engine.Memory, error) {
	return &memory{d.memory(bytes, true)}, nil
}

// Load gives each value of the arena, and of a worker's private memory, pages of
// its own.
func (d *fencedDevice) Load(p *plan.Plan) (engine.Code, error) {
	q := *p
	q.Buffers = append([]plan.Buffer(nil), p.Buffers...)
	gaps := map[int][]int{} // by the size of the whole: pages not to be touched
	arena, private := d.spread(&q, false), d.spread(&q, true)
	q.Arena, q.Private = arena.size, private.size
	gaps[q.Arena] = arena.gaps
	if p.Private == 0 {
		q.Private = 0
	} else if q.Private == q.Arena {
		return nil, fmt.Errorf("arena and private memory cannot be told apart by their size")
	} else {
		gaps[q.Private] = private.gaps
	}
	defer func(was func(int) []byte) { alloc = was }(alloc)
	alloc = func(bytes int) []byte {
		list, whole := gaps[bytes]
		if !whole {
			return d.memory(bytes, false)
		}
		r := fence.New(d.t, bytes)
		for i := range r.Bytes() {
			r.Bytes()[i] = 0xff
		}
		for _, at := range list {
			r.Close(at)
		}
		return r.Bytes()
	}
	c, err := d.device.Load(&q)
	if err != nil {
		return nil, err
	}
	return &fencedCode{c.(*code), d}, nil
}

type spread struct {
	size int
	gaps []int
}

// spread moves the temporaries of the arena, or of private memory, apart.
func (d *fencedDevice) spread(p *plan.Plan, private bool) spread {
	page := unix.Getpagesize()
	var s spread
	for i := range p.Buffers {
		b := &p.Buffers[i]
		if b.Kind != plan.Temp || b.Private != private {
			continue
		}
		room := max(1, (b.Bytes()+page-1)/page) * page
		b.Offset = s.size
		if d.last {
			b.Offset += room - b.Bytes()
			if b.Bytes() == 0 {
				b.Offset--
			}
		}
		s.size += room + page
		s.gaps = append(s.gaps, s.size-page)
	}
	if private {
		s.size += page // never as large as an arena of the same values
	}
	s.size = max(s.size, page)
	return s
}

// Feed copies the input behind a fence.
func (c *fencedCode) Feed(i int, host []byte) {
	b := c.d.memory(len(host), true)
	copy(b, host)
	c.code.Feed(i, b)
}

// Programs touch nothing but their own values' memory, whichever end of it lies
// before a page that cannot be touched: the cases of all operations, and
// programs drawn at random, as a whole and by rows.
func TestFenced(t *testing.T) {
	for _, last := range []bool{false, true} {
		t.Run(fmt.Sprintf("cases, last %v", last), func(t *testing.T) { optest.Agree(t, fencedRunner(t, engine.Options{}, last)) })
		t.Run(fmt.Sprintf("programs, last %v", last), func(t *testing.T) {
			for seed := range uint32(60) {
				t.Run(fmt.Sprint(seed), func(t *testing.T) { testFenced(t, last, seed) })
			}
		})
	}
}

func FuzzFenced(f *testing.F) {
	f.Add(uint32(412), true)
	f.Fuzz(func(t *testing.T, seed uint32, last bool) {
		testFenced(t, last, seed)
	})
}

// fencedRunner runs programs on a fenced device of two workers.
func fencedRunner(t testing.TB, o engine.Options, last bool) optest.Runner {
	d, err := backend{}.Open("cpu", engine.DeviceOptions{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return optest.On(&engine.Device{Driver: &fencedDevice{d.(*device), t, last}}, o)
}

// testFenced compares a program's results behind fences with those without.
func testFenced(t *testing.T, last bool, seed uint32) {
	plain, err := engine.Open("cpu", engine.DeviceOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	g := optest.Random(seed)
	feed := optest.RandomFeed(g, seed)
	target, err := plain.Target(graph.PrecisionFloat32)
	if err != nil {
		t.Fatal(err)
	}
	rows := target
	rows.RowBytes = 1 << 10
	for name, o := range map[string]engine.Options{
		"whole": {}, "by rows": {Passes: passes.Options{Target: rows}}, "unfused": {Plan: plan.Options{NoFusion: true}},
	} {
		want, err := optest.On(plain, o)(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		got, err := fencedRunner(t, o, last)(g, feed)
		if err != nil {
			t.Fatal(err)
		}
		if err := (optest.Tolerance{}).CompareResults(want, got); err != nil {
			t.Errorf("seed %d, %s: %v\n%s", seed, name, err, g)
		}
	}
}
