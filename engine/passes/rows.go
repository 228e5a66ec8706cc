package passes

import (
	"fmt"
	"slices"

	"temper/engine/graph"
)

// rows outlines what is independent from sample to sample into loops over
// chunks of the batch that carry nothing: their iterations run side by side,
// each from its first layer to its last (and, in an attack, to its last ascent
// step), on temporaries that stay in a worker's cache. Chunks follow from the
// graph and the target alone, never from the number of workers, so that results
// do not depend on it.
//
// A region ends where samples meet: batch statistics, mean losses, gradients
// of weights. A sum or maximum over the samples is split: each chunk's part is
// computed in the region, the parts are joined behind it.
//
// Large weights that are applied to few pixels want many samples at a time,
// images want few: where a region has both, its chunks are large, and in them
// what stands between those weights is outlined again.
func rows(g *graph.Graph, t Target) (*graph.Graph, error) {
	n := batchOf(g)
	if n < 2 {
		return g, g.Err()
	}
	outer := newOutliner(g, t)
	outer.a = newRowAnalysis(n, outer.live)
	for in := range outer.live {
		if in.Op() == graph.OpInput && in.Rank() > 0 && in.Dim(0) == n {
			outer.a.of[in] = rowwise
		}
	}
	outer.a.block(g.Root())
	if err := outer.run(); err != nil {
		return nil, err
	}
	inner := newOutliner(outer.dst, t)
	inner.chunks = outer.made
	if err := inner.run(); err != nil {
		return nil, err
	}
	// Wholes of which only slices were needed are dead now.
	return graph.Rewrite(inner.dst, func(*graph.Copier, *graph.Node, []*graph.Node) *graph.Node { return nil })
}

// batchOf is the number of samples: the first axis that most inputs have, the
// larger one of two. Only what pays depends on the choice, never what is right.
func batchOf(g *graph.Graph) int {
	count, best := map[int]int{}, 0
	for _, n := range g.Root().Nodes() {
		if n.Op() == graph.OpInput && n.Rank() > 0 {
			count[n.Dim(0)]++
		}
	}
	for d, c := range count {
		if c > count[best] || c == count[best] && d > best {
			best = d
		}
	}
	return best
}

// readersOf lists who reads each value; nil stands for the end of a block:
// outputs, assignments and what a body yields.
func readersOf(g *graph.Graph, live map[*graph.Node]bool) map[*graph.Node][]*graph.Node {
	readers := map[*graph.Node][]*graph.Node{}
	for n := range live {
		for _, in := range n.Ins() {
			readers[in] = append(readers[in], n)
		}
		if n.Body() != nil {
			for _, r := range n.Body().Results() {
				readers[r] = append(readers[r], nil)
			}
		}
	}
	for _, o := range g.Outputs() {
		readers[o.Node] = append(readers[o.Node], nil)
	}
	for _, a := range g.Assigns() {
		readers[a.Value] = append(readers[a.Value], nil)
		readers[a.State] = append(readers[a.State], nil)
	}
	return readers
}

// region is a set of values of one block that are computed together, chunk by
// chunk.
type region struct {
	block    *graph.Block
	members  []*graph.Node // operands first
	partials []*graph.Node // reductions over the samples, split
	inside   map[*graph.Node]bool
	scans    []*graph.Node // values from outside that are sliced
	exits    []*graph.Node // members that are read outside
	chunk    int           // samples
	large    bool          // it has weights that made the chunk large
	begun    bool
}

type outliner struct {
	src     *graph.Graph
	target  Target
	live    map[*graph.Node]bool
	readers map[*graph.Node][]*graph.Node
	a       *rowAnalysis         // nil: nothing is outlined here
	chunks  map[*graph.Node]int  // loops over chunks, of so many samples, whose bodies are to be outlined
	wholes  map[*graph.Node]bool // contractions that are left to a kernel for all samples
	made    map[*graph.Node]int  // the loops that were made
	dst     *graph.Graph
	region  map[*graph.Node]*region     // of members and of split reductions
	img     map[*graph.Node]*graph.Node // whole values
	row     map[*graph.Node]*graph.Node // of the region being filled: its values of one chunk
	chunk   int                         // of that region
}

