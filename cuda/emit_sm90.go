package cuda

import (
	"cmp"
	"fmt"
	"slices"
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
	Reach   [2]int // of the farthest tap from a window's first pixel, across and down
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
	name    string         // of the contraction
	width   int            // channels at a time
	shared  int            // bytes in all
	turned  bool           // results are stored column by column
	maps    [2][]TensorMap // of the operands
	strips  *strips        // nil where a stage's pixels are one tap's
	groups  int            // of threads: 2 take turns
	pairs   bool           // of blocks have an operand in common
	pairing pairing        // of those that the tiles have
	crossed bool           // the tensor cores take 64 columns at a time, and all rows
}

// way is the one of a choice.
func (w *wgmma) way() string {
	way := onWGMMA
	if w.strips != nil {
		way += inStrips
	}
	if w.groups > 1 {
		way += inTurns
	}
	if w.pairs {
		way += inPairs
	}
	if w.crossed {
		way += crossed
	}
	return way
}

// strips are the pixels that the taps of one column of a convolution's windows read:
// those of windows one line high, on images that are so much higher.
type strips struct {
	conv
	taps int // one above the other
}

// image is the number of pixels of a result's image.
func (s *strips) image() int { return (s.P - s.taps + 1) * s.Q }

// pixels is the number of a tile's; 0 where tiles are no pieces of images, or not
// whole ones, or where shared memory would not begin with an eighth line where the
// tensor cores do.
func (s *strips) pixels(rows, width int) int {
	image := s.image()
	piece := min(rows, image)
	if rows%piece != 0 || image%piece != 0 || piece%s.Q != 0 || piece%64 != 0 || s.N*image%rows != 0 {
		return 0
	}
	pixels := rows / piece * (piece + (s.taps-1)*s.Q)
	if pixels*2*width%1024 != 0 {
		return 0
	}
	return pixels
}

// ofCopy is the number of pixels of a copy, of those that bring a tile's in so many
// parts; 0 where they would not be whole atoms.
func ofCopy(pixels, parts int) int {
	copies := parts * ceil(pixels/parts, 256)
	if pixels%(8*copies) != 0 {
		return 0
	}
	return pixels / copies
}

// pairing is what a block has in common with another: one operand of its tile.
type pairing string

const (
	alone       pairing = "ALONE"
	sameRows    pairing = "SAME_ROWS"
	sameColumns pairing = "SAME_COLUMNS"
)

// pairing is how a tile's blocks would be paired: by the larger operand, where tiles
// are even in number.
func (op *tensorOp) pairing(t tensorTile) pairing {
	if op.wgmma == nil || !op.wgmma.pairs {
		return alone
	}
	ofRows, ofColumns := op.numbers(t)
	rows, columns := ceil(op.breadth, t.columns)%2 == 0, true
	for _, m := range op.heights {
		columns = columns && ceil(m, t.rows)%2 == 0
	}
	if s := op.wgmma.strips; s != nil {
		rows = rows && ofCopy(s.pixels(t.rows, op.wgmma.width), 2) > 0
	}
	switch {
	case rows && (ofRows >= ofColumns || !columns):
		return sameRows
	case columns:
		return sameColumns
	}
	return alone
}

// halves are the parts in which each operand of a tile is copied.
func (op *tensorOp) halves(t tensorTile) (rows, columns int) {
	switch op.pairing(t) {
	case sameRows:
		return 2, 1
	case sameColumns:
		return 1, 2
	}
	return 1, 1
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
		return g.C%8 == 0 && fit(g.pixels(1, 16))
	case graph.OpConv2DInputGrad:
		g := geometry(n, n, n.In(1), n.In(0))
		maps := g.phases(1, 16)
		return g.C%8 == 0 && g.O%8 == 0 && len(maps) <= mostMaps && fit(maps...)
	case graph.OpConv2DFilterGrad:
		g := geometry(n, n.In(0), n, n.In(1))
		return g.C%8 == 0 && g.O%8 == 0 && fit(g.pixels(1, 16))
	}
	return false
}

