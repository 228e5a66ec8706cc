package kernel

// PackedBF16 is the number of words of a filter packed for a direction of a
// convolution in bf16. With the channels that the direction takes and gives
// called k and m, it is m/Lanes panels, the last padded with zeros, of words of
// the inner dimension. That runs over taps and k; those of the input gradient
// are sorted as for Direct, and each group of taps that meet the same pixels
// modulo the strides is padded to whole steps.
func (s ConvShape) PackedBF16(d Direction) []int {
	_, m := s.channels(d)
	words := 0
	for _, g := range s.tapGroups(d) {
		words += depthWords(g.depth)
	}
	return []int{ceilDiv(m, Lanes), words, 2 * Lanes}
}

// tapGroup is a phase of either axis, and what a row of A is made of there.
type tapGroup struct {
	vertical, across *axisPhase
	taps             []int // kh·KW + kw, in the packed order
	depth            int   // elements of the inner dimension
	at               int   // of the first of its words
}

// axes are those of the source.
func (s ConvShape) axes(d Direction) (vertical, across axis) {
	oh, ow := s.Out()
	if d == InputGrad {
		return inputGradAxis(s.H, s.KH, s.SH, s.PH, s.DH), inputGradAxis(s.W, s.KW, s.SW, s.PW, s.DW)
	}
	return forwardAxis(oh, s.KH, s.SH, s.PH, s.DH), forwardAxis(ow, s.KW, s.SW, s.PW, s.DW)
}

func (s ConvShape) tapGroups(d Direction) (groups []tapGroup) {
	vertical, across := s.axes(d)
	k, _ := s.channels(d)
	words := 0
	for i := range vertical.phases {
		for j := range across.phases {
			g := tapGroup{vertical: &vertical.phases[i], across: &across.phases[j], at: words}
			for _, kh := range g.vertical.taps {
				for _, kw := range g.across.taps {
					g.taps = append(g.taps, kh*s.KW+kw)
				}
			}
			g.depth = len(g.taps) * k
			words += depthWords(g.depth)
			groups = append(groups, g)
		}
	}
	return groups
}

// FilterPackBF16 is a plan that lays a filter out for one direction of a
// convolution in bf16. A plan is used by one goroutine at a time.
type FilterPackBF16 struct {
	ConvShape
	direction Direction
	pool      *Pool
	pairs     *pairs
	groups    []tapGroup
	panels    int
	words     int // of a panel's inner dimension
	zeros     []BF16

	panel func(worker, chunk int)
	call  struct {
		packed, ws []float32
		w          []BF16
	}
}

// NewFilterPackBF16 plans the packing of a filter. The level in use must have
// bf16.
func NewFilterPackBF16(pool *Pool, s ConvShape, d Direction) (*FilterPackBF16, error) {
	checkBF16()
	if err := s.Check(); err != nil {
		return nil, err
	}
	shape := s.PackedBF16(d)
	p := &FilterPackBF16{ConvShape: s, direction: d, pool: pool, pairs: active.pairs, groups: s.tapGroups(d), panels: shape[0], words: shape[1], zeros: make([]BF16, Lanes)}
	p.panel = p.forward
	if d == InputGrad {
		p.panel = p.turned
	}
	return p, nil
}

// Workspace returns the number of words that Run needs as scratch.
func (p *FilterPackBF16) Workspace() int { return p.pool.workers * p.scratch() }

// scratch is one worker's: a panel's rows, or two rows' elements of one.
func (p *FilterPackBF16) scratch() int {
	if p.direction == InputGrad {
		return Lanes
	}
	return Lanes * p.words
}

// Run packs w (O,KH,KW,C). packed and ws have PackedBF16's elements and
// Workspace() words. It panics where a slice is too short.
func (p *FilterPackBF16) Run(ws []float32, packed, w []BF16) {
	_, size, _ := p.sizes()
	checkLen("workspace", len(ws), p.Workspace())
	checkLen("packed filter", len(packed), p.panels*p.words*2*Lanes)
	checkLen("filter", len(w), size)
	p.call.ws, p.call.packed, p.call.w = ws, wordsOf(packed), w
	p.pool.Run(p.panels, p.panel)
	p.call.ws, p.call.packed, p.call.w = nil, nil, nil
}