func newOutliner(g *graph.Graph, t Target) *outliner {
	live := graph.Live(g)
	return &outliner{src: g, target: t, live: live, readers: readersOf(g, live), dst: graph.New(g.Name()),
		wholes: map[*graph.Node]bool{}, made: map[*graph.Node]int{}, region: map[*graph.Node]*region{}, img: map[*graph.Node]*graph.Node{}}
}

// run copies the graph, its regions outlined.
func (o *outliner) run() error {
	o.block(o.src.Root())
	for _, out := range o.src.Outputs() {
		o.dst.Output(out.Name, o.img[out.Node])
	}
	for _, as := range o.src.Assigns() {
		o.dst.Assign(o.img[as.State], o.img[as.Value])
	}
	return o.dst.Err()
}

// block copies a block's live nodes, its regions outlined.
func (o *outliner) block(b *graph.Block) {
	if o.a != nil {
		o.outline(b)
	}
	for _, n := range b.Nodes() {
		if o.live[n] {
			o.need(n)
		}
	}
}

// outline settles on the regions of a block.
func (o *outliner) outline(b *graph.Block) {
	list := o.paying(b)
	for _, r := range list {
		for n := range r.inside {
			o.region[n] = r
		}
	}
	scanned := map[*graph.Node]bool{}
	for _, r := range list {
		o.repeat(r)
		for _, s := range r.scans {
			scanned[s] = true
		}
	}
	for _, r := range list {
		for _, n := range r.members {
			outside := func(m *graph.Node) bool { return o.owner(m) == nil }
			if o.region[n] == r && n.Op() != graph.OpLoop && (scanned[n] || slices.ContainsFunc(o.readers[n], outside)) {
				r.exits = append(r.exits, n)
			}
		}
	}
}

// paying lists the regions of a block that pay. One with large weights that does
// not is tried again without them: they are left to kernels for all samples.
func (o *outliner) paying(b *graph.Block) []*region {
	for again := true; again; {
		var list []*region
		again = false
		for _, r := range o.regions(b) {
			if o.pays(r) {
				list = append(list, r)
				continue
			}
			for _, n := range r.members {
				if w, ok := o.weights(n); ok && o.large(w) {
					o.wholes[n], again = true, true
				}
			}
		}
		if !again {
			return list
		}
	}
	return nil
}

// owner is the region in which a value is computed, nil if there is none.
func (o *outliner) owner(n *graph.Node) *region {
	if n == nil {
		return nil
	}
	if r := o.region[n]; r != nil {
		return r
	}
	for l, r := range o.region {
		if l.Body() != nil && l.Body().Encloses(n.Block()) {
			return r
		}
	}
	return nil
}

// regions lists the candidates of a block. Values of one region have met the
// same number of others outside any region on the way to them; so no value
// outside stands between two of one region.
func (o *outliner) regions(b *graph.Block) []*region {
	level := map[*graph.Node]int{} // of a member: its region; else the first region that may read it
	member := map[*graph.Node]bool{}
	var list []*region
	for _, n := range b.Nodes() {
		if !o.live[n] {
			continue
		}
		member[n] = o.member(n, member)
		for _, d := range o.deps(n) {
			l := level[d]
			if member[d] && !member[n] {
				l++
			}
			level[n] = max(level[n], l)
		}
		if !member[n] {
			continue
		}
		for len(list) <= level[n] {
			list = append(list, &region{block: b})
		}
		r := list[level[n]]
		r.members = append(r.members, n)
	}
	for _, n := range b.Nodes() {
		if o.live[n] && n.Op().Class() == graph.ClassReduce && member[n.In(0)] && slices.Contains(n.Attrs().Axes, 0) {
			r := list[level[n.In(0)]]
			r.partials = append(r.partials, n)
		}
	}
	for _, r := range list {
		r.inside = map[*graph.Node]bool{}
		for _, n := range slices.Concat(r.members, r.partials) {
			r.inside[n] = true
		}
	}
	return list
}

