package kernel

import "fmt"

// GemmBF16 is a plan for C = op(A)·op(B) in bf16 with sums of float32, of the
// same terms as Gemm. A plan is used by one goroutine at a time.
type GemmBF16 struct {
	m, n, k        int
	transA, transB bool

	pool   *Pool
	pairs  *pairs
	halves halves
	words  int // of the inner dimension
	panels int // of N
	rows   int // of a chunk

	panelsPerChunk, colChunks int
	zeros                     []BF16 // behind an odd inner dimension

	pack, multiply func(worker, chunk int)
	call           struct {
		a, b, c       []BF16
		lda, ldb, ldc int
		packed, ws    []float32
	}
}

const (
	packPairs    = 16      // of a chunk of B that is packed
	chunkOperand = 1 << 17 // words of A in a chunk: half of a second-level cache
	chunkRows    = 256     // at most
)

// NewGemmBF16 plans a product of op(A) (m, k) and op(B) (k, n); none of them is
// 0. The level in use must have bf16.
func NewGemmBF16(pool *Pool, m, n, k int, transA, transB bool) *GemmBF16 {
	if m < 1 || n < 1 || k < 1 {
		panic(fmt.Sprintf("BUG: kernel: gemm of %d×%d×%d in bf16", m, n, k))
	}
	checkBF16()
	g := &GemmBF16{m: m, n: n, k: k, transA: transA, transB: transB, pool: pool, pairs: active.pairs, halves: active.halves, words: depthWords(k), panels: ceilDiv(n, Lanes)}
	g.rows = rowsPerChunk(m, g.words)
	g.colChunks = min(ceilDiv(g.panels, 2), ceilDiv(minChunks, ceilDiv(m, g.rows)))
	g.panelsPerChunk = ceilDiv(ceilDiv(g.panels, 2), g.colChunks) * 2
	g.colChunks = ceilDiv(g.panels, g.panelsPerChunk)
	g.zeros = make([]BF16, max(n, m))
	g.pack, g.multiply = g.packPanel, g.multiplyChunk
	if !transB {
		g.pack = g.packRows
	}
	return g
}

// rowsPerChunk is how many of m rows of so many words are taken together: whole
// blocks, unless there are fewer.
func rowsPerChunk(m, words int) int {
	most := min(chunkRows, max(1, chunkOperand/words/tallRows)*tallRows)
	return min(most, ceilDiv(m, tallRows)*tallRows)
}

// Workspace returns the number of words that Run needs as scratch.
func (g *GemmBF16) Workspace() int {
	return g.panels*Lanes*g.words + g.pool.workers*g.scratch()
}

// scratch is one worker's share of the workspace: rows of A; sums; 8 rows of
// words of A, or Lanes rows of B; two rows of a panel's elements.
func (g *GemmBF16) scratch() int {
	return g.rows*rowWords(g.words) + g.rows*blockCols + g.staging() + Lanes
}

func (g *GemmBF16) staging() int { return max(8*g.rows, Lanes*g.words) }

// Run computes C. ws has Workspace() words. It panics where a slice is too
// short.
func (g *GemmBF16) Run(ws []float32, a []BF16, lda int, b []BF16, ldb int, c []BF16, ldc int) {
	checkLen("workspace", len(ws), g.Workspace())
	checkLen("C", len(c), (g.m-1)*ldc+g.n)
	size := g.panels * Lanes * g.words
	g.call.a, g.call.b, g.call.c = a, b, c
	g.call.lda, g.call.ldb, g.call.ldc = lda, ldb, ldc
	g.call.packed, g.call.ws = ws[:size], ws[size:]
	if g.transB {
		g.pool.Run(g.panels, g.pack)
	} else {
		g.pool.Run(ceilDiv(g.words, packPairs), g.pack)
	}
	g.pool.Run(ceilDiv(g.m, g.rows)*g.colChunks, g.multiply)
	g.call.a, g.call.b, g.call.c, g.call.packed, g.call.ws = nil, nil, nil, nil, nil
}

// RunBatch runs batch products of matrices that lie strideA, strideB and
// strideC apart.
func (g *GemmBF16) RunBatch(batch int, ws []float32, a []BF16, lda, strideA int, b []BF16, ldb, strideB int, c []BF16, ldc, strideC int) {
	for i := range batch {
		g.Run(ws, a[i*strideA:], lda, b[i*strideB:], ldb, c[i*strideC:], ldc)
	}
}

