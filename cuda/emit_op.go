package cuda

import (
	"fmt"
	"slices"
	"strings"

	"temper/engine/graph"
)

// OpKernel is a kernel of an operation. Its parameters are buffers, then the
// number of work items.
type OpKernel struct {
	Source string // CUDA C++, in which NAME stands for the kernel's name
	Args   []int  // the buffers: an operand's number, Result or Scratch; behind the operands, what the image meets on its way
	Items  int
	Blocks int // for which there is work; fewer take more than one turn
	Shared int // dynamic shared memory, in bytes
	Tiling string

	Warpgroups *wgmma // nil but for those of conv_sm90.h: the first two buffers are passed as maps
}

// Buffers of operations' kernels that are no operands.
const (
	Result  = -1
	Scratch = -2 // memory that nothing else uses while the operation runs
)

// OpKernels writes the CUDA C++ of an operation that moves elements, adds them
// up where indices say, works along an axis, or multiplies without tensor cores. It
// returns none for operations that it does not know.
//
// A thread takes items i, i + grid, …. For most operations an item is an
// element of the result; for those along an axis a line, but for sorting and for
// the gradient of pooling an element, which looks for what goes there. Of a contraction a block
// takes items, which are tiles of the result.
func OpKernels(n *graph.Node) []OpKernel {
	e := &opEmitter{n: n}
	body, known := e.body()
	if !known {
		return nil
	}
	k := OpKernel{Args: make([]int, 0, len(n.Ins())+1), Items: itemSpace(n).Size()}
	var b strings.Builder
	b.WriteString("extern \"C\" __global__ void NAME(")
	for i, in := range n.Ins() {
		k.Args = append(k.Args, i)
		fmt.Fprintf(&b, "const %v* in%d, ", in.DType(), i)
	}
	k.Args = append(k.Args, Result)
	fmt.Fprintf(&b, "%v* __restrict__ out, u32 n) {\n  wait_for_turn();\n", n.DType())
	if n.Op().Class() == graph.ClassContraction {
		k.Blocks = k.Items
		fmt.Fprintf(&b, "  __shared__ contract_tiles<%v> tiles;\n  for (u32 i = blockIdx.x; i < n; i += gridDim.x) {\n", sumType(n.DType()))
	} else {
		k.Blocks = ceil(k.Items, BlockThreads)
		b.WriteString("  for (u32 i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {\n")
	}
	rest := 1
	space := itemSpace(n)
	for a := len(space) - 1; a >= 0; a-- {
		fmt.Fprintf(&b, "    const i32 x%d = (i32)(i / %du %% %du);\n", a, rest, space[a])
		rest *= space[a]
	}
	for line := range strings.Lines(body) {
		b.WriteString("    " + line)
	}
	b.WriteString("  }\n}\nEXPORT(NAME)\n")
	k.Source = b.String()
	return []OpKernel{k}
}

// itemSpace is the space of work items.
func itemSpace(n *graph.Node) graph.Shape {
	switch n.Op() {
	case graph.OpArgMax, graph.OpCumSum:
		return n.In(0).Shape().With(n.Attrs().Axis, 1)
	case graph.OpScatterAdd:
		if (&opEmitter{n: n}).pooled() == nil {
			return n.Shape().With(n.Attrs().Axis, 1)
		}
	case graph.OpArgSort:
		return n.In(0).Shape()
	case graph.OpMatMul, graph.OpConv2D, graph.OpConv2DInputGrad, graph.OpConv2DFilterGrad:
		c := contractionOf(n)
		const tile = 64 // TILE in contract.h
		return graph.Shape{c.batch, (c.m + tile - 1) / tile, (c.n + tile - 1) / tile}
	}
	return n.Shape()
}

type opEmitter struct{ n *graph.Node }

// at is the position in a tensor of some shape at the given coordinates.
func at(s graph.Shape, coordinate func(axis int) string) string {
	terms := []string{"0u"}
	for a, stride := range s.Strides() {
		if s[a] > 1 {
			terms = append(terms, fmt.Sprintf("(%s) * %du", coordinate(a), stride))
		}
	}
	return strings.Join(terms, " + ")
}

func x(axis int) string { return fmt.Sprintf("x%d", axis) }