// member reports whether a value may be computed chunk by chunk.
func (o *outliner) member(n *graph.Node, member map[*graph.Node]bool) bool {
	switch n.Op() {
	case graph.OpInput, graph.OpParam:
		return false
	case graph.OpLoop:
		return o.chunks == nil && o.separable(n)
	case graph.OpGet:
		return member[n.In(0)]
	}
	if w, ok := o.weights(n); ok && o.chunks != nil && o.large(w) {
		return false
	}
	return o.a.of[n] == rowwise && !o.wholes[n]
}

// separable reports whether all that a loop carries and computes is about single
// samples, or cheap enough to be computed again in each chunk.
func (o *outliner) separable(l *graph.Node) bool {
	var body func(b *graph.Block) bool
	loop := func(l *graph.Node) bool {
		carry, byRow := l.Attrs().Carry, func(n *graph.Node) bool { return o.a.of[n] == rowwise }
		return carry > 0 && carry == len(l.Body().Results()) && all(l.Body().Params()[1:][:carry], byRow) &&
			!slices.ContainsFunc(l.Ins()[carry:], byRow) && body(l.Body())
	}
	// A slice of a value that the body computes anew as a whole cannot be taken
	// from outside.
	sliceable := func(n *graph.Node) bool {
		s := o.a.scanned(n)
		return s == nil || o.a.of[s] == rowwise || !l.Body().Encloses(s.Block())
	}
	body = func(b *graph.Block) bool {
		for _, n := range b.Nodes() {
			switch k := o.a.of[n]; {
			case !o.live[n] || n.Op() == graph.OpParam || n.Op() == graph.OpGet:
			case n.Op() == graph.OpLoop:
				if !loop(n) || !all(n.Ins()[:n.Attrs().Carry], sliceable) {
					return false
				}
			case k == mixed || k == shared && n.Op().Class() == graph.ClassContraction:
				return false
			case k == rowwise:
				for i, role := range o.a.roles(n) {
					if role == sliced && !sliceable(n.In(i)) {
						return false
					}
				}
			}
		}
		return all(b.Results(), sliceable)
	}
	return loop(l)
}

func all(ns []*graph.Node, ok func(*graph.Node) bool) bool {
	return !slices.ContainsFunc(ns, func(n *graph.Node) bool { return !ok(n) })
}

// deps lists what n reads of its block and those around it.
func (o *outliner) deps(n *graph.Node) []*graph.Node {
	list := slices.Clone(n.Ins())
	if n.Body() != nil {
		list = append(list, o.captured(n.Body())...)
	}
	return list
}

// captured lists what a body reads from outside itself.
func (o *outliner) captured(b *graph.Block) []*graph.Node {
	var list []*graph.Node
	add := func(in *graph.Node) {
		if !b.Encloses(in.Block()) {
			list = append(list, in)
		}
	}
	for _, n := range b.Nodes() {
		if o.live[n] {
			for _, in := range o.deps(n) {
				add(in)
			}
		}
	}
	for _, r := range b.Results() {
		add(r)
	}
	return list
}

// holds reports whether a value is computed in the region.
func (r *region) holds(n *graph.Node) bool {
	if r.inside[n] {
		return true
	}
	for l := range r.inside {
		if l.Body() != nil && l.Body().Encloses(n.Block()) {
			return true
		}
	}
	return false
}

// scan finds the values from outside of which a region reads slices.
func (o *outliner) scan(r *region) {
	r.scans = nil
	var visit func(n *graph.Node)
	add := func(in *graph.Node) {
		s := o.a.scanned(in)
		if s != nil && !r.holds(s) && !slices.Contains(r.scans, s) {
			r.scans = append(r.scans, s)
		}
	}
	visit = func(n *graph.Node) {
		switch {
		case n.Op() == graph.OpLoop:
			for _, in := range n.Ins()[:n.Attrs().Carry] {
				add(in)
			}
			for _, m := range n.Body().Nodes() {
				if o.live[m] {
					visit(m)
				}
			}
			for _, m := range n.Body().Results() {
				add(m)
			}
		case n.Op() != graph.OpGet && o.a.of[n] == rowwise:
			for i, k := range o.a.roles(n) {
				if k == sliced {
					add(n.In(i))
				}
			}
		}
	}
	for _, n := range r.members {
		visit(n)
	}
}

