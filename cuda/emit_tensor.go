package cuda

import (
	"fmt"
	"slices"
	"strings"

	"temper/engine/graph"
)

// tensorTile is a tensor_tile of kernels/tensor.h.
type tensorTile struct{ rows, columns int }

// shared is tensor_shared.
func (t tensorTile) shared(size, stages int, aAlongK, bAlongK bool) int {
	operand := func(extent int, alongK bool) int {
		if alongK {
			return extent * (64 + 16)
		}
		return 64 / size * (extent + 8) * size
	}
	return max(stages*(operand(t.rows, aAlongK)+operand(t.columns, bAlongK)), 4*t.rows*(t.columns+8))
}

// wanted is the number of blocks that keep a large GPU busy. It is no property
// of the device at hand: where nothing is timed, what is summed in which order
// must not depend on that.
const wanted = 2 * 132

// division is how a product of matrices is divided into blocks: into tiles, and
// its depth into parts of some length.
type division struct {
	tensorTile
	tiles, parts, length int
}

// divided is the division into tiles and parts, which are multiples of step.
func (op *tensorOp) divided(t tensorTile, parts int) division {
	d := division{tensorTile: t, parts: 1, length: op.depth / len(op.heights)}
	for _, m := range op.heights {
		d.tiles += ceil(m, t.rows) * ceil(op.breadth, t.columns)
	}
	if parts > 1 {
		d.length = ceil(ceil(op.depth, parts), op.step) * op.step
		d.parts = ceil(op.depth, d.length)
	}
	return d
}

// splits says whether the sums of a contraction may be taken in parts, which are
// stored and added up behind it.
type splits int

const (
	never  splits = iota
	seldom        // where there are few tiles: an epilogue is worth more
	freely
)

// rank lists the divisions, those that the cost model takes to be the fastest
// first.
func (op *tensorOp) rank() []ranked {
	list := op.estimates(op.splits == freely)
	if op.splits == seldom && 2*op.divided(tensorTile{128, 64}, 1).tiles <= multiprocessors {
		list = op.estimates(true)
	}
	return list
}

// estimates is the cost model of the way of computing the operation.
func (op *tensorOp) estimates(inParts bool) []ranked {
	switch {
	case op.wgmma != nil:
		return op.costsSM90(inParts)
	case op.byTaps.rows > 0:
		return []ranked{{Choice{onTaps, op.byTaps.rows, op.byTaps.columns, usualStages, 1}, 1}}
	}
	return op.costs(inParts)
}

// usualStages are those of a tensor_tile; with more, fewer blocks share a
// multiprocessor.
const usualStages = 3

// mmaTiles are the tiles of tensor.h, and the pace of their products relative to
// that of the largest one's.
var mmaTiles = []struct {
	tensorTile
	pace float64
}{{tensorTile{128, 128}, 1}, {tensorTile{128, 64}, 0.85}, {tensorTile{64, 64}, 0.65}, {tensorTile{64, 32}, 0.45}, {tensorTile{128, 16}, 0.35}}

// fits says whether the sums of a tile fit into registers.
func (op *tensorOp) fits(t tensorTile) bool {
	return op.t != graph.F32 || t.rows*t.columns < 128*128
}

// costs estimates the time that blocks take in all. Large tiles read less, small
// ones waste less at the edges and fill the GPU; so do parts, but their sums have
// to be stored and added up.
func (op *tensorOp) costs(inParts bool) (list []ranked) {
	const (
		shortest  = 512 // products that are worth a part
		start     = 4e6 // of a block, in products
		partStore = 256 // and of storing and adding up one of its sums
	)
	for _, t := range mmaTiles {
		if !op.fits(t.tensorTile) {
			continue
		}
		add := func(parts int) {
			d := op.divided(t.tensorTile, parts)
			each := float64(d.length) / t.pace
			if d.parts > 1 {
				each += partStore
			}
			cost := float64(ceil(op.batch*d.tiles*d.parts, wanted)) * (float64(t.rows*t.columns)*each + start)
			list = append(list, ranked{Choice{onMMA, t.rows, t.columns, usualStages, d.parts}, cost})
		}
		add(1)
		if parts := min(wanted/op.divided(t.tensorTile, 1).tiles, op.depth/shortest); inParts && op.batch == 1 && parts > 1 {
			add(parts)
		}
	}
	return sorted(list)
}