// share is the worker's scratch, in its parts.
func (g *GemmBF16) share(worker int) (a, c, staging []float32, edge []BF16) {
	ws := g.call.ws[worker*g.scratch():][:g.scratch()]
	a, ws = ws[:g.rows*rowWords(g.words)], ws[g.rows*rowWords(g.words):]
	c, ws = ws[:g.rows*blockCols], ws[g.rows*blockCols:]
	return a, c, ws[:g.staging()], elements(ws[g.staging():])
}

// packPanel packs columns of B whose elements lie one behind the other.
func (g *GemmBF16) packPanel(worker, panel int) {
	_, _, staging, _ := g.share(worker)
	b := g.call.b[panel*Lanes*g.call.ldb:]
	g.pairs.packLanes(min(Lanes, g.n-panel*Lanes), g.k, g.words, g.call.packed[panel*Lanes*g.words:], staging, b, g.call.ldb)
}

// packLanes makes a panel of rows of k elements that lie ld apart. staging has
// room for Lanes rows of words.
func (p *pairs) packLanes(rows, k, words int, dst, staging []float32, src []BF16, ld int) {
	lines := elements(staging)
	for r := range Lanes {
		line := lines[r*2*words:][:2*words]
		if r < rows {
			clear(line[copy(line, src[r*ld:][:k]):])
		} else {
			clear(line)
		}
	}
	for r := 0; r < Lanes; r += 8 {
		p.transpose(8, words, dst[r:Lanes*words], Lanes, staging[r*words:], words)
	}
}

// packRows packs rows of B.
func (g *GemmBF16) packRows(worker, chunk int) {
	_, _, _, edge := g.share(worker)
	for i := chunk * packPairs; i < min(g.words, (chunk+1)*packPairs); i++ {
		g.pairs.interleaveRow(g.n, g.call.packed[i*Lanes:], g.words*Lanes, g.rowOf(g.call.b, g.call.ldb, 2*i, g.n), g.rowOf(g.call.b, g.call.ldb, 2*i+1, g.n), edge)
	}
}

// rowOf is row i of the inner dimension, or zeros behind the last.
func (g *GemmBF16) rowOf(x []BF16, ld, i, n int) []BF16 {
	if i >= g.k {
		return g.zeros[:n]
	}
	return x[i*ld:][:n]
}

func (g *GemmBF16) multiplyChunk(worker, chunk int) {
	a, c, staging, edge := g.share(worker)
	row, panel := chunk/g.colChunks*g.rows, chunk%g.colChunks*g.panelsPerChunk
	rows := min(g.rows, g.m-row)
	if g.transA {
		g.packColumns(row, rows, a, staging, edge)
	} else {
		lines, width := elements(a), 2*rowWords(g.words)
		for r := range rows {
			line := lines[r*width:][:2*g.words]
			clear(line[copy(line, g.call.a[(row+r)*g.call.lda:][:g.k]):])
		}
	}
	for end := min(g.panels, panel+g.panelsPerChunk); panel < end; panel += 2 {
		g.pairs.block(rows, g.words, a, g.call.packed[panel*Lanes*g.words:], end-panel, g.words*Lanes, c, 0)
		col := panel * Lanes
		cols := min(blockCols, g.n-col)
		for r := range rows {
			g.halves.round(g.call.c[(row+r)*g.call.ldc+col:][:cols], c[r*blockCols:][:cols])
		}
	}
}

// packColumns packs some columns of an A that is stored transposed, as (k, m):
// 8 rows of words at a time.
func (g *GemmBF16) packColumns(from, n int, a, staging []float32, edge []BF16) {
	wide := ceilDiv(n, Lanes) * Lanes
	for i := 0; i < g.words; i += 8 {
		for j := range 8 {
			even, odd := g.rowOf(g.call.a[from:], g.call.lda, 2*(i+j), n), g.rowOf(g.call.a[from:], g.call.lda, 2*(i+j)+1, n)
			g.pairs.interleaveRow(n, staging[j*wide:], Lanes, even, odd, edge)
		}
		g.pairs.transpose(8, wide, a[i:], rowWords(g.words), staging, wide)
	}
}