// repeat has a region compute element-wise values again that it would read from
// memory, where it reads no more for that: the normalised form of what a
// convolution before batch statistics has stored. If all readers do, the value
// is never stored.
func (o *outliner) repeat(r *region) {
	for again := true; again; {
		again = false
		o.scan(r)
		for _, s := range r.scans {
			chain, ok := o.chain(r, s)
			if !ok {
				continue
			}
			again = true
			for _, n := range chain {
				r.inside[n] = true
			}
			r.members = append(r.members, chain...)
			slices.SortFunc(r.members, func(a, b *graph.Node) int { return a.ID() - b.ID() })
			break
		}
	}
}

// chain lists what a region must compute to have s without reading it.
func (o *outliner) chain(r *region, s *graph.Node) (chain []*graph.Node, ok bool) {
	const longest = 8 // operations that are cheaper than a write and a read
	bytes := func(n *graph.Node) int { return n.Size() * n.DType().Size() }
	seen := map[*graph.Node]bool{}
	var visit func(n *graph.Node) int // bytes that the region would read for n
	visit = func(n *graph.Node) int {
		if seen[n] || r.holds(n) {
			return 0
		}
		seen[n] = true
		reads, begin := 0, len(chain)
		if o.cheap(n) && n.Block() == r.block {
			for _, in := range n.Ins() {
				reads += visit(in)
			}
			if n == s || reads < bytes(n) || reads == bytes(n) && o.repeatable(n) {
				chain = append(chain, n)
				return reads
			}
			for _, m := range chain[begin:] {
				delete(seen, m)
			}
			chain = chain[:begin] // better read n itself
		}
		if o.a.of[n] != rowwise || slices.Contains(r.scans, n) {
			return 0
		}
		return bytes(n)
	}
	if s.Block() != r.block || !o.repeatable(s) {
		return nil, false
	}
	reads := visit(s)
	return chain, len(chain) <= longest && reads <= bytes(s)
}

// repeatable reports whether n is cheap to compute and need not be in memory.
func (o *outliner) repeatable(n *graph.Node) bool {
	return o.cheap(n) && !slices.ContainsFunc(o.readers[n], func(m *graph.Node) bool {
		return m == nil || o.owner(m) == nil && !fusible(m)
	})
}

// cheap reports whether n is element-wise and no transcendental function.
func (o *outliner) cheap(n *graph.Node) bool {
	switch n.Op() {
	case graph.OpExp, graph.OpExpm1, graph.OpLog, graph.OpLog1p, graph.OpTanh, graph.OpSigmoid, graph.OpPow, graph.OpNormal:
		return false
	}
	return o.a.of[n] == rowwise && n.Op().Class() == graph.ClassElementwise
}

// fusible reports whether an operation reads element by element.
func fusible(n *graph.Node) bool {
	c := n.Op().Class()
	return c == graph.ClassElementwise || c == graph.ClassReduce
}

// Bounds on chunks.
const (
	minChunks = 16 // of a batch, so that a dozen workers share it evenly, and two on a busy machine
	patience  = 4  // how much smaller than wanted a chunk may be, if N has no better divisor

	// manyUses is how often a weight must be used to be cheap to read.
	manyUses = 64

	// manyRows is how much more memory than elsewhere a chunk may take that has
	// large weights: they come from the next cache, as does the chunk.
	manyRows = 8
)

