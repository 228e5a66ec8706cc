package kernel

import "fmt"

// Gemm is a plan for C = beta·C + op(A)·op(B), where op(A) is (M, K), op(B)
// is (K, N), C is (M, N) and op is the identity or the transpose. Matrices are
// row-major with a leading dimension, the distance between rows. The product
// is blocked and packed after Goto and van de Geijn ("Anatomy of
// high-performance matrix multiplication", TOMS 2008). Each element is summed
// over K in one order, whatever the number of workers.
//
// A plan is used by one goroutine at a time.
type Gemm[T Float] struct {
	m, n, k        int
	transA, transB bool

	pool   *Pool
	micro  *micro[T]
	rows   split // of M into tiles
	panels int   // of N

	depth       int // inner dimension packed at a time: K or a multiple of blockK
	packTiles   int // tiles or panels packed by one chunk
	packPanels  int
	packChunks  int
	chunkTiles  int // tiles by panels multiplied by one chunk
	chunkPanels int
	colChunks   int // chunks that share their tiles
	chunks      int

	pack, multiply func(worker, chunk int)
	call           gemmCall[T]
}

// gemmCall is what one Run works on.
type gemmCall[T Float] struct {
	a, b, c          []T
	lda, ldb, ldc    int
	packedA, packedB []T
	apart            []T // (workers, rows of a chunk, nr): edge panels
	k0, depth        int // part of the inner dimension being packed
	beta             int
}

const (
	maxPacked    = 4 << 20 // elements of both operands packed at a time
	maxTiles     = 20      // of one chunk: its A block stays in the second-level cache
	chunkWork    = 4 << 20 // multiply-adds of one chunk, roughly
	packPerChunk = 1 << 14 // elements packed by one chunk, at least
)

// NewGemm plans a product of op(A) (m, k) and op(B) (k, n). It panics on
// negative dimensions.
func NewGemm[T Float](pool *Pool, m, n, k int, transA, transB bool) *Gemm[T] {
	if m < 0 || n < 0 || k < 0 {
		panic(fmt.Sprintf("BUG: kernel: gemm of %d×%d×%d", m, n, k))
	}
	g := &Gemm[T]{m: m, n: n, k: k, transA: transA, transB: transB, pool: pool, micro: microFor[T]()}
	g.pack, g.multiply = g.packChunk, g.multiplyChunk
	if m == 0 || n == 0 || k == 0 {
		return g
	}
	mr, nr := g.micro.mr, g.micro.nr
	g.rows = newSplit(m, mr)
	g.panels = ceilDiv(n, nr)

	width := g.rows.tiles*mr + g.panels*nr
	g.depth = k
	if k*width > maxPacked {
		g.depth = min(k, max(1, maxPacked/width/blockK)*blockK)
	}
	rowChunks := ceilDiv(g.rows.tiles, maxTiles)
	g.chunkTiles = ceilDiv(g.rows.tiles, rowChunks)
	g.chunkPanels = min(g.panels, max(1, chunkWork/(g.chunkTiles*mr*nr*g.depth)))
	g.colChunks = ceilDiv(g.panels, g.chunkPanels)
	g.chunks = ceilDiv(g.rows.tiles, g.chunkTiles) * g.colChunks

	g.packTiles = min(g.rows.tiles, packPerChunk/(mr*g.depth)+1)
	g.packPanels = min(g.panels, packPerChunk/(nr*g.depth)+1)
	g.packChunks = g.tileChunks() + ceilDiv(g.panels, g.packPanels)
	return g
}

// tileChunks is the number of chunks that pack A; the others pack B.
func (g *Gemm[T]) tileChunks() int { return ceilDiv(g.rows.tiles, g.packTiles) }

// Workspace returns the number of elements that Run needs as scratch.
func (g *Gemm[T]) Workspace() int {
	mr, nr := g.micro.mr, g.micro.nr
	return g.depth*(g.panels*nr+g.rows.tiles*mr) + g.pool.workers*g.chunkTiles*mr*nr
}

// Run computes C = beta·C + op(A)·op(B); beta is 0 or 1. ws has at least
// Workspace() elements; a slice that begins on a 64-byte boundary is fastest.
// C overlaps neither operand. Run panics where a slice is too short.
func (g *Gemm[T]) Run(ws, a []T, lda int, b []T, ldb int, beta int, c []T, ldc int) {
	g.check(ws, a, lda, b, ldb, beta, c, ldc)
	if g.m == 0 || g.n == 0 {
		return
	}
	if g.k == 0 {
		if beta == 0 {
			for i := range g.m {
				clear(c[i*ldc:][:g.n])
			}
		}
		return
	}
	mr, nr := g.micro.mr, g.micro.nr
	sizeB, sizeA := g.depth*g.panels*nr, g.depth*g.rows.tiles*mr
	g.call = gemmCall[T]{
		a: a, b: b, c: c, lda: lda, ldb: ldb, ldc: ldc,
		packedB: ws[:sizeB], packedA: ws[sizeB:][:sizeA], apart: ws[sizeB+sizeA:],
	}
	for k0 := 0; k0 < g.k; k0 += g.depth {
		g.call.k0, g.call.depth = k0, min(g.depth, g.k-k0)
		g.call.beta = beta
		g.pool.Run(g.packChunks, g.pack)
		g.pool.Run(g.chunks, g.multiply)
		beta = 1
	}
	g.call = gemmCall[T]{}
}

