package cuda

import (
	"fmt"
	"strings"

	"temper/engine/graph"
)

// TensorMap describes a buffer of bf16, and what the copy engine of sm_90 copies
// of it at once: a box of three axes, or some channels of some pixels of images.
// Axes are counted from the fastest one.
type TensorMap struct {
	Pixels  bool   // of images (N,H,W,C), else a box
	Extents [4]int // elements along each axis
	Strides [3]int // bytes from one to the next, of the axes behind the first
	Box     [3]int // elements; or channels and pixels
	Steps   [4]int // from a pixel to the next, across and down; 1 along the others
	Lower   [2]int // the corner where pixels begin, across and down, from the first pixel
	Upper   [2]int // and where they end, from the last
	Swizzle int    // bytes of a line in shared memory
}

// wgmmaThreads are those of a block of conv_sm90.h.
const wgmmaThreads = BlockThreads + 128

// sharedPerBlock is the shared memory that a block can have on sm_90.
const sharedPerBlock = 227 << 10

// multiprocessors is the number of those that wgmma's tiles should keep busy, an
// H100's or H200's. Like wanted, it is no property of the device at hand.
const multiprocessors = 132

// wgmma is how a convolution is computed by conv_sm90.h.
type wgmma struct {
	name   string         // of the contraction
	width  int            // channels at a time
	shared int            // bytes in all
	turned bool           // results are stored column by column
	maps   [2][]TensorMap // of the operands
}

// mostMaps is the number of maps of an operand: kernels have 4096 bytes of
// parameters.
const mostMaps = 16

// onSM90 says whether conv_sm90.h computes an operation on devices of a compute
// capability. The copy engine wants pixels that start at multiples of 16 bytes,
// and windows that are not too far apart.
func onSM90(n *graph.Node, capability int) bool {
	if capability != 90 || n.DType() != graph.BF16 || n.Attrs().Layout != graph.NHWC {
		return false
	}
	switch n.Op() {
	case graph.OpConv2D:
		g := geometry(n, n.In(0), n.In(1), n)
		return g.C%8 == 0 && max(g.strideH, g.strideW) <= 8 && fit(g.pixels(1, 16))
	case graph.OpConv2DInputGrad:
		g := geometry(n, n, n.In(1), n.In(0))
		maps := g.phases(1, 16)
		return g.C%8 == 0 && g.O%8 == 0 && len(maps) <= mostMaps && fit(maps...)
	case graph.OpConv2DFilterGrad:
		g := geometry(n, n.In(0), n, n.In(1))
		return g.C%8 == 0 && g.O%8 == 0 && max(g.strideH, g.strideW) <= 8 && fit(g.pixels(1, 16))
	}
	return false
}

// fit says whether the copy engine's instructions can name what maps ask for.
func fit(maps ...TensorMap) bool {
	for _, m := range maps {
		for i := range 2 {
			if min(m.Lower[i], m.Upper[i]) < -128 || max(m.Lower[i], m.Upper[i]) > 127 {
				return false
			}
		}
	}
	return true
}

// width is the number of channels that are multiplied at a time: as many as one
// line of shared memory holds, unless much of the last one would be empty.
func width(channels int) int {
	best, least := 0, 0
	for _, w := range []int{64, 32, 16} {
		if cost := ceil(channels, w) * w * (15 + 64/w); best == 0 || cost < least {
			best, least = w, cost
		}
	}
	return best
}

// sm90Tiles are the tiles of conv_sm90.h, the largest first: sums of more would not
// fit into registers.
var sm90Tiles = []tensorTile{{256, 128}, {128, 160}, {128, 128}, {256, 64}, {128, 64}, {128, 32}}

// costsSM90 is costs for conv_sm90.h: multiprocessors take items in waves, and a
// block as long for an item's products as for bringing the operands of a square,
// balance long. That length is what the tensor cores multiply while the
// second-level cache delivers a number, on paper.
func (op *tensorOp) costsSM90(inParts bool) (list []ranked) {
	const (
		balance   = 64
		start     = 1 << 19 // of an item, in products
		partStore = 256     // and of storing and adding up one of its sums
		shortest  = 512     // products that are worth a part
	)
	depth := op.depth / len(op.heights)
	for _, t := range sm90Tiles {
		for parts := 1; parts == 1 || inParts && parts <= multiprocessors && depth/parts >= shortest; parts++ {
			d, each := op.divided(t, parts), start
			if parts > 1 {
				each += partStore * t.rows * t.columns
			}
			stages, _ := op.stagesOf(d)
			if stages < fewestStages {
				continue
			}
			cost := ceil(d.tiles*d.parts, multiprocessors) * (d.length*(t.rows*t.columns+balance*(t.rows+t.columns)) + each)
			list = append(list, ranked{Choice{onWGMMA, t.rows, t.columns, stages, d.parts}, float64(cost)})
		}
	}
	return sorted(list)
}