// pays chooses a region's chunk: the largest divisor of N whose temporaries fit
// the target's budget. It declines where the region keeps less in the cache
// than it reads weights again, once a chunk, for few results; where all of it
// fits into a cache anyway; and where N has no divisor near the wanted size. (A
// batch of a prime number of samples thus runs layer by layer, as without the
// pass; to split off a remainder would copy what enters and leaves.)
func (o *outliner) pays(r *region) bool {
	u, n, budget := o.usage(slices.Concat(r.members, r.partials)), o.a.n, o.target.RowBytes
	most := n / minChunks
	if o.chunks != nil {
		most = n / 2
	} else if r.large = slices.ContainsFunc(u.weights, o.large); r.large {
		budget *= manyRows
	}
	want := max(1, min(most, budget/max(u.peak, 1)))
	for r.chunk = want; n%r.chunk != 0; r.chunk-- {
	}
	again := 0
	for _, w := range u.weights {
		if r.chunk*w.uses < manyUses {
			again += w.bytes * w.times * (n / r.chunk)
		}
	}
	return r.chunk*patience > want && u.kept*n > max(again, o.target.RowBytes)
}

// large reports whether weights are better read for many samples at a time: they
// are used a few times for one, and do not share a cache with its temporaries.
func (o *outliner) large(w weights) bool {
	return w.bytes > o.target.RowBytes/2 && w.uses < manyUses
}

// usage estimates what a region's values need, in bytes: of memory at one time,
// of reads and writes that stay in the cache, both a sample; and of the weights
// that each chunk reads.
type usage struct {
	peak, kept int
	weights    []weights
}

// weights are what a contraction reads for all samples, how often it uses each of
// them for one, and how often it runs.
type weights struct{ bytes, uses, times int }

func (o *outliner) usage(members []*graph.Node) usage {
	var u usage
	last := map[*graph.Node]int{} // reader
	for i, n := range members {
		for _, in := range o.deps(n) {
			last[base(in)] = i
		}
	}
	live := 0
	ends := map[int]int{} // bytes that end with a member
	for i, n := range members {
		if n.Body() != nil {
			in := o.usage(o.rowsOf(n.Body()))
			u.peak = max(u.peak, live+in.peak)
			u.kept += in.kept * n.Attrs().Trips
			for _, w := range in.weights {
				w.times *= n.Attrs().Trips
				u.weights = append(u.weights, w)
			}
		}
		if w, ok := o.weights(n); ok {
			u.weights = append(u.weights, w)
		}
		if o.inMemory(n) {
			bytes := n.Size() / o.a.n * n.DType().Size()
			live += bytes
			end, read := last[n]
			if read {
				u.kept += 2 * bytes // written and read
			}
			ends[max(end, i)] += bytes
		}
		u.peak = max(u.peak, live)
		live -= ends[i]
	}
	return u
}

// weights are those of a contraction.
func (o *outliner) weights(n *graph.Node) (weights, bool) {
	if n.Op().Class() != graph.ClassContraction || o.a.of[n.In(1)] == rowwise {
		return weights{}, false
	}
	uses := n.Size() / o.a.n / n.Dim(-1)
	switch {
	case n.Op() == graph.OpPackedConv2D && n.Attrs().Algorithm == graph.Winograd:
		uses = (n.Dim(1) + 3) / 4 * ((n.Dim(2) + 3) / 4) // once a tile
	case n.Rank() == 4 && n.Op() != graph.OpPackedConv2D:
		uses = n.Size() / o.a.n / n.Dim(n.Attrs().Layout.Channel())
	}
	return weights{n.In(1).Size() * n.DType().Size(), uses, 1}, true
}

// rowsOf lists the values of a body that are computed chunk by chunk.
func (o *outliner) rowsOf(b *graph.Block) []*graph.Node {
	return slices.DeleteFunc(slices.Clone(b.Nodes()), func(n *graph.Node) bool {
		return !o.live[n] || n.Op() == graph.OpParam || n.Op() != graph.OpLoop && o.a.of[n] != rowwise
	})
}

// base sees through what is no value of its own in memory.
func base(n *graph.Node) *graph.Node {
	for n.Op() == graph.OpReshape || n.Op() == graph.OpBroadcast {
		n = n.In(0)
	}
	return n
}