// fit says whether the copy engine's instructions can name what maps of images ask
// for: corners are signed bytes, the way to a tap is an unsigned one, and steps are at
// most 8 (cuTensorMapEncodeIm2col's documentation). What else it asks for follows from
// how maps are made: extents are below maxElements, strides whole lines of 16 bytes of
// images that fit into memory, boxes a line wide and a tile high.
func fit(maps ...TensorMap) bool {
	for _, m := range maps {
		for i := range 2 {
			if min(m.Lower[i], m.Upper[i]) < -128 || max(m.Lower[i], m.Upper[i]) > 127 || m.Reach[i] > 255 || m.Steps[1+i] > 8 {
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

// sm90Tiles are the tiles of conv_sm90.h, the largest first.
var sm90Tiles = []tensorTile{{256, 128}, {128, 160}, {128, 128}, {256, 64}, {128, 64}, {128, 32}}

// costsSM90 is costs for conv_sm90.h: multiprocessors take items in waves, and a
// block first brings the operands of an item and then multiplies, at the pace of the
// tensor cores or of shared memory, whichever is the slower. balance and fast are
// what the tensor cores multiply, on paper, while the second-level cache delivers a
// number, and while shared memory takes or gives one. A result costs two such
// deliveries: it is stored, and often something is read beside it.
func (op *tensorOp) costsSM90(inParts bool) (list []ranked) {
	const (
		balance   = 64
		fast      = 32
		start     = 1 << 19     // of an item, in products
		store     = 2 * balance // and of one of its results
		partStore = 2 * store   // which are stored and added up if they are parts,
		uncached  = 3           // so many times as long where the cache cannot hold these:
		cached    = 32 << 20    // bytes
		shortest  = 512         // products that are worth a part
	)
	depth := op.depth / len(op.heights)
	for _, t := range sm90Tiles {
		if !op.takes(t) {
			continue
		}
		products := max(t.rows*t.columns*op.step, fast*(op.read(t)+op.brought(t))) // of a stage
		for parts := 1; parts == 1 || inParts && parts <= multiprocessors && depth/parts >= shortest; parts++ {
			d, each := op.divided(t, parts), start+store*t.rows*t.columns
			if parts > 1 {
				each = partStore * t.rows * t.columns
				if d.parts*op.m*op.n*graph.F32.Size() > cached {
					each *= uncached
				}
				each += start
			}
			stages, _ := op.stagesOf(d)
			if stages < fewestStages {
				continue
			}
			work := d.length * (products + balance*op.gathered(t)) / op.step
			cost := ceil(d.tiles*d.parts, multiprocessors)
			if op.wgmma.groups == 1 {
				cost *= work + each
			} else {
				cost = cost*max(work, (work+each)/2) + each
			}
			list = append(list, ranked{Choice{op.wgmma.way(), t.rows, t.columns, stages, d.parts}, float64(cost)})
		}
	}
	return sorted(list)
}

// onWarpgroups lists the ways in which conv_sm90.h computes an operation that onSM90
// accepts, the one that the cost model prefers first.
func onWarpgroups(n *graph.Node) (ops []*tensorOp) {
	add := func(in func(*tensorOp, *graph.Node), w wgmma) {
		op := undivided(n, nil)
		op.wgmma = &w
		if in(op, n); w.name != "" && len(op.estimates(false)) > 0 {
			ops = append(ops, op)
		}
	}
	for _, w := range []wgmma{{groups: 1}, {groups: 1, pairs: true}, {groups: 2}, {groups: 2, pairs: true}} {
		if w.groups > 1 && n.Op() == graph.OpConv2DFilterGrad {
			break // its items are few and long
		}
		add((*tensorOp).tapsSM90, w)
		add((*tensorOp).stripsSM90, w)
		w.crossed = true
		add((*tensorOp).stripsSM90, w)
	}
	slices.SortStableFunc(ops, func(a, b *tensorOp) int { return cmp.Compare(a.rank()[0].cost, b.rank()[0].cost) })
	return ops
}

// tapsSM90 has the operation computed tap by tap.
func (op *tensorOp) tapsSM90(n *graph.Node) {
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

// beside is the shared memory that is wanted beside the stages: for each group's
// results, and its turn.
func (op *tensorOp) beside(d division) int {
	lines, line := d.rows, d.columns
	if op.wgmma.turned {
		lines, line = line, lines
	}
	results := lines * (line + 8) * op.kept(d).Size()
	if op.wgmma.groups == 1 {
		return results
	}
	return op.wgmma.groups * (results + 8)
}

// numbers is how many of each operand a stage has.
func (op *tensorOp) numbers(t tensorTile) (ofRows, ofColumns int) {
	if op.wgmma == nil || op.wgmma.strips == nil {
		return t.rows * op.step, t.columns * op.step
	}
	return op.wgmma.strips.pixels(t.rows, op.wgmma.width) * op.wgmma.width, t.columns * op.step
}

// brought is how many numbers of the operands a stage has.
func (op *tensorOp) brought(t tensorTile) int {
	ofRows, ofColumns := op.numbers(t)
	return ofRows + ofColumns
}

// gathered is how many of them the second-level cache delivers for the block: a pair
// has what is common to both delivered once.
func (op *tensorOp) gathered(t tensorTile) int {
	ofRows, ofColumns := op.numbers(t)
	rows, columns := op.halves(t)
	return ofRows/rows + ofColumns/columns
}

// takes says whether warpgroups can compute such tiles: their sums fit into registers,
// and a strip's pixels are pieces of images, or whole ones. Where the tensor cores take
// all pixels at once these are in one piece, and there are 64 columns for each
// warpgroup: of more, the assembler makes its products wait for one another.
func (op *tensorOp) takes(t tensorTile) bool {
	const mostSums = 256 * 160
	w := op.wgmma
	if t.rows*t.columns > mostSums/w.groups || w.pairs && op.pairing(t) == alone {
		return false
	}
	if w.strips == nil {
		return true
	}
	pixels := w.strips.pixels(t.rows, w.width)
	return pixels > 0 && ofCopy(pixels, 1) > 0 && (!w.crossed || t.columns*w.groups == 128 && t.rows <= w.strips.image())
}

// read is how many numbers the tensor cores read of shared memory for a stage.
func (op *tensorOp) read(t tensorTile) int {
	m, n := t.rows, t.columns
	if op.wgmma.crossed {
		m, n = n, m
	}
	return m / 64 * (64 + n) * op.step
}

// stagesOf is the number of stages that there is room for, and the shared memory of one.
func (op *tensorOp) stagesOf(d division) (stages, stage int) {
	stage = 2*op.brought(d.tensorTile) + 16
	return min(mostStages, (sharedPerBlock-op.beside(d))/stage), stage
}

func (op *tensorOp) forwardSM90(g conv) {
	op.products = g.products()
	w := op.wgmma
	w.name, w.width = "conv_forward_sm90", width(g.C)
	op.step = w.width
	op.extents(g.N*g.P*g.Q, g.O, g.R*g.S*ceil(g.C, w.width)*w.width, seldom)
	op.types = g.shape()
	op.mapped(func() [2][]TensorMap {
		rows, columns := op.halves(op.tensorTile)
		return [2][]TensorMap{{g.pixels(op.rows/rows, w.width)}, {g.filters(w.width, op.columns/columns)}}
	})
}

func (op *tensorOp) inputGradSM90(g conv) {
	op.products = g.products()
	w := op.wgmma
	w.name, w.width = "conv_input_grad_sm90", width(g.O)
	op.step = w.width
	op.extents(g.N*g.H*g.W, g.C, g.R*g.S*ceil(g.O, w.width)*w.width, seldom)
	if op.heights = g.phasePixels(); len(op.heights) > 1 {
		op.splits = never
	}
	op.types = g.shape()
	op.mapped(func() [2][]TensorMap {
		rows, columns := op.halves(op.tensorTile)
		return [2][]TensorMap{g.phases(op.rows/rows, w.width), {g.filters(op.block(), w.width/columns)}}
	})
}

// stripsSM90 has a convolution, or the gradient of its input, computed by
// conv_strips_sm90, where that is possible.
func (op *tensorOp) stripsSM90(n *graph.Node) {
	var g conv
	var s *strips
	w, gradient := op.wgmma, n.Op() == graph.OpConv2DInputGrad
	switch n.Op() {
	case graph.OpConv2D:
		g = geometry(n, n.In(0), n.In(1), n)
		s = &strips{g, g.R}
	case graph.OpConv2DInputGrad:
		g = geometry(n, n, n.In(1), n.In(0))
		s = &strips{conv{N: g.N, C: g.O, H: g.P, W: g.Q, O: g.C, P: g.H, Q: g.W, S: g.S, strideH: 1, strideW: 1, dilationH: 1, dilationW: 1, padH: g.R - 1 - g.padH, padW: g.S - 1 - g.padW}, g.R}
	}
	if s == nil || g.R == 1 || s.Q%8 != 0 || max(g.strideH, g.strideW, g.dilationH, g.dilationW) > 1 {
		return
	}
	// Lines of 128 bytes would leave room for two stages.
	w.strips, w.width = s, min(32, width(s.C))
	op.step, op.products, op.types = g.R*w.width, g.products(), g.shape()
	op.extents(s.N*s.P*s.Q, s.O, op.step*g.S*ceil(s.C, w.width), seldom)
	s.P, s.R = s.P+g.R-1, 1
	if !fit(s.conv.pixels(1, w.width)) {
		return
	}
	w.name = "conv_forward_strips_sm90"
	if gradient {
		w.name = "conv_input_grad_strips_sm90"
	}
	op.mapped(func() [2][]TensorMap {
		rows, columns := op.halves(op.tensorTile)
		filters := g.filters(w.width, op.columns/columns)
		if gradient {
			filters = g.filters(op.block(), w.width/columns)
		}
		return [2][]TensorMap{{s.conv.pixels(ofCopy(s.pixels(op.rows, w.width), rows), w.width)}, {filters}}
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
		rows, columns := op.halves(op.tensorTile)
		dy := TensorMap{Extents: [4]int{g.O, pixels, 1}, Strides: [3]int{size * g.O, size * g.O * pixels}, Box: [3]int{op.block(), op.step / columns, 1}, Steps: [4]int{1, 1, 1}, Swizzle: size * op.block()}
		return [2][]TensorMap{{g.pixels(op.step/rows, w.width)}, {dy}}
	})
}

// mapped has the operands' maps made when the operation is divided.
func (op *tensorOp) mapped(maps func() [2][]TensorMap) {
	op.finish = func() {
		_, stage := op.stagesOf(op.division)
		op.wgmma.shared = op.stages*stage + op.beside(op.division)
		op.wgmma.maps, op.wgmma.pairing = maps(), op.pairing(op.tensorTile)
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
	bounds, leave, export := "", "", "EXPORT(NAME)"
	if w.pairing != alone {
		bounds, leave, export = "__cluster_dims__(2, 1, 1) ", "  pipe.meet();\n", "EXPORT_CLUSTER(NAME, 2)"
	}
	const each = "for (u32 j = blockIdx.x; j < n; j += gridDim.x) {\n%sconst u32 i = way::item<conv::ACROSS>(j);\n"
	return fmt.Sprintf(`extern "C" __global__ void %s__launch_bounds__(wgmma_threads, 1) NAME(%s, u32 n) {
  typedef wgmma_way<%d, %v, %s> way;
%s  typedef %s<shape, %d, %d, %d, %d, way, %v> conv;
  typedef conv::tile tile;
  static_assert(tile::SHARED == %d, "");
  DYNAMIC_SHARED(u8, memory);
  conv::pipeline pipe(memory);
  wait_for_turn();
  if (threadIdx.x >= BLOCK) {
    release_registers<COPYING_REGISTERS>();
    if (threadIdx.x == BLOCK)
      %s        conv::fill(pipe, in0.of, in1.of, %s);
      }
  } else {
    acquire_registers<MULTIPLYING_REGISTERS>();
%s    %s      if (!pipe.mine(conv::steps(%s))) continue;
%s      conv::compute(pipe, %s,
        %s);
%s    }
  }
%s}
%s
`, bounds, strings.Join(params, ", "), w.groups, w.crossed, w.pairing, op.types, w.name, op.rows, op.columns, w.width, op.stages, op.kept(op.division), w.shared,
		fmt.Sprintf(each, "        "), item, shared, fmt.Sprintf(each, "      "), item, indented(before), item, result, indented(after), leave, export)
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
		Lower: [2]int{-g.padW, -g.padH}, Upper: [2]int{(g.Q-1)*g.strideW + 1 - g.padW - g.W, (g.P-1)*g.strideH + 1 - g.padH - g.H},
		Reach: [2]int{(g.S - 1) * g.dilationW, (g.R - 1) * g.dilationH}, Swizzle: size * width}
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
				m.Reach[i] = (a.taps - 1) * a.shift
			}
		}
		maps = append(maps, m)
	})
	return maps
}