// onWarpgroups has an operation that onSM90 accepts computed by warpgroups.
func (op *tensorOp) onWarpgroups(n *graph.Node) {
	op.wgmma = &wgmma{}
	switch n.Op() {
	case graph.OpConv2D:
		op.forwardSM90(geometry(n, n.In(0), n.In(1), n))
	case graph.OpConv2DInputGrad:
		op.inputGradSM90(geometry(n, n, n.In(1), n.In(0)))
	default:
		op.filterGradSM90(geometry(n, n.In(0), n, n.In(1)))
	}
}

// With fewest stages one is multiplied, one is waited for and one is filled; most
// are more than any latency asks for.
const fewestStages, mostStages = 3, 8

// results is the shared memory that a tile's results take.
func (op *tensorOp) results(d division) int {
	lines, line := d.rows, d.columns
	if op.wgmma.turned {
		lines, line = line, lines
	}
	return lines * (line + 8) * op.kept(d).Size()
}

// stagesOf is the number of stages that there is room for beside the results, and
// the shared memory of one.
func (op *tensorOp) stagesOf(d division) (stages, stage int) {
	stage = 2*(d.rows+d.columns)*op.step + 16
	return min(mostStages, (sharedPerBlock-op.results(d))/stage), stage
}

func (op *tensorOp) forwardSM90(g conv) {
	op.products = g.products()
	w := op.wgmma
	w.name, w.width = "conv_forward_sm90", width(g.C)
	op.step = w.width
	op.extents(g.N*g.P*g.Q, g.O, g.R*g.S*ceil(g.C, w.width)*w.width, seldom)
	op.types = g.shape()
	op.mapped(func() [2][]TensorMap {
		return [2][]TensorMap{{g.pixels(op.rows, w.width)}, {g.filters(w.width, op.columns)}}
	})
}

func (op *tensorOp) inputGradSM90(g conv) {
	op.products = g.products()
	w := op.wgmma
	w.name, w.width = "conv_input_grad_sm90", width(g.O)
	op.step = w.width
	op.extents(g.N*g.H*g.W, g.C, g.R*g.S*ceil(g.O, w.width)*w.width, never)
	op.heights = g.phasePixels()
	op.types = g.shape()
	op.mapped(func() [2][]TensorMap {
		return [2][]TensorMap{g.phases(op.rows, w.width), {g.filters(op.block(), w.width)}}
	})
}

func (op *tensorOp) filterGradSM90(g conv) {
	op.products = g.products()
	w := op.wgmma
	w.name, w.width, w.turned = "conv_filter_grad_sm90", width(g.C), true
	op.step = 64
	pixels := g.N * g.P * g.Q
	op.extents(g.O, g.R*g.S*g.C, ceil(pixels, op.step)*op.step, freely)
	op.heights, op.breadth = []int{g.R * g.S * ceil(g.C, w.width) * w.width}, g.O
	op.types = g.shape()
	op.mapped(func() [2][]TensorMap {
		const size = 2
		dy := TensorMap{Extents: [4]int{g.O, pixels, 1}, Strides: [3]int{size * g.O, size * g.O * pixels}, Box: [3]int{op.block(), op.step, 1}, Steps: [4]int{1, 1, 1}, Swizzle: size * op.block()}
		return [2][]TensorMap{{g.pixels(op.step, w.width)}, {dy}}
	})
}

// mapped has the operands' maps made when the operation is divided.
func (op *tensorOp) mapped(maps func() [2][]TensorMap) {
	op.finish = func() {
		_, stage := op.stagesOf(op.division)
		op.wgmma.shared = op.stages*stage + op.results(op.division)
		op.wgmma.maps = maps()
	}
}

// block is the number of columns of an operand across k that lie in a line of
// shared memory.
func (op *tensorOp) block() int {
	if op.columns%64 == 0 {
		return 64
	}
	return 32
}

// kept is the type in which results go through shared memory.
func (op *tensorOp) kept(d division) graph.DType {
	if d.parts > 1 {
		return graph.F32
	}
	return op.t
}