func ceil(a, b int) int { return (a + b - 1) / b }

// onTensorTiles says whether an operation is computed by tensor_contract.
func onTensorTiles(n *graph.Node) bool {
	if t := n.DType(); t != graph.F32 && t != graph.BF16 {
		return false
	}
	switch n.Op() {
	case graph.OpMatMul:
		return true
	case graph.OpConv2D, graph.OpConv2DInputGrad, graph.OpConv2DFilterGrad:
		return n.Attrs().Layout == graph.NHWC
	}
	return false
}

// tensorOp is an operation that tensor_contract computes.
type tensorOp struct {
	t                graph.DType
	precision        graph.Precision
	batch            int   // products of matrices
	m, n, depth      int   // of each
	heights          []int // of the results that tiles cover: a phase's rows
	breadth          int   // and columns
	splits           splits
	step             int // products of a stage
	stages           int // in shared memory
	division             // of each
	aAlongK, bAlongK bool
	types            string     // declarations that the call uses
	way              *way       // what becomes of an image before it is read; or nil
	call             string     // of the template: tile, part, begin, end and result are still to be given
	wgmma            *wgmma     // nil but where warpgroups compute it, without a call
	byTaps           tensorTile // the tile where taps are columns
	products         int        // that count
	finish           func()     // fills in what follows from the division; nil if nothing does
	timed            int        // candidates that were timed to choose the division; 0 where the cost model did
}

// newTensorOp is a contraction, of which the image goes some way if that is not
// nil, divided as a record says for the problem or else as the cost model does.
func newTensorOp(n *graph.Node, w *way, t target, behind bool) *tensorOp {
	ops := tensorOps(n, w, t)
	name := problem(n, w, behind)
	if c, found := t.chosen[name]; found {
		for _, op := range ops {
			if op.accepts(c) {
				op.take(c)
				op.timed = len(t.times[name])
				return op
			}
		}
	}
	ops[0].take(ops[0].rank()[0].Choice)
	return ops[0]
}

// tensorOps are the ways of computing a contraction, not divided yet; the one
// that is usually the fastest first.
func tensorOps(n *graph.Node, w *way, t target) (ops []*tensorOp) {
	if w == nil && onSM90(n, t.capability) {
		ops = slices.DeleteFunc(onWarpgroups(n), func(op *tensorOp) bool { return t.leavesOut(op.wgmma.way()) })
	}
	if n.Op() == graph.OpConv2DInputGrad {
		op := undivided(n, nil)
		if op.step = 64 / op.t.Size(); op.inputGradByTaps(geometry(n, n, n.In(1), n.In(0))) {
			ops = append(ops, op)
		}
	}
	op := undivided(n, w)
	op.step = 64 / op.t.Size()
	switch n.Op() {
	case graph.OpMatMul:
		op.matMul(n)
	case graph.OpConv2D:
		op.forward(geometry(n, n.In(0), n.In(1), n))
	case graph.OpConv2DInputGrad:
		op.inputGrad(geometry(n, n, n.In(1), n.In(0)))
	default:
		op.filterGrad(geometry(n, n.In(0), n, n.In(1)))
	}
	return append(ops, op)
}

func undivided(n *graph.Node, w *way) *tensorOp {
	return &tensorOp{t: n.DType(), precision: n.Attrs().Precision, batch: 1, way: w}
}

// take divides the operation.
func (op *tensorOp) take(c Choice) {
	op.division, op.stages = op.divided(c.tile(), c.Parts), c.Stages
	if op.finish != nil {
		op.finish()
	}
}