func (p *FilterPackBF16) forward(worker, panel int) {
	k := p.KH * p.KW * p.C
	staging := p.call.ws[worker*p.scratch():][:p.scratch()]
	p.pairs.packLanes(min(Lanes, p.O-panel*Lanes), k, p.words, p.call.packed[panel*p.words*Lanes:], staging, p.call.w[panel*Lanes*k:], k)
}

func (p *FilterPackBF16) turned(worker, panel int) {
	edge := elements(p.call.ws[worker*p.scratch():][:p.scratch()])
	n := min(Lanes, p.C-panel*Lanes)
	for i := range p.groups {
		g := &p.groups[i]
		dst := p.call.packed[(panel*p.words+g.at)*Lanes:]
		for j := range depthWords(g.depth) {
			p.pairs.interleaveRow(n, dst[j*Lanes:], 0, p.row(g, panel, 2*j, n), p.row(g, panel, 2*j+1, n), edge)
		}
	}
}

// row is row i of a group's inner dimension: a tap and output channel.
func (p *FilterPackBF16) row(g *tapGroup, panel, i, n int) []BF16 {
	if i >= g.depth {
		return p.zeros[:n]
	}
	return p.call.w[(i%p.O*p.KH*p.KW+g.taps[i/p.O])*p.C+panel*Lanes:][:n]
}

// ConvBF16 is a plan for the result y of a convolution in bf16, or for the
// gradient dx with respect to its images. The source's pixels under a filter are
// copied to a row of A for each result, which is multiplied with the packed
// filter. A plan is used by one goroutine at a time.
type ConvBF16 struct {
	pool     *Pool
	pairs    *pairs
	halves   halves
	images   int // of the batch
	src, dst extents
	vertical axis
	across   axis
	groups   []tapGroup
	panels   int
	words    int // of a panel's inner dimension

	// A chunk is either some whole images or a band of units of one image.
	group, band, bands int
	rows, width        int // of A: rows of a chunk in whole blocks, words of the longest group
	shares             int // of the result's channels, each a chunk, where images alone are too few

	run  func(worker, chunk int)
	call struct {
		ws, packed []float32
		dst, src   []BF16
	}
}

// NewConvBF16 plans one direction of a convolution. The level in use must have
// bf16.
func NewConvBF16(pool *Pool, s ConvShape, d Direction) (*ConvBF16, error) {
	checkBF16()
	if err := s.Check(); err != nil {
		return nil, err
	}
	oh, ow := s.Out()
	shape := s.PackedBF16(d)
	f := &ConvBF16{pool: pool, pairs: active.pairs, halves: active.halves, images: s.N, src: extents{s.H, s.W, s.C}, dst: extents{oh, ow, s.O}, panels: shape[0], words: shape[1], groups: s.tapGroups(d)}
	if d == InputGrad {
		f.src, f.dst = f.dst, f.src
	}
	f.vertical, f.across = s.axes(d)
	for _, g := range f.groups {
		f.width = max(f.width, depthWords(g.depth))
	}
	f.cut()
	f.run = f.chunk
	return f, nil
}

// cut chooses the chunks.
func (f *ConvBF16) cut() {
	most := chunkRows
	if f.width > 0 {
		most = rowsPerChunk(chunkRows, f.width)
	}
	units, across := f.vertical.units, f.across.units
	f.group, f.band = max(1, min(f.images, most/(units*across))), units
	for f.group == 1 && f.band > 1 && f.band*across > most {
		f.band = ceilDiv(f.band, 2)
	}
	f.bands = ceilDiv(units, f.band)
	f.rows = ceilDiv(f.group*f.band*across, tallRows) * tallRows
	f.shares = 1
	if chunks := ceilDiv(f.images, f.group) * f.bands; f.pool.workers > 1 && chunks < minChunks {
		f.shares = min(ceilDiv(minChunks, chunks), ceilDiv(f.panels, 2))
	}
}

// Workspace returns the number of words that Run needs as scratch.
func (f *ConvBF16) Workspace() int { return f.pool.workers * f.scratch() }

// scratch is one worker's: rows of A, and sums.
func (f *ConvBF16) scratch() int { return f.rows * (rowWords(f.width) + blockCols) }

