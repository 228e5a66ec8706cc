package cuda

import (
	"fmt"
	"strings"

	"temper/cuda/cache"
	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/plan"
	"temper/engine/rng"
	"temper/kernels"
)

// Target is what the compiler should do for a GPU at a precision: they all have
// every one.
func Target(p graph.Precision) passes.Target {
	return passes.Target{ChannelsLast: true, BF16: true, Precision: p, LessTraffic: true, Prologues: true, Branches: true}
}

// Kernel is a kernel of a step of a plan: what it is compiled from and how it
// is launched. Kernels of one name have one source.
type Kernel struct {
	Name, Source string
	Tiling       string // of a contraction, for people
	// Blocks is the number of blocks for which there is work; fewer take more
	// than one turn.
	Blocks int
	// The arguments: the addresses of the plan's buffers, or Scratch, then the
	// numbers.
	Buffers  []int
	Numbers  []uint32
	Maps     [][]TensorMap // of the first buffers, which are passed so instead of as addresses
	Threads  int           // of a block
	PerSM    int           // blocks of a multiprocessor that are worth starting
	Multiple int           // that the number of blocks is one of
	Shared   int           // dynamic shared memory, in bytes
	Scratch  int           // memory, in bytes, that only the step's kernels use meanwhile

	joint *joint // if it joins the parts of reductions
}

// bytes is what the kernel reads and writes if it touches each of its buffers once.
func (k *Kernel) bytes(p *plan.Plan) (n int) {
	for _, i := range k.Buffers {
		if i == Scratch {
			n += k.Scratch
		} else {
			n += p.Buffers[i].Bytes()
		}
	}
	return n
}

// turnsPerSM is the number of blocks of a grid for each multiprocessor: enough
// to fill it, few enough to save the start of most.
const turnsPerSM = 8

// grid is the number of blocks that are started on a device of so many
// multiprocessors.
func (k *Kernel) grid(multiprocessors int) int {
	multiple := max(1, k.Multiple)
	return max(multiple, min(k.Blocks, k.PerSM*multiprocessors)/multiple*multiple)
}

// onWarpgroups makes a kernel one of conv_sm90.h, if it is: a block fills a
// multiprocessor.
func (k *Kernel) onWarpgroups(w *wgmma) {
	if w != nil {
		k.Maps, k.Threads, k.PerSM = w.maps[:], wgmmaThreads, 1
		if w.pairing != alone {
			k.Multiple = 2
		}
	}
}

// Kernels lists a step's kernels, for devices of a compute capability, in the order
// in which they run. Copies and loops have none.
func Kernels(p *plan.Plan, s plan.Step, capability int) ([]Kernel, error) {
	return stepKernels(p, s, target{capability: capability}, false)
}

// stepKernels is Kernels for a target; behind says whether a group stands behind
// the step that could be computed with it.
func stepKernels(p *plan.Plan, s plan.Step, t target, behind bool) ([]Kernel, error) {
	switch {
	case s.Fused != nil:
		return fusedKernels(p, s.Fused), nil
	case s.Op != nil && s.Op.Op() == graph.OpRandom:
		return []Kernel{randomKernel(p, s.Op)}, nil
	case s.Op != nil && onTensorTiles(s.Op):
		w := wayOf(p, s.Op, s.Prologue)
		op := newTensorOp(s.Op, w, t, behind)
		return opKernels(p, s.Op, op.kernels(), op.scratch(), operands(p, s.Op, w))
	case s.Op != nil:
		ops := OpKernels(s.Op)
		return opKernels(p, s.Op, ops, 0, operands(p, s.Op, nil))
	}
	return nil, nil
}

// operands are the buffers that an operation's kernel reads.
func operands(p *plan.Plan, n *graph.Node, w *way) (buffers []int) {
	for i, in := range n.Ins() {
		if i == 0 && w != nil {
			buffers = append(buffers, w.image)
		} else {
			buffers = append(buffers, p.Buffer(in))
		}
	}
	if w != nil {
		buffers = append(buffers, w.buffers...)
	}
	return buffers
}

// named makes a kernel whose name follows from its source, in which it is NAME.
func named(source string) Kernel {
	name := "kernel_" + cache.Key(source)
	return Kernel{Name: name, Source: strings.ReplaceAll(source, "NAME", name), Threads: BlockThreads, PerSM: turnsPerSM}
}

func fusedKernels(p *plan.Plan, f *plan.Fused) (ks []Kernel) {
	groups, scratch := GroupKernels(p, f)
	for _, g := range groups {
		ks = append(ks, g.kernel(scratch))
	}
	return ks
}

func (g GroupKernel) kernel(scratch int) Kernel {
	k := named(g.Source)
	k.Buffers, k.Numbers, k.Blocks, k.Scratch, k.joint = g.Args, []uint32{uint32(g.Items)}, g.Blocks, scratch, g.joint
	if g.PerSM > 0 {
		k.PerSM, k.Multiple = g.PerSM, g.Multiple
	}
	return k
}