func (op *tensorOp) extents(m, n, depth int, s splits) {
	op.m, op.n, op.depth, op.splits = m, n, depth, s
	op.heights, op.breadth = []int{m}, n
}

func (op *tensorOp) matMul(n *graph.Node) {
	a := n.Attrs()
	m, columns, depth := n.Dim(-2), n.Dim(-1), n.In(0).Dim(-1)
	if a.TA {
		depth = n.In(0).Dim(-2)
	}
	op.batch = n.Size() / (m * columns)
	op.extents(m, columns, depth, freely)
	op.products = op.batch * m * columns * depth
	op.aAlongK, op.bAlongK = !a.TA, a.TB
	operand := func(in string, alongK bool, extent int) string {
		stride := extent
		if alongK {
			stride = depth
		}
		return fmt.Sprintf("matrix<%v, %v, %d>{%s%s}", op.t, alongK, stride, in, op.ofBatch(extent*depth))
	}
	op.call = fmt.Sprintf("tensor_matmul<tile, %d, %d>(shared, TILE, %s, %s, BEGIN, END, RESULT)", m, columns,
		operand("in0", op.aAlongK, m), operand("in1", op.bAlongK, columns))
}

// ofBatch is the offset of the block's matrix among those of a batch.
func (op *tensorOp) ofBatch(size int) string {
	if op.batch == 1 {
		return ""
	}
	return fmt.Sprintf(" + i / TILESu * %du", size)
}

// shape declares the convolution.
func (g conv) shape() string {
	return fmt.Sprintf("  typedef convolution<%d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d> shape;\n",
		g.N, g.C, g.H, g.W, g.O, g.R, g.S, g.P, g.Q, g.strideH, g.strideW, g.padH, g.padW, g.dilationH, g.dilationW)
}

func (op *tensorOp) forward(g conv) {
	op.products = g.products()
	op.extents(g.N*g.P*g.Q, g.O, g.R*g.S*g.C, freely)
	op.aAlongK, op.bAlongK = true, true
	op.types = g.shape()
	op.call = fmt.Sprintf("conv_forward<tile, shape>(shared, TILE, %s, in1, BEGIN, END, RESULT)", op.image("pixels_by_taps"))
}

// image is the Source of the image.
func (op *tensorOp) image(source string) string {
	source = fmt.Sprintf("%s<%v, shape>", source, op.t)
	if op.way == nil {
		return source + "(in0)"
	}
	op.types += op.way.source
	return fmt.Sprintf("on_the_way<%s, decltype(way)>(in0, way)", source)
}

func (op *tensorOp) filterGrad(g conv) {
	op.products = g.products()
	op.extents(g.O, g.R*g.S*g.C, g.N*g.P*g.Q, freely)
	op.types = g.shape()
	op.call = fmt.Sprintf("conv_filter_grad<tile, shape>(shared, TILE, %s, in1, BEGIN, END, RESULT)", op.image("taps_by_pixels"))
}

func (op *tensorOp) inputGrad(g conv) {
	op.products = g.products()
	op.extents(g.N*g.H*g.W, g.C, g.R*g.S*g.O, never)
	op.aAlongK = true
	op.types = g.shape()
	op.call = "conv_input_grad<tile, shape>(shared, TILE, in0, in1, RESULT)"
	op.heights = g.phasePixels()
}

// tapTiles are the tiles for taps as columns.
var tapTiles = []tensorTile{{256, 32}, {128, 64}}