// sourceSM90 is source for warpgroups: the one that copies, and those that
// multiply.
func (op *tensorOp) sourceSM90(params []string, before, result, after string) string {
	w := op.wgmma
	tile, begin, end := op.part()
	shared := "" // of what stands after a tile
	if after != "" {
		shared = "    u8* const shared = pipe.results;\n"
	}
	item := fmt.Sprintf("%s, %s, %s", tile, begin, end)
	return fmt.Sprintf(`extern "C" __global__ void __launch_bounds__(wgmma_threads, 1) NAME(%s, u32 n) {
%s  typedef %s<shape, %d, %d, %d, %d, %v> conv;
  typedef conv::tile tile;
  static_assert(tile::SHARED == %d, "");
  DYNAMIC_SHARED(u8, memory);
  conv::pipeline pipe(memory);
  wait_for_turn();
  if (threadIdx.x >= BLOCK) {
    release_registers<COPYING_REGISTERS>();
    if (threadIdx.x == BLOCK)
      for (u32 i = blockIdx.x; i < n; i += gridDim.x) conv::fill(pipe, in0.of, in1.of, %s);
  } else {
    acquire_registers<MULTIPLYING_REGISTERS>();
%s    for (u32 i = blockIdx.x; i < n; i += gridDim.x) {
%s      conv::compute(pipe, %s,
        %s);
%s    }
  }
}
EXPORT(NAME)
`, strings.Join(params, ", "), op.types, w.name, op.rows, op.columns, w.width, op.stages, op.kept(op.division), w.shared, item,
		shared, indented(before), item, result, indented(after))
}

func indented(lines string) (all string) {
	for line := range strings.Lines(lines) {
		all += "  " + line
	}
	return all
}

// params are the operands, as maps.
func (w *wgmma) params() (params []string) {
	for i, maps := range w.maps {
		params = append(params, fmt.Sprintf("const __grid_constant__ tensor_maps<%d> in%d", len(maps), i))
	}
	return params
}

// pixels is the map of x: count pixels, the first ones of windows, and width
// channels.
func (g conv) pixels(count, width int) TensorMap {
	const size = 2
	return TensorMap{Pixels: true, Extents: [4]int{g.C, g.W, g.H, g.N}, Strides: [3]int{size * g.C, size * g.C * g.W, size * g.C * g.W * g.H},
		Box: [3]int{width, count}, Steps: [4]int{1, g.strideW, g.strideH, 1},
		Lower: [2]int{-g.padW, -g.padH}, Upper: [2]int{(g.Q-1)*g.strideW + 1 - g.padW - g.W, (g.P-1)*g.strideH + 1 - g.padH - g.H}, Swizzle: size * width}
}

// filters is the map of the filters, as (O, R S, C): a tap's.
func (g conv) filters(channels, outputs int) TensorMap {
	const size = 2
	return TensorMap{Extents: [4]int{g.C, g.R * g.S, g.O}, Strides: [3]int{size * g.C, size * g.C * g.R * g.S},
		Box: [3]int{channels, 1, outputs}, Steps: [4]int{1, 1, 1}, Swizzle: size * channels}
}

// phaseAxis is phase_axis of conv.h: pixel first + i stride reads output
// i + base - t shift through tap t.
type phaseAxis struct{ pixels, taps, base, shift int }

func newPhaseAxis(at, extent, taps, stride, pad, dilation int) phaseAxis {
	step := stride / gcd(stride, dilation)
	a := phaseAxis{pixels: ceil(extent-at, stride), shift: step * dilation / stride}
	for r := range min(step, taps) {
		if distance := at + pad - r*dilation; distance%stride == 0 {
			a.taps, a.base = ceil(taps-r, step), distance/stride
		}
	}
	return a
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

type phase struct{ down, across phaseAxis }

// eachPhase calls fn for the input gradient's phases, in the order of conv.h.
func (g conv) eachPhase(fn func(f phase)) {
	for h := range min(g.H, g.strideH) {
		for w := range min(g.W, g.strideW) {
			fn(phase{newPhaseAxis(h, g.H, g.R, g.strideH, g.padH, g.dilationH), newPhaseAxis(w, g.W, g.S, g.strideW, g.padW, g.dilationW)})
		}
	}
}

// phasePixels is the number of pixels of each phase.
func (g conv) phasePixels() (pixels []int) {
	g.eachPhase(func(f phase) { pixels = append(pixels, g.N*f.down.pixels*f.across.pixels) })
	return pixels
}

// phases are the maps of dy, one for each phase: count pixels, the first ones of
// windows, and width outputs.
func (g conv) phases(count, width int) (maps []TensorMap) {
	const size = 2
	g.eachPhase(func(f phase) {
		m := TensorMap{Pixels: true, Extents: [4]int{g.O, g.Q, g.P, g.N}, Strides: [3]int{size * g.O, size * g.O * g.Q, size * g.O * g.Q * g.P},
			Box: [3]int{width, count}, Steps: [4]int{1, 1, 1, 1}, Swizzle: size * width}
		if f.across.taps > 0 && f.down.taps > 0 { // otherwise nothing is read
			for i, a := range []phaseAxis{f.across, f.down} {
				m.Lower[i] = a.base - (a.taps-1)*a.shift
				m.Upper[i] = m.Lower[i] + a.pixels - m.Extents[1+i]
			}
		}
		maps = append(maps, m)
	})
	return maps
}