func (e *opEmitter) body() (string, bool) {
	n, attrs, in := e.n, e.n.Attrs(), e.n.In(0).Shape()
	take := func(coordinate func(axis int) string) (string, bool) {
		return fmt.Sprintf("out[i] = in0[%s];\n", at(in, coordinate)), true
	}
	switch n.Op() {
	case graph.OpTranspose:
		return take(func(a int) string { return x(slices.Index(attrs.Axes, a)) })
	case graph.OpSlice:
		return take(func(a int) string { return fmt.Sprintf("%d + x%d * %d", attrs.Lo[a], a, attrs.Step[a]) })
	case graph.OpReverse:
		return take(func(a int) string {
			if slices.Contains(attrs.Axes, a) {
				return fmt.Sprintf("%d - x%d", in[a]-1, a)
			}
			return x(a)
		})
	case graph.OpGather:
		return take(func(a int) string {
			if a == attrs.Axis {
				return fmt.Sprintf("clamp_index(in1[i], %d)", in[a]-1)
			}
			return x(a)
		})
	case graph.OpDynSlice:
		return take(func(a int) string { return fmt.Sprintf("x%d + %s", a, e.start(a, in[a]-n.Dim(a))) })
	case graph.OpDynPad:
		return e.place(func(a int) (string, int) { return fmt.Sprintf("x%d - (%s)", a, e.start(a, n.Dim(a)-in[a])), 1 })
	case graph.OpPad:
		return e.place(func(a int) (string, int) { return fmt.Sprintf("x%d - (%d)", a, attrs.Lo[a]), attrs.Step[a] })
	case graph.OpConcat:
		return e.concat()
	case graph.OpArgMax:
		return e.argMax()
	case graph.OpCumSum:
		return e.cumSum()
	case graph.OpArgSort:
		return e.argSort()
	case graph.OpPoolArgMax:
		return e.poolArgMax()
	case graph.OpScatterAdd:
		return e.scatterAdd()
	case graph.OpMatMul, graph.OpConv2D, graph.OpConv2DInputGrad, graph.OpConv2DFilterGrad:
		return contractionOf(n).body(n.DType()), true
	}
	return "", false
}

// start is where a row's window begins along an axis.
func (e *opEmitter) start(axis, room int) string {
	if axis == 0 {
		return "0"
	}
	return fmt.Sprintf("clamp_index(in1[x0 * %d + %d], %d)", e.n.In(1).Dim(1), axis-1, room)
}

// place takes an element of the operand where there is one, else zero. For each
// axis from gives the distance from the operand's first element, and the step
// between two.
func (e *opEmitter) place(from func(axis int) (string, int)) (string, bool) {
	in := e.n.In(0).Shape()
	var b strings.Builder
	inside := []string{"true"}
	for a := range in {
		distance, step := from(a)
		fmt.Fprintf(&b, "const i32 d%d = %s;\n", a, distance)
		inside = append(inside, fmt.Sprintf("d%d >= 0 && d%d < %d", a, a, (in[a]-1)*step+1))
		if step > 1 {
			inside = append(inside, fmt.Sprintf("d%d %% %d == 0", a, step))
		}
	}
	position := at(in, func(a int) string {
		_, step := from(a)
		return fmt.Sprintf("d%d / %d", a, step)
	})
	fmt.Fprintf(&b, "out[i] = %s ? in0[%s] : %v{};\n", strings.Join(inside, " && "), position, e.n.DType())
	return b.String(), true
}

func (e *opEmitter) concat() (string, bool) {
	var b strings.Builder
	axis, first := e.n.Attrs().Axis, 0
	for k, in := range e.n.Ins() {
		begin := first
		first += in.Dim(axis)
		position := at(in.Shape(), func(a int) string {
			if a == axis {
				return fmt.Sprintf("x%d - %d", a, begin)
			}
			return x(a)
		})
		if k > 0 {
			b.WriteString("else ")
		}
		fmt.Fprintf(&b, "if (x%d < %d) out[i] = in%d[%s];\n", axis, first, k, position)
	}
	return b.String(), true
}

// line declares the pointer to the first element of the item's line, and gives
// its extent and stride.
func (e *opEmitter) line() (declaration string, extent, stride int) {
	in, axis := e.n.In(0).Shape(), e.n.Attrs().Axis
	start := at(in, func(a int) string {
		if a == axis {
			return "0"
		}
		return x(a)
	})
	return fmt.Sprintf("const u32 first = %s;\nconst %v* line = in0 + first;\n", start, e.n.In(0).DType()), in[axis], in.Strides()[axis]
}

func (e *opEmitter) argMax() (string, bool) {
	line, extent, stride := e.line()
	return line + fmt.Sprintf("u32 best = 0;\nfor (u32 k = 1; k < %du; k++)\n  if (above(line[k * %du], line[best * %du])) best = k;\nout[i] = (i32)best;\n",
		extent, stride, stride), true
}

func (e *opEmitter) cumSum() (string, bool) {
	line, extent, stride := e.line()
	t := e.n.DType()
	return line + fmt.Sprintf("%v s = sum_start<%v>();\nfor (u32 k = 0; k < %du; k++) {\n  s = add_(s, line[k * %du]);\n  out[first + k * %du] = s;\n}\n",
		t, t, extent, stride, stride), true
}

func (e *opEmitter) argSort() (string, bool) {
	line, extent, stride := e.line()
	before, behind := "above(mine, other)", "above(other, mine)" // of the other element
	if e.n.Attrs().Descending {
		before, behind = behind, before
	}
	axis, t := e.n.Attrs().Axis, e.n.In(0).DType()
	return line + fmt.Sprintf(`const %v mine = line[x%d * %du];
u32 rank = 0;
for (i32 k = 0; k < %d; k++) {
  const %v other = line[k * %du];
  rank += %s || (k < x%d && !%s);
}
out[first + rank * %du] = x%d;
`, t, axis, stride, extent, t, stride, before, axis, behind, stride, axis), true
}