// inMemory reports whether a value will be written to memory: the result of a
// kernel, or an element-wise one that a kernel reads. One that is summed counts
// too, though it need not be: the region can then compute again what it sums.
func (o *outliner) inMemory(n *graph.Node) bool {
	if n != base(n) || n.Op() == graph.OpLoop {
		return false
	}
	if n.Op().Class() != graph.ClassElementwise {
		return true
	}
	return slices.ContainsFunc(o.readers[n], func(r *graph.Node) bool {
		return r == nil || r.Op().Class() != graph.ClassElementwise
	})
}

// need makes the image of a value in the current block, after what it reads.
func (o *outliner) need(n *graph.Node) {
	if o.img[n] != nil || n.Op() == graph.OpParam {
		return
	}
	if r := o.region[n]; r != nil {
		o.emit(r)
		return
	}
	for _, d := range o.deps(n) {
		o.need(d)
	}
	o.img[n] = o.copy(n).Named(n.Label())
}

// emit makes the loop of a region, and the images of its exits and of the parts
// of its split reductions.
func (o *outliner) emit(r *region) {
	if r.begun {
		return
	}
	r.begun = true
	for _, n := range slices.Concat(r.members, r.partials) {
		for _, d := range o.deps(n) {
			if !r.inside[d] {
				o.need(d)
			}
		}
	}
	trips := o.a.n / r.chunk
	o.chunk, o.row = r.chunk, map[*graph.Node]*graph.Node{}
	var ins []*graph.Node
	var dtypes []graph.DType
	var shapes []graph.Shape
	for _, s := range r.scans {
		shape := o.cut(s.Shape())
		ins = append(ins, reshaped(o.img[s], append(graph.Shape{trips}, shape...)))
		dtypes, shapes = append(dtypes, s.DType()), append(shapes, shape)
	}
	body := o.dst.OpenBody(dtypes, shapes)
	for i, s := range r.scans {
		o.row[s] = body.Params()[i+1].Named(s.Label())
	}
	for _, n := range r.members {
		o.row[n] = o.copyRows(n).Named(n.Label())
	}
	var results []*graph.Node
	for _, n := range r.exits {
		results = append(results, o.row[n])
	}
	for _, n := range r.partials {
		results = append(results, o.dst.Make(n.Op(), *n.Attrs(), o.row[n.In(0)]))
	}
	o.dst.CloseBody(results...)
	loop := o.dst.MakeLoop(trips, 0, body, ins...)
	if r.large {
		o.made[loop] = r.chunk
	}
	loop.Named(fmt.Sprintf("rows: %d samples of %d at a time", r.chunk, o.a.n))
	for i, n := range r.exits {
		o.img[n] = o.dst.Make(graph.OpGet, graph.Attrs{Index: i}, loop).Reshape(n.Shape()...)
	}
	for i, n := range r.partials {
		o.img[n] = o.joined(n, o.dst.Make(graph.OpGet, graph.Attrs{Index: len(r.exits) + i}, loop))
	}
}

// reshaped is n in another shape, without a detour where it came from that one.
func reshaped(n *graph.Node, s graph.Shape) *graph.Node {
	if n.Op() == graph.OpReshape && n.In(0).Shape().Equal(s) {
		return n.In(0)
	}
	return n.Reshape(s...)
}

// joined is a reduction over the samples, of the chunks' parts (chunks, 1, …).
func (o *outliner) joined(n, parts *graph.Node) *graph.Node {
	s := parts.Shape()
	parts = parts.Reshape(append(graph.Shape{s[0]}, s[2:]...)...)
	return o.dst.Make(n.Op(), graph.Attrs{Axes: []int{0}}, parts).Named(n.Label())
}

// cut is the shape of a chunk of a batch.
func (o *outliner) cut(s graph.Shape) graph.Shape { return s.With(0, s[0]/o.a.n*o.chunk) }

// copy copies a value that is computed as a whole.
func (o *outliner) copy(n *graph.Node) *graph.Node {
	if n.Op() != graph.OpLoop {
		return o.dst.MakeTyped(n.Op(), *n.Attrs(), n.DType(), n.Shape(), images(n.Ins(), o.whole)...)
	}
	body := o.openBody(n, o.img, (*graph.Node).Shape)
	if chunk := o.chunks[n]; chunk > 1 {
		o.a = newRowAnalysis(chunk, o.live)
		for _, p := range n.Body().Params()[1:] {
			o.a.of[p] = rowwise
		}
		o.a.block(n.Body())
		defer func() { o.a = nil }()
	}
	o.block(n.Body())
	o.dst.CloseBody(images(n.Body().Results(), o.whole)...)
	return o.dst.MakeLoop(n.Attrs().Trips, n.Attrs().Carry, body, images(n.Ins(), o.whole)...)
}