// inputGradByTaps is inputGrad by conv_input_grad_few, which is for few channels; it
// returns false where that is no better: a tile has to have whole rows of the output,
// and no more of them for its edges than for itself.
func (op *tensorOp) inputGradByTaps(g conv) bool {
	if g.C > 4 || g.strideH != 1 || g.strideW != 1 {
		return false
	}
	taps, reach := g.R*g.S*g.C, (g.R-1)*g.dilationH
	for _, t := range tapTiles {
		down := min(g.H, t.rows/g.Q-reach)
		if taps > t.columns || down < max(1, reach) {
			continue
		}
		tiles := ceil(g.H, down)
		down = ceil(g.H, tiles)
		op.extents(g.N*g.H*g.W, g.C, g.O, never)
		op.heights, op.breadth = []int{g.N * tiles * t.rows}, taps
		op.byTaps, op.aAlongK, op.products = t, true, g.products()
		op.types = g.shape()
		op.call = fmt.Sprintf("conv_input_grad_few<tile, shape, %d>(shared, TILE, in0, in1, RESULT)", down)
		return true
	}
	return false
}

// products is the number of products of a convolution, or of one of its gradients,
// the padding's included.
func (g conv) products() int { return g.N * g.P * g.Q * g.O * g.R * g.S * g.C }

// multiplied is the number of products that tiles compute, and the bytes of operands
// that are brought to shared memory for them.
func (op *tensorOp) multiplied() (products, bytes int) {
	stages := ceil(op.depth/len(op.heights), op.step)
	tiles := op.tiles * op.batch
	return tiles * op.rows * op.columns * stages * op.step, tiles * op.gathered(op.tensorTile) * stages * op.t.Size()
}

// kernels of the operation: its own, and where the depth is split one that adds
// the parts up, in their order.
func (op *tensorOp) kernels() []OpKernel {
	out, to := op.t, Result
	if op.parts > 1 {
		out, to = graph.F32, Scratch
	}
	args := []int{0, 1}
	if op.way != nil {
		for i := range op.way.params {
			args = append(args, 2+i)
		}
	}
	args = append(args, to)
	params := append(op.params(), fmt.Sprintf("%v* __restrict__ out", out))
	items := op.tiles * op.batch * op.parts
	k := []OpKernel{{Source: op.source(params, "", op.storing(), ""), Args: args, Items: items, Blocks: items, Shared: op.shared(), Tiling: op.tiling(), Warpgroups: op.wgmma}}
	if op.parts > 1 {
		k = append(k, op.sum())
	}
	return k
}

// scratch is the memory that the operation needs beside its result, in bytes.
func (op *tensorOp) scratch() int {
	if op.parts == 1 {
		return 0
	}
	return op.parts * op.m * op.n * graph.F32.Size()
}

// shared is the shared memory that a block needs.
func (op *tensorOp) shared() int {
	if op.wgmma != nil {
		return op.wgmma.shared
	}
	return op.tensorTile.shared(op.t.Size(), op.stages, op.aAlongK, op.bAlongK)
}

// params are the operands, and what the image meets on its way.
func (op *tensorOp) params() []string {
	if op.wgmma != nil {
		return op.wgmma.params()
	}
	params := []string{fmt.Sprintf("const %v* in0", op.t), fmt.Sprintf("const %v* in1", op.t)}
	if op.way != nil {
		params = append(params, op.way.params...)
	}
	return params
}

// storing is the Result that stores the sums.
func (op *tensorOp) storing() string {
	position := fmt.Sprintf("out + row * %du + column", op.n)
	switch {
	case op.batch > 1:
		position += fmt.Sprintf(" + i / %du * %du", op.tiles, op.m*op.n)
	case op.parts > 1:
		position += fmt.Sprintf(" + i / %du * %du", op.tiles, op.m*op.n)
	}
	return fmt.Sprintf("[&](u32 row, u32 column, const f32 (&v)[8]) { store_sums<%d>(%s, column, v); }", op.n, position)
}