func opKernels(p *plan.Plan, n *graph.Node, ops []OpKernel, scratch int, operands []int) ([]Kernel, error) {
	if len(ops) == 0 {
		return nil, fmt.Errorf("CUDA has no %v of %v", n.Op(), n.In(0).DType())
	}
	var ks []Kernel
	for _, op := range ops {
		k := named(op.Source)
		k.Tiling = op.Tiling
		k.onWarpgroups(op.Warpgroups)
		for _, a := range op.Args {
			switch {
			case a == Result:
				a = p.Buffer(n)
			case a >= 0:
				a = operands[a]
			}
			k.Buffers = append(k.Buffers, a)
		}
		k.Numbers, k.Blocks, k.Shared, k.Scratch = []uint32{uint32(op.Items)}, op.Blocks, op.Shared, scratch
		ks = append(ks, k)
	}
	return ks, nil
}

func randomKernel(p *plan.Plan, n *graph.Node) Kernel {
	k := Kernel{Name: "random_words", Source: kernels.Source("random.cu"), Threads: BlockThreads, PerSM: turnsPerSM}
	for _, in := range n.Ins() {
		k.Buffers = append(k.Buffers, p.Buffer(in))
	}
	k.Buffers = append(k.Buffers, p.Buffer(n))
	samples := n.Dim(0)
	each := n.Size() / samples
	threads := samples * ((each + 3) / 4) // four words each
	k.Numbers = []uint32{rng.Site(n.Attrs().Name), uint32(each), uint32(threads)}
	k.Blocks = (threads + BlockThreads - 1) / BlockThreads
	return k
}

// maxElements bounds a tensor: kernels count elements in 32 bits, and step
// beyond the last one by up to a grid.
const maxElements = 1 << 31

// kernelsOf lists the kernels of each of a plan's steps, those in loops
// included, under the step's group or operation; and all of them, in order.
func kernelsOf(p *plan.Plan, t target) (of map[any][]Kernel, all []Kernel, err error) {
	for i := range p.Buffers {
		if b := &p.Buffers[i]; b.Shape.Size() >= maxElements {
			return nil, nil, fmt.Errorf("a tensor of %v%v has 2³¹ elements or more: take a smaller batch", b.DType, b.Shape)
		}
	}
	w := &writer{p: p, target: t, of: map[any][]Kernel{}}
	err = w.steps(p.Steps)
	return w.of, w.all, err
}

// writer writes the kernels of a plan's steps.
type writer struct {
	p *plan.Plan
	target
	of  map[any][]Kernel
	all []Kernel
}

func (w *writer) steps(steps []plan.Step) error {
	for i, s := range steps {
		if s.Loop != nil {
			if err := w.steps(s.Loop.Steps); err != nil {
				return err
			}
			continue
		}
		next := groupBehind(steps[i:])
		if next != nil {
			if ks, ok := epilogue(w.p, &s, next, w.target); ok {
				w.cover(steps[i+1 : i+2])
				w.add(s, ks, steps[i+2:])
				continue
			}
		}
		if w.of[stepKey(s)] != nil { // with a step before it
			continue
		}
		inTurns, set := small(w.p, steps[i:]), atOnce(w.p, steps[i:])
		if with := steps[i : i+max(inTurns, set)]; len(with) > 1 {
			var ks []Kernel
			if set > inTurns {
				ks = setKernels(w.p, with)
			} else {
				ks = []Kernel{inTurn(w.p, with).kernel(0)}
			}
			w.cover(with)
			w.add(s, ks, nil)
			continue
		}
		ks, err := stepKernels(w.p, s, w.target, next != nil)
		if err != nil {
			return err
		}
		w.add(s, ks, steps[i+1:])
	}
	return nil
}

// cover notes that some steps have no kernels of their own.
func (w *writer) cover(steps []plan.Step) {
	for _, s := range steps {
		w.of[stepKey(s)] = []Kernel{}
	}
}

// add adds a step's kernels. Groups of the steps behind it go into the last one, if
// that joins the parts of reductions.
func (w *writer) add(s plan.Step, ks []Kernel, behind []plan.Step) {
	if i := len(ks) - 1; i >= 0 && ks[i].joint != nil {
		if n := ks[i].joint.follow(behind, &s); n > 0 {
			ks[i] = ks[i].joint.kernel().kernel(ks[i].Scratch)
			w.cover(behind[:n])
		}
	}
	w.of[stepKey(s)], w.all = ks, append(w.all, ks...)
}

// groupBehind is the group right behind the first of some steps, a contraction
// that it reads, if it could be that contraction's epilogue; else nil.
func groupBehind(steps []plan.Step) *plan.Fused {
	if len(steps) < 2 {
		return nil
	}
	n, f := steps[0].Op, steps[1].Fused
	if n == nil || f == nil || !steps[0].SameBranch(&steps[1]) || !onTensorTiles(n) || f.Space.Size() != n.Size() || !readBy(f, n) {
		return nil
	}
	return f
}

// stepKey is what kernelsOf lists a step's kernels under.
func stepKey(s plan.Step) any {
	switch {
	case s.Fused != nil:
		return s.Fused
	case s.Op != nil:
		return s.Op
	}
	return s.Copy
}