// Run computes y (N,OH,OW,O) from x (N,H,W,C), or dx from dy, and a packed
// filter. It panics where a slice is too short.
func (f *ConvBF16) Run(ws []float32, dst, src, packed []BF16) {
	checkLen("workspace", len(ws), f.Workspace())
	checkLen("result", len(dst), f.images*f.dst.size())
	checkLen("source", len(src), f.images*f.src.size())
	checkLen("packed filter", len(packed), f.panels*f.words*2*Lanes)
	f.call.ws, f.call.dst, f.call.src, f.call.packed = ws, dst, src, wordsOf(packed)
	f.pool.Run(ceilDiv(f.images, f.group)*f.bands*f.shares, f.run)
	f.call.ws, f.call.dst, f.call.src, f.call.packed = nil, nil, nil, nil
}

func (f *ConvBF16) chunk(worker, chunk int) {
	share := chunk % f.shares
	chunk /= f.shares
	n0, u0 := chunk/f.bands*f.group, chunk%f.bands*f.band
	images, units := min(f.group, f.images-n0), min(f.band, f.vertical.units-u0)
	twice := ceilDiv(f.panels, 2)
	p0, p1 := twice*share/f.shares*2, min(f.panels, twice*(share+1)/f.shares*2)
	ws := f.call.ws[worker*f.scratch():][:f.scratch()]
	for i := range f.groups {
		g := &f.groups[i]
		height := f.vertical.reach(g.vertical, units, f.dst.h-u0*f.vertical.to)
		f.phase(g, position{n0, u0, images, height, f.across.reach(g.across, f.across.units, f.dst.w)}, ws, p0, p1)
	}
}

// position says which results of a phase a chunk has: of images from n, units
// from u down and from 0 across.
type position struct{ n, u, images, height, width int }

// phase computes panels p0 to p1-1 of the results of a phase.
func (f *ConvBF16) phase(g *tapGroup, at position, ws []float32, p0, p1 int) {
	rows, words := at.images*at.height*at.width, depthWords(g.depth)
	a, c := ws[:f.rows*rowWords(f.width)], ws[f.rows*rowWords(f.width):]
	if words > 0 {
		f.patches(g, at, elements(a), 2*rowWords(words))
	} else {
		clear(c)
	}
	for p := p0; p < p1; p += 2 {
		if words > 0 {
			f.pairs.block(rows, words, a, f.call.packed[(p*f.words+g.at)*Lanes:], min(2, p1-p), f.words*Lanes, c, 0)
		}
		cols := min(blockCols, f.dst.c-p*Lanes)
		r := 0
		for n := range at.images {
			for v := range at.height {
				y := (at.u+v)*f.vertical.to + g.vertical.at
				for h := range at.width {
					x := h*f.across.to + g.across.at
					to := (((at.n+n)*f.dst.h+y)*f.dst.w+x)*f.dst.c + p*Lanes
					f.halves.round(f.call.dst[to:][:cols], c[r*blockCols:][:cols])
					r++
				}
			}
		}
	}
}

// patches copies to rows that lie pitch apart what each result is computed from,
// with zeros for what lies outside the source and behind the last tap.
func (f *ConvBF16) patches(g *tapGroup, at position, a []BF16, pitch int) {
	used := 2 * depthWords(g.depth)
	for n := range at.images {
		src := f.call.src[(at.n+n)*f.src.size():][:f.src.size()]
		for v := range at.height {
			y := f.vertical.first + (at.u+v)*f.vertical.from
			for h := range at.width {
				row := a[:used]
				a = a[min(len(a), pitch):]
				x := f.across.first + h*f.across.from
				for _, down := range g.vertical.offsets {
					row = row[f.src.pixels(row, src, y+down, x, g.across.offsets):]
				}
				clear(row)
			}
		}
	}
}