// tiling says how the operation is divided, for people.
func (op *tensorOp) tiling() string {
	text := fmt.Sprintf("%d tiles of %d x %d", op.tiles*op.batch, op.rows, op.columns)
	if op.parts > 1 {
		text += fmt.Sprintf(", %d parts", op.parts)
	}
	switch {
	case op.wgmma != nil:
		text = fmt.Sprintf("%s, %s, %d stages of %d", op.wgmma.way(), text, op.stages, op.step)
	case op.t == graph.F32 && op.precision == graph.PrecisionFloat32:
		text = "no tensor cores, " + text
	default:
		text = "mma.sync, " + text
	}
	if op.wgmma == nil && op.stages != usualStages {
		text += fmt.Sprintf(", %d stages", op.stages)
	}
	if op.byTaps.rows > 0 {
		text += ", taps as columns"
	}
	products, bytes := op.multiplied()
	text += fmt.Sprintf("; %.0f %% of the products count, %.3g MB gathered", 100*float64(op.products)/float64(products), float64(bytes)/1e6)
	if op.timed > 0 {
		text += fmt.Sprintf(", the fastest of %d", op.timed)
	}
	return text
}

// across is the number of tiles side by side.
func (op *tensorOp) across() int { return ceil(op.n, op.columns) }

// source is the kernel's with some Result, and what stands before and after the
// contraction of a tile.
func (op *tensorOp) source(params []string, before, result, after string) string {
	if op.wgmma != nil {
		return op.sourceSM90(params, before, result, after)
	}
	tile, begin, end := op.part()
	call := strings.NewReplacer("TILESu", fmt.Sprintf("%du", op.tiles), "TILE", tile, "BEGIN", begin, "END", end, " RESULT", "\n        "+result).Replace(op.call)
	precision := ""
	if op.t == graph.F32 {
		precision = map[graph.Precision]string{graph.PrecisionFloat32: ", EXACT", graph.PrecisionTF32x3: ", TF32X3", graph.PrecisionTF32: ", TF32"}[op.precision]
	}
	if op.stages != usualStages {
		if precision == "" {
			precision = ", EXACT"
		}
		precision += fmt.Sprintf(", %d", op.stages)
	}
	return fmt.Sprintf(`extern "C" __global__ void __launch_bounds__(BLOCK, 2) NAME(%s, u32 n) {
  typedef tensor_tile<%v, %d, %d%s> tile;
%s  static_assert(tensor_shared<tile, %v, %v>() == %d, "");
  DYNAMIC_SHARED(u8, shared);
  wait_for_turn();
  for (u32 i = blockIdx.x; i < n; i += gridDim.x) {
%s    %s;
%s  }
}
EXPORT(NAME)
`, strings.Join(params, ", "), op.t, op.rows, op.columns, precision, op.types, op.aAlongK, op.bAlongK, op.shared(), before, call, after)
}

// part is item i: a tile, and the products to add up, from begin to end.
func (op *tensorOp) part() (tile, begin, end string) {
	tile, begin, end = "i", "0", fmt.Sprint(op.depth)
	switch {
	case op.batch > 1:
		tile = fmt.Sprintf("i %% %du", op.tiles)
	case op.parts > 1:
		tile, begin = fmt.Sprintf("i %% %du", op.tiles), fmt.Sprintf("i / %du * %du", op.tiles, op.length)
		end = fmt.Sprintf("smaller((i / %du + 1) * %du, %du)", op.tiles, op.length, op.depth)
	}
	return tile, begin, end
}

func (op *tensorOp) sum() OpKernel {
	size := op.m * op.n
	source := fmt.Sprintf(`extern "C" __global__ void NAME(const f32* in0, %v* __restrict__ out, u32 n) {
  wait_for_turn();
  for (u32 i = blockIdx.x * BLOCK + threadIdx.x; i < n; i += gridDim.x * BLOCK) {
    f32 s = in0[i];
    UNROLL for (u32 k = 1; k < %du; k++) s += in0[k * %du + i];
    out[i] = convert<%v>(s);
  }
}
EXPORT(NAME)
`, op.t, op.parts, size, op.t)
	return OpKernel{Source: source, Args: []int{Scratch, Result}, Items: size, Blocks: ceil(size, BlockThreads)}
}