// scatterAdd adds a line's elements up one by one, always in the same order; an
// item is a line.
func (e *opEmitter) scatterAdd() (string, bool) {
	if pool := e.pooled(); pool != nil {
		return e.unpool(pool), true
	}
	n, axis := e.n, e.n.Attrs().Axis
	start := func(s graph.Shape) string {
		return at(s, func(a int) string {
			if a == axis {
				return "0"
			}
			return x(a)
		})
	}
	in, out := n.In(0).Shape(), n.Shape()
	return fmt.Sprintf(`const u32 from = %s, to = %s;
for (u32 k = 0; k < %du; k++) out[to + k * %du] = %v{};
for (u32 k = 0; k < %du; k++) {
  %v& s = out[to + (u32)clamp_index(in1[from + k * %du], %d) * %du];
  s = add_(s, in0[from + k * %du]);
}
`, start(in), start(out), out[axis], out.Strides()[axis], n.DType(), in[axis], n.DType(), in.Strides()[axis], out[axis]-1, out.Strides()[axis], in.Strides()[axis]), true
}

// pooled finds the pooling whose maxima's indices say where to add.
func (e *opEmitter) pooled() *graph.Node {
	pool := e.n.In(1)
	for pool.Op() == graph.OpReshape {
		pool = pool.In(0)
	}
	if pool.Op() != graph.OpPoolArgMax {
		return nil
	}
	l := pool.Attrs().Layout
	c, s, image := l.Channel(), l.Spatial(), pool.In(0)
	in, axis := graph.Shape{pool.Dim(0), pool.Dim(c), pool.Dim(s) * pool.Dim(s+1)}, 2
	if l == graph.NHWC {
		in, axis = graph.Shape{in[0], in[2], in[1]}, 1
	}
	if e.n.Attrs().Axis != axis || !e.n.In(0).Shape().Equal(in) || e.n.Dim(axis) != image.Dim(s)*image.Dim(s+1) {
		return nil
	}
	return pool
}

// unpool looks, for a pixel, through the windows that have it; an item is an
// element.
func (e *opEmitter) unpool(pool *graph.Node) string {
	a, s, axis, t := pool.Attrs(), pool.Attrs().Layout.Spatial(), e.n.Attrs().Axis, e.n.DType()
	in := e.n.In(0).Shape()
	position := at(in, func(a int) string {
		if a == axis {
			return fmt.Sprintf("p * %d + q", pool.Dim(s+1))
		}
		return x(a)
	})
	loop := func(name, pixel string, i int) string {
		first := fmt.Sprintf("(%s + %d) / %d", pixel, a.Pad[i]-a.Kernel[i]+a.Stride[i], a.Stride[i])
		return fmt.Sprintf("for (i32 %s = max_(%s, 0); %s <= min_((%s + %d) / %d, %d); %s++)", name, first, name, pixel, a.Pad[i], a.Stride[i], pool.Dim(s+i)-1, name)
	}
	return fmt.Sprintf(`const i32 h = x%d / %d, w = x%d %% %d;
%v s = sum_start<%v>();
%s
  %s {
    const u32 k = %s;
    if (in1[k] == x%d) s = add_(s, in0[k]);
  }
out[i] = s;
`, axis, pool.In(0).Dim(s+1), axis, pool.In(0).Dim(s+1), t, t, loop("p", "h", 0), loop("q", "w", 1), position, axis)
}

func (e *opEmitter) poolArgMax() (string, bool) {
	a, in := e.n.Attrs(), e.n.In(0).Shape()
	s := a.Layout.Spatial()
	channels, pixels, step := in[a.Layout.Channel()], in[s]*in[s+1], 1
	plane := fmt.Sprintf("(x0 * %d + x1) * %d", channels, pixels)
	if a.Layout == graph.NHWC {
		plane, step = fmt.Sprintf("x0 * %d + x3", channels*pixels), channels
	}
	return fmt.Sprintf(`const %v* plane = in0 + %s;
i32 best = -1;
for (i32 h = x%d * %d - %d; h < x%d * %d - %d + %d; h++)
  for (i32 w = x%d * %d - %d; w < x%d * %d - %d + %d; w++) {
    if (h < 0 || h >= %d || w < 0 || w >= %d) continue;
    const i32 k = h * %d + w;
    if (best < 0 || above(plane[k * %d], plane[best * %d])) best = k;
  }
out[i] = best;
`, e.n.In(0).DType(), plane, s, a.Stride[0], a.Pad[0], s, a.Stride[0], a.Pad[0], a.Kernel[0],
		s+1, a.Stride[1], a.Pad[1], s+1, a.Stride[1], a.Pad[1], a.Kernel[1], in[s], in[s+1], in[s+1], step, step), true
}
