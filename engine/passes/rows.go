package passes

import (
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
func rows(g *graph.Graph, t Target) (*graph.Graph, error) {
	n := batchOf(g)
	if n < 2 {
		return g, g.Err()
	}
	o := &outliner{
		target: t, dst: graph.New(g.Name()), img: map[*graph.Node]*graph.Node{}, region: map[*graph.Node]*region{},
		a: &rowAnalysis{n: n, live: graph.Live(g), of: map[*graph.Node]dependence{}},
	}
	for in := range o.a.live {
		if in.Op() == graph.OpInput && in.Rank() > 0 && in.Dim(0) == n {
			o.a.of[in] = rowwise
		}
	}
	o.a.block(g.Root())
	o.readers = readersOf(g, o.a.live)
	o.block(g.Root())
	for _, out := range g.Outputs() {
		o.dst.Output(out.Name, o.img[out.Node])
	}
	for _, as := range g.Assigns() {
		o.dst.Assign(o.img[as.State], o.img[as.Value])
	}
	if err := o.dst.Err(); err != nil {
		return nil, err
	}
	// Wholes of which only slices were needed are dead now.
	return graph.Rewrite(o.dst, func(*graph.Copier, *graph.Node, []*graph.Node) *graph.Node { return nil })
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
	members  []*graph.Node // operands first
	exits    []*graph.Node // members that are read outside
	partials []*graph.Node // reductions over the samples, split
	chunk    int           // samples
	scans    []*graph.Node // values from outside that are sliced
	begun    bool
}

type outliner struct {
	target  Target
	a       *rowAnalysis
	dst     *graph.Graph
	readers map[*graph.Node][]*graph.Node
	region  map[*graph.Node]*region     // of members and of split reductions
	img     map[*graph.Node]*graph.Node // whole values
	row     map[*graph.Node]*graph.Node // of the region being filled: its values of one chunk
	chunk   int                         // of that region
}

// block copies a block's live nodes, its regions outlined.
func (o *outliner) block(b *graph.Block) {
	for _, r := range o.regions(b) {
		if !o.settle(r) {
			continue
		}
		for _, n := range slices.Concat(r.members, r.partials) {
			o.region[n] = r
		}
	}
	for _, n := range b.Nodes() {
		if o.a.live[n] {
			o.need(n)
		}
	}
}

// regions lists the candidates of a block. Values of one region have met the
// same number of others outside any region on the way to them; so no value
// outside stands between two of one region.
func (o *outliner) regions(b *graph.Block) []*region {
	level := map[*graph.Node]int{} // of a member: its region; else the first region that may read it
	member := map[*graph.Node]bool{}
	var list []*region
	for _, n := range b.Nodes() {
		if !o.a.live[n] {
			continue
		}
		member[n] = o.member(n, member)
		for _, d := range deps(n) {
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
			list = append(list, &region{})
		}
		r := list[level[n]]
		r.members = append(r.members, n)
	}
	for _, n := range b.Nodes() {
		if o.a.live[n] && n.Op().Class() == graph.ClassReduce && member[n.In(0)] && slices.Contains(n.Attrs().Axes, 0) {
			r := list[level[n.In(0)]]
			r.partials = append(r.partials, n)
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
		return o.separable(n)
	case graph.OpGet:
		return member[n.In(0)]
	}
	return o.a.of[n] == rowwise
}

// separable reports whether all that a loop carries and computes is about single
// samples, or cheap enough to be computed again in each chunk.
func (o *outliner) separable(l *graph.Node) bool {
	if l.Attrs().Carry == 0 || len(l.Body().Results()) > l.Attrs().Carry {
		return false
	}
	for _, p := range l.Body().Params()[1:] {
		if p.Attrs().Index <= l.Attrs().Carry && o.a.of[p] != rowwise {
			return false
		}
	}
	return o.separableBody(l.Body())
}

func (o *outliner) separableBody(b *graph.Block) bool {
	for _, n := range b.Nodes() {
		switch {
		case !o.a.live[n] || n.Op() == graph.OpParam || n.Op() == graph.OpGet:
		case n.Op() == graph.OpLoop:
			if !o.separable(n) {
				return false
			}
		case o.a.of[n] == mixed || o.a.of[n] == shared && n.Op().Class() == graph.ClassContraction:
			return false
		case o.a.of[n] == rowwise:
			for i, in := range n.Ins() {
				// A slice of a value that every iteration computes anew cannot be
				// taken from outside.
				if o.a.roles(n)[i] == sliced && o.a.of[in] != rowwise && o.scanned(in) != nil && in.Block() == b {
					return false
				}
			}
		}
	}
	return true
}

// scanned is the value whose slice is taken from memory where n's slice is
// needed; nil if the slice is made anew.
func (o *outliner) scanned(n *graph.Node) *graph.Node {
	if o.a.of[n] == rowwise {
		return n
	}
	switch n.Op() {
	case graph.OpConst:
		if len(n.Attrs().Values) == 1 {
			return nil
		}
	case graph.OpIota:
		if n.Attrs().Axis != 0 {
			return nil
		}
	case graph.OpBroadcast:
		if n.In(0).Dim(0) == 1 {
			return nil
		}
		return o.scanned(n.In(0))
	}
	return n
}

// deps lists what n reads of its block and those around it.
func deps(n *graph.Node) []*graph.Node {
	list := slices.Clone(n.Ins())
	if n.Body() != nil {
		list = append(list, captured(n.Body())...)
	}
	return list
}

// captured lists what a body reads from outside itself.
func captured(b *graph.Block) []*graph.Node {
	var list []*graph.Node
	add := func(in *graph.Node) {
		if !b.Encloses(in.Block()) {
			list = append(list, in)
		}
	}
	for _, n := range b.Nodes() {
		for _, in := range deps(n) {
			add(in)
		}
	}
	for _, r := range b.Results() {
		add(r)
	}
	return list
}

// settle finds what enters and leaves a region, and its chunk; false if it does
// not pay.
func (o *outliner) settle(r *region) bool {
	inside := map[*graph.Node]bool{}
	for _, n := range slices.Concat(r.members, r.partials) {
		inside[n] = true
	}
	for _, n := range r.members {
		outside := func(m *graph.Node) bool { return m == nil || !inside[m] && !o.within(m, inside) }
		if n.Op() != graph.OpLoop && slices.ContainsFunc(o.readers[n], outside) {
			r.exits = append(r.exits, n)
		}
	}
	o.scans(r, inside)
	return o.pays(r)
}

// within reports whether a value stands in the body of a loop of the region.
func (o *outliner) within(n *graph.Node, inside map[*graph.Node]bool) bool {
	for l := range inside {
		if l.Body() != nil && l.Body().Encloses(n.Block()) {
			return true
		}
	}
	return false
}

// scans finds the values from outside of which a region reads slices.
func (o *outliner) scans(r *region, inside map[*graph.Node]bool) {
	var visit func(n *graph.Node)
	add := func(in *graph.Node) {
		s := o.scanned(in)
		if s != nil && !inside[s] && !o.within(s, inside) && !slices.Contains(r.scans, s) {
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
				if o.a.live[m] {
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

// Bounds on chunks.
const (
	minChunks = 8 // of a batch, so that two workers or four share it evenly
	patience  = 4 // how much smaller than wanted a chunk may be, if N has no better divisor

	// manyPixels is the number of results that make it cheap to read a weight:
	// kernels read them again for about as many anyway.
	manyPixels = 256
)

// pays chooses a region's chunk: the largest divisor of N whose temporaries fit
// the target's budget. It declines where the region keeps less in the cache
// than it reads weights again, once a chunk, for few results; where all of it fits into a cache
// anyway; and where N has no divisor near the wanted size. (A batch of a prime
// number of samples thus runs layer by layer, as without the pass; to split off
// a remainder would copy what enters and leaves.)
func (o *outliner) pays(r *region) bool {
	u := o.usage(slices.Concat(r.members, r.partials))
	want := min(o.target.RowBytes/max(u.peak, 1), o.a.n/minChunks)
	want = max(want, 1)
	for r.chunk = want; o.a.n%r.chunk != 0; r.chunk-- {
	}
	again := 0
	for _, w := range u.weights {
		if r.chunk*w.pixels < manyPixels {
			again += w.bytes * w.times * (o.a.n / r.chunk)
		}
	}
	return r.chunk*patience > want && u.kept*o.a.n > max(again, o.target.RowBytes)
}

// usage estimates what a region's values need, in bytes: of memory at one time,
// of reads and writes that stay in the cache, both a sample; and of the weights
// that each chunk reads.
type usage struct {
	peak, kept int
	weights    []weights
}

// weights are what a contraction reads for all samples, to how many results of a
// sample it applies each of them, and how often in all.
type weights struct{ bytes, pixels, times int }

func (o *outliner) usage(members []*graph.Node) usage {
	var u usage
	last := map[*graph.Node]int{} // reader
	for i, n := range members {
		for _, in := range n.Ins() {
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
		if n.Op().Class() == graph.ClassContraction && o.a.of[n.In(1)] != rowwise {
			channels := n.Dim(-1)
			if n.Rank() == 4 {
				channels = n.Dim(n.Attrs().Layout.Channel())
			}
			u.weights = append(u.weights, weights{n.In(1).Size() * n.DType().Size(), n.Size() / (o.a.n * channels), 1})
		}
		if end, read := last[n]; o.inMemory(n) {
			bytes := n.Size() / o.a.n * n.DType().Size()
			if live += bytes; read {
				u.kept += 2 * bytes // written and read
				ends[end] += bytes
			}
		}
		u.peak = max(u.peak, live)
		live -= ends[i]
	}
	return u
}

// rowsOf lists the values of a body that are computed chunk by chunk.
func (o *outliner) rowsOf(b *graph.Block) []*graph.Node {
	return slices.DeleteFunc(slices.Clone(b.Nodes()), func(n *graph.Node) bool {
		return !o.a.live[n] || n.Op() == graph.OpParam || n.Op() != graph.OpLoop && o.a.of[n] != rowwise
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
// kernel, or an element-wise one that a kernel reads.
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
	for _, d := range deps(n) {
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
		for _, d := range deps(n) {
			if o.region[d] != r {
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
	if s := o.scanned(n); s == n {
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
		case !o.a.live[n] || n.Op() == graph.OpParam:
		case n.Op() == graph.OpLoop || n.Op() == graph.OpGet || o.a.of[n] == rowwise:
			o.row[n] = o.copyRows(n).Named(n.Label())
		default:
			o.row[n] = o.copy(n).Named(n.Label())
		}
	}
	o.dst.CloseBody(images(l.Body().Results(), o.slice)...)
	return o.dst.MakeLoop(l.Attrs().Trips, carry, body, ins...)
}