// pixels copies the pixels of a row of an image at offsets from x, and returns
// how many elements these are.
func (e extents) pixels(dst, src []BF16, y, x int, offsets []int) int {
	n := len(offsets)
	if y < 0 || y >= e.h {
		clear(dst[:n*e.c])
		return n * e.c
	}
	line := src[y*e.w*e.c:][:e.w*e.c]
	if n > 0 && offsets[n-1]-offsets[0] == n-1 { // side by side
		x += offsets[0]
		left, right := min(n, max(0, -x)), max(0, min(n, e.w-x))
		clear(dst[:left*e.c])
		if left < right {
			copy(dst[left*e.c:right*e.c], line[(x+left)*e.c:])
		}
		clear(dst[max(left, right)*e.c : n*e.c])
		return n * e.c
	}
	for i, o := range offsets {
		to := dst[i*e.c:][:e.c]
		if x+o < 0 || x+o >= e.w {
			clear(to)
		} else {
			copy(to, line[(x+o)*e.c:])
		}
	}
	return n * e.c
}

// ConvFilterGradBF16 is a plan for dw, the gradient of a convolution in bf16
// with respect to its filter: the product of dy, turned, with what its pixels
// were computed from; the inner dimension runs over pixels.
//
// The batch is cut into parts, their number fixed by the shape. Each part sums
// into an array of its own, and these are added in order. A plan is used by one
// goroutine at a time.
type ConvFilterGradBF16 struct {
	ConvShape
	pool     *Pool
	pairs    *pairs
	halves   halves
	vertical axis
	across   axis
	oh, ow   int
	parts    []block
	rows     int // of dw, in whole blocks
	panels   int // of a row of taps, kw and c
	words    int // of the pixels that are taken together
	zeros    []BF16

	partial, reduce func(worker, chunk int)
	call            struct {
		dw, x, dy []BF16
		sums, ws  []float32
	}
}

const gradPixels = 256 // taken together, at most

// NewConvFilterGradBF16 plans the gradient of a convolution's filter. The level
// in use must have bf16.
func NewConvFilterGradBF16(pool *Pool, s ConvShape) (*ConvFilterGradBF16, error) {
	checkBF16()
	if err := s.Check(); err != nil {
		return nil, err
	}
	g := &ConvFilterGradBF16{ConvShape: s, pool: pool, pairs: active.pairs, halves: active.halves}
	g.oh, g.ow = s.Out()
	g.vertical, g.across = s.axes(Forward)
	g.rows, g.panels = ceilDiv(s.O, tallRows)*tallRows, ceilDiv(s.KW*s.C, Lanes)
	g.parts = blocks(s.N, ceilDiv(s.N, max(1, min(maxParts, maxPartials/g.partSize()))))
	g.words = depthWords(min(gradPixels, largest(g.parts)*g.oh*g.ow))
	g.zeros = make([]BF16, max(s.O, g.panels*Lanes))
	g.partial, g.reduce = g.partialChunk, g.reduceChunk
	return g, nil
}

// tapSize is the number of one part's sums for a row of taps: blocks of columns.
func (g *ConvFilterGradBF16) tapSize() int { return ceilDiv(g.panels, 2) * g.rows * blockCols }

// partSize is the number of elements of one part's sums.
func (g *ConvFilterGradBF16) partSize() int { return g.KH * g.tapSize() }

// Workspace returns the number of words that Run needs as scratch.
func (g *ConvFilterGradBF16) Workspace() int {
	return len(g.parts)*g.partSize() + g.pool.workers*g.scratch()
}

// scratch is one worker's share of the workspace: dy, turned; panels of pixels;
// 8 rows of words of dy; two rows of elements of pixels and of a panel.
func (g *ConvFilterGradBF16) scratch() int {
	return g.rows*rowWords(g.words) + g.panels*Lanes*g.words + 8*g.rows + g.panels*Lanes + Lanes
}

// Run computes dw (O,KH,KW,C) from x (N,H,W,C) and dy (N,OH,OW,O). It panics
// where a slice is too short.
func (g *ConvFilterGradBF16) Run(ws []float32, dw, x, dy []BF16) {
	sizeX, sizeW, sizeY := g.sizes()
	checkLen("workspace", len(ws), g.Workspace())
	checkLen("filter gradient", len(dw), sizeW)
	checkLen("x", len(x), sizeX)
	checkLen("dy", len(dy), sizeY)
	sums := len(g.parts) * g.partSize()
	g.call.dw, g.call.x, g.call.dy = dw, x, dy
	g.call.sums, g.call.ws = ws[:sums], ws[sums:]
	g.pool.Run(len(g.parts)*g.KH, g.partial)
	g.pool.Run(g.KH*ceilDiv(g.panels, 2), g.reduce)
	g.call.dw, g.call.x, g.call.dy, g.call.sums, g.call.ws = nil, nil, nil, nil, nil
}