func images(ns []*graph.Node, of func(*graph.Node) *graph.Node) []*graph.Node {
	out := make([]*graph.Node, len(ns))
	for i, n := range ns {
		out[i] = of(n)
	}
	return out
}

// openBody starts the copy of a loop's body.
func (o *outliner) openBody(l *graph.Node, img map[*graph.Node]*graph.Node, shape func(p *graph.Node) graph.Shape) *graph.Block {
	params := l.Body().Params()
	var dtypes []graph.DType
	var shapes []graph.Shape
	for _, p := range params[1:] {
		dtypes, shapes = append(dtypes, p.DType()), append(shapes, shape(p))
	}
	body := o.dst.OpenBody(dtypes, shapes)
	for i, p := range params {
		img[p] = body.Params()[i].Named(p.Label())
	}
	return body
}

// whole is the image of a whole value; inside a region, of one that does not
// depend on the samples.
func (o *outliner) whole(n *graph.Node) *graph.Node {
	if m := o.img[n]; m != nil {
		return m
	}
	return o.row[n]
}

// slice is the image of a chunk's rows of a value.
func (o *outliner) slice(n *graph.Node) *graph.Node {
	if s := o.a.scanned(n); s == n {
		return o.row[n]
	}
	var ins []*graph.Node
	if n.Op() == graph.OpBroadcast {
		in := n.In(0)
		if in.Dim(0) == 1 {
			ins = append(ins, o.whole(in))
		} else {
			ins = append(ins, o.slice(in))
		}
	}
	return o.dst.MakeTyped(n.Op(), *n.Attrs(), n.DType(), o.cut(n.Shape()), ins...)
}

// copyRows makes the image of a chunk's rows of a value that is computed in the
// region.
func (o *outliner) copyRows(n *graph.Node) *graph.Node {
	switch n.Op() {
	case graph.OpGet:
		return o.dst.Make(graph.OpGet, *n.Attrs(), o.row[n.In(0)])
	case graph.OpLoop:
		return o.copyLoop(n)
	}
	ins := make([]*graph.Node, len(n.Ins()))
	for i, k := range o.a.roles(n) {
		if k == sliced {
			ins[i] = o.slice(n.In(i))
		} else {
			ins[i] = o.whole(n.In(i))
		}
	}
	at := *n.Attrs()
	if n.Op() == graph.OpSlice {
		at.Hi = slices.Clone(at.Hi)
		at.Hi[0] = ins[0].Dim(0)
	}
	return o.dst.MakeTyped(n.Op(), at, n.DType(), o.cut(n.Shape()), ins...)
}

// copyLoop copies a loop of which each chunk runs its own.
func (o *outliner) copyLoop(l *graph.Node) *graph.Node {
	carry := l.Attrs().Carry
	ins := append(images(l.Ins()[:carry], o.slice), images(l.Ins()[carry:], o.whole)...)
	body := o.openBody(l, o.row, func(p *graph.Node) graph.Shape {
		if p.Attrs().Index <= carry {
			return o.cut(p.Shape())
		}
		return p.Shape()
	})
	for _, n := range l.Body().Nodes() {
		switch {
		case !o.live[n] || n.Op() == graph.OpParam:
		case n.Op() == graph.OpLoop || n.Op() == graph.OpGet || o.a.of[n] == rowwise:
			o.row[n] = o.copyRows(n).Named(n.Label())
		default:
			o.row[n] = o.copy(n).Named(n.Label())
		}
	}
	o.dst.CloseBody(images(l.Body().Results(), o.slice)...)
	return o.dst.MakeLoop(l.Attrs().Trips, carry, body, ins...)
}