// RunBatch runs batch products of matrices that lie strideA, strideB and
// strideC apart; a stride of 0 uses one operand for all of them.
func (g *Gemm[T]) RunBatch(batch int, ws, a []T, lda, strideA int, b []T, ldb, strideB int, beta int, c []T, ldc, strideC int) {
	for i := range batch {
		g.Run(ws, a[i*strideA:], lda, b[i*strideB:], ldb, beta, c[i*strideC:], ldc)
	}
}

func (g *Gemm[T]) check(ws, a []T, lda int, b []T, ldb int, beta int, c []T, ldc int) {
	if beta != 0 && beta != 1 {
		panic(fmt.Sprintf("BUG: kernel: gemm with beta %d, want 0 or 1", beta))
	}
	if n := g.Workspace(); len(ws) < n {
		panic(fmt.Sprintf("BUG: kernel: gemm workspace of %d elements, want %d", len(ws), n))
	}
	matrix := func(name string, rows, cols, ld, have int) {
		if rows > 0 && cols > 0 && (ld < cols || have < (rows-1)*ld+cols) {
			panic(fmt.Sprintf("BUG: kernel: gemm operand %s is %d×%d with leading dimension %d, but has %d elements", name, rows, cols, ld, have))
		}
	}
	ra, ca, rb, cb := g.m, g.k, g.k, g.n
	if g.transA {
		ra, ca = ca, ra
	}
	if g.transB {
		rb, cb = cb, rb
	}
	matrix("A", ra, ca, lda, len(a))
	matrix("B", rb, cb, ldb, len(b))
	matrix("C", g.m, g.n, ldc, len(c))
}

// packChunk packs some tiles of A or some panels of B. Both are laid out as
// one block after the other of blockK of the inner dimension.
func (g *Gemm[T]) packChunk(_, chunk int) {
	tileChunks := g.tileChunks()
	for k := 0; k < g.call.depth; k += blockK {
		kc := min(blockK, g.call.depth-k)
		if chunk < tileChunks {
			t := chunk * g.packTiles
			g.packA(t, min(t+g.packTiles, g.rows.tiles), k, kc)
			continue
		}
		p := (chunk - tileChunks) * g.packPanels
		for end := min(p+g.packPanels, g.panels); p < end; p++ {
			g.packB(p, k, kc)
		}
	}
}

func (g *Gemm[T]) packA(t0, t1, k, kc int) {
	c := &g.call
	dst := c.packedA[k*g.rows.tiles*g.micro.mr:]
	if g.transA {
		g.micro.packColumns(g.rows, t0, t1, kc, dst, c.a[(c.k0+k)*c.lda:], c.lda)
	} else {
		g.micro.packRows(g.rows, t0, t1, kc, dst, c.a[c.k0+k:], c.lda)
	}
}

func (g *Gemm[T]) packB(p, k, kc int) {
	c, m := &g.call, g.micro
	dst := c.packedB[k*g.panels*m.nr+p*kc*m.nr:][:kc*m.nr]
	col := p * m.nr
	cols := min(m.nr, g.n-col)
	switch {
	case g.transB:
		m.packLanes(cols, kc, dst, m.nr, c.b[col*c.ldb+c.k0+k:], c.ldb)
	case cols == m.nr:
		m.copyPanel(kc, dst, c.b[(c.k0+k)*c.ldb+col:], c.ldb)
	default:
		m.packEdge(kc, cols, dst, c.b[(c.k0+k)*c.ldb+col:], c.ldb)
	}
}

// multiplyChunk computes one block of C from the packed operands.
func (g *Gemm[T]) multiplyChunk(worker, chunk int) {
	c, m := &g.call, g.micro
	t0 := chunk / g.colChunks * g.chunkTiles
	t1 := min(t0+g.chunkTiles, g.rows.tiles)
	p0 := chunk % g.colChunks * g.chunkPanels
	p1 := min(p0+g.chunkPanels, g.panels)
	row, end := g.rows.start(t0), g.rows.start(t1)
	apart := c.apart[worker*g.chunkTiles*m.mr*m.nr:]
	beta := c.beta
	for k := 0; k < c.depth; k += blockK {
		kc := min(blockK, c.depth-k)
		a, b := c.packedA[k*g.rows.tiles*m.mr:], c.packedB[k*g.panels*m.nr:]
		for p := p0; p < p1; p++ {
			col := p * m.nr
			to := c.c[row*c.ldc+col:]
			if cols := g.n - col; cols < m.nr {
				m.panel(g.rows, t0, t1, kc, a, b[p*kc*m.nr:], apart, m.nr, 0)
				m.store(end-row, 0, cols, to, c.ldc, apart, beta)
				continue
			}
			m.panel(g.rows, t0, t1, kc, a, b[p*kc*m.nr:], to, c.ldc, beta)
		}
		beta = 1
	}
}