// partialChunk sums one part of the batch for one row of taps.
func (g *ConvFilterGradBF16) partialChunk(worker, chunk int) {
	part, kh := g.parts[chunk/g.KH], chunk%g.KH
	sums := g.call.sums[chunk/g.KH*g.partSize()+kh*g.tapSize():][:g.tapSize()]
	ws := g.call.ws[worker*g.scratch():][:g.scratch()]
	a, ws := ws[:g.rows*rowWords(g.words)], ws[g.rows*rowWords(g.words):]
	b, ws := ws[:g.panels*Lanes*g.words], ws[g.panels*Lanes*g.words:]
	first, end := part.from*g.oh*g.ow, (part.from+part.n)*g.oh*g.ow
	beta := 0
	for pixel := first; pixel < end; pixel += 2 * g.words {
		g.turn(a, ws, pixel, end)
		g.pixels(b, ws[8*g.rows:], pixel, end, kh)
		for p := 0; p < g.panels; p += 2 {
			g.pairs.block(g.rows, g.words, a, b[p*g.words*Lanes:], min(2, g.panels-p), g.words*Lanes, sums[p/2*g.rows*blockCols:], beta)
		}
		beta = 1
	}
}

// turn makes rows of A, one for each output channel, of the pixels of dy from one
// on, 8 rows of words at a time.
func (g *ConvFilterGradBF16) turn(a, ws []float32, pixel, end int) {
	edge := elements(ws[8*g.rows+g.panels*Lanes:])
	row := func(i int) []BF16 {
		if i >= end {
			return g.zeros[:g.O]
		}
		return g.call.dy[i*g.O:][:g.O]
	}
	for i := 0; i < g.words; i += 8 {
		for j := range 8 {
			at := pixel + 2*(i+j)
			g.pairs.interleaveRow(g.O, ws[j*g.rows:], Lanes, row(at), row(at+1), edge[:2*Lanes])
		}
		g.pairs.transpose(8, ceilDiv(g.O, Lanes)*Lanes, a[i:], rowWords(g.words), ws, g.rows)
	}
}

// pixels packs what a row of taps meets under the pixels of dy from one on.
func (g *ConvFilterGradBF16) pixels(b, ws []float32, pixel, end, kh int) {
	wide := g.panels * Lanes
	lines := elements(ws)[:2*wide]
	e := extents{g.H, g.W, g.C}
	row := func(line []BF16, i int) []BF16 {
		if i >= end {
			return g.zeros[:wide]
		}
		n, y, x := i/(g.oh*g.ow), i/g.ow%g.oh, i%g.ow
		used := e.pixels(line, g.call.x[n*e.size():][:e.size()], g.vertical.first+y*g.vertical.from+g.vertical.phases[0].offsets[kh], g.across.first+x*g.across.from, g.across.phases[0].offsets)
		clear(line[used:])
		return line
	}
	for i := range g.words {
		g.pairs.interleave(g.panels, b[i*Lanes:], g.words*Lanes, row(lines[:wide], pixel+2*i), row(lines[wide:], pixel+2*i+1))
	}
}

// reduceChunk adds the parts' sums for some columns, in order, and rounds them.
func (g *ConvFilterGradBF16) reduceChunk(_, chunk int) {
	kh, p := chunk/ceilDiv(g.panels, 2), chunk%ceilDiv(g.panels, 2)
	size := g.rows * blockCols
	sums := g.call.sums[kh*g.tapSize()+p*size:][:size]
	for i := 1; i < len(g.parts); i++ {
		Add(sums, sums, g.call.sums[i*g.partSize()+kh*g.tapSize()+p*size:])
	}
	cols := min(blockCols, g.KW*g.C-p*blockCols)
	for o := range g.O {
		g.halves.round(g.call.dw[(o*g.KH+kh)*g.KW*g.C+p*blockCols:][:cols], sums[o*blockCols:][:cols])
	}
}
