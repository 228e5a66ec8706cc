package adversarial

import (
	"math"

	"temper/engine/graph"
)

// squareShare is the share of the image that Square's window covers at first
// (Andriushchenko et al., ECCV 2020, as AutoAttack sets it).
const squareShare = 0.8

// squareHalvings are the queries after which the share halves. AutoAttack does
// not rescale them to the number of queries.
var squareHalvings = []int{10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000}

// squareSide is the side of the window at a query, in an image of h×w. In L2 and
// L1 it is odd and at least 3.
func squareSide(norm Norm, query, h, w int) int {
	share := squareShare
	for _, q := range squareHalvings {
		if query > q {
			share /= 2
		}
	}
	side := int(math.RoundToEven(math.Sqrt(share * float64(h*w))))
	if norm != Linf {
		side = max(side, 3) | 1
	}
	return min(max(side, 1), h, w)
}

// sides tabulates squareSide for all queries (of i32), and the distinct sides.
func (s *search) sides() (table *graph.Node, distinct []int) {
	h, w := s.X.Dim(2), s.X.Dim(3)
	queries := (s.attack.Steps + chunk - 1) / chunk * chunk
	values := make([]float64, queries)
	for q := range values {
		side := squareSide(s.Threat.Norm, q, h, w)
		if values[q] = float64(side); len(distinct) == 0 || distinct[len(distinct)-1] != side {
			distinct = append(distinct, side)
		}
	}
	return s.X.Graph().Const(graph.I32, values, queries), distinct
}

// square is a round of Square: up to 100 queries from the best point so far, or
// from the start of a run. The last round of a run has the rest of the queries.
func (s *search) square(round *graph.Node, p point) point {
	parts := (s.attack.Steps + chunk - 1) / chunk
	run := round.Div(round.C(float64(parts)))
	first := round.Sub(run.MulC(float64(parts))).MulC(chunk) // query of the run
	table, distinct := s.sides()
	draw := func(query *graph.Node) graph.Draw { // the start draws as query 0, queries from 1 on
		d := s.Draw
		d.Iter = run.MulC(float64(s.attack.Steps + 1)).Add(query).Convert(graph.U32)
		return d
	}
	kept := *p.worst
	begin := s.stripes
	if s.Threat.Norm != Linf {
		begin = s.tiles
	}
	p.x = graph.Select(first.Eq(first.C(0)), begin(draw(first)), kept.x)
	p.worst = s.nothing(kept.x)
	p.worst = s.judge(p, s.at(p.x))
	p = repeat(min(chunk, s.attack.Steps), p, func(i *graph.Node, p point) point {
		query := first.Add(i)
		side := pickScalar(table, query)
		move := s.squareLinf
		if s.Threat.Norm != Linf {
			move = func(at *graph.Node, side *graph.Node, d graph.Draw) *graph.Node {
				return s.squareBump(at, side, distinct, d)
			}
		}
		next := p
		next.x = move(p.worst.x, side, draw(query.AddC(1)))
		judged := s.judge(next, s.at(next.x))
		more := query.Lt(query.C(float64(s.attack.Steps))).BroadcastTo(p.x.Dim(0))
		next.worst = &worst{
			x:    graph.Select(column4(more), judged.x, p.worst.x),
			hit:  graph.Select(more, judged.hit, p.worst.hit),
			loss: graph.Select(more, judged.loss, p.worst.loss),
		}
		return next
	})
	// Between restarts each sample keeps the worst.
	keep := kept.hit.And(p.worst.hit.Not())
	p.worst = &worst{
		x:    graph.Select(column4(keep), kept.x, p.worst.x),
		hit:  graph.Select(keep, kept.hit, p.worst.hit),
		loss: graph.Select(keep, kept.loss, p.worst.loss),
	}
	return p
}

// stripes starts in L∞: each column of each channel moved by ±ε.
func (s *search) stripes(d graph.Draw) *graph.Node {
	sign := corner(d, "square.stripes", s.X.Dim(1), 1, s.X.Dim(3))
	return s.Threat.clip(s.X.Add(sign.Mul(s.ball.eps)))
}

// window draws a window's place: whether an element (N,1,H,W) is in it.
func (s *search) window(site string, side *graph.Node, d graph.Draw) (inside, top, left *graph.Node) {
	place := func(site string, axis int) (in, at *graph.Node) {
		room := side.Neg().AddC(float64(s.X.Dim(axis) + 1)).Convert(graph.F32)
		at = d.Uniform(site, 1, 1, 1).Mul(room).Floor().Convert(graph.I32)
		shape := []int{1, 1, 1, 1}
		shape[axis] = s.X.Dim(axis)
		i := s.X.Graph().Iota(graph.I32, axis, shape...)
		return i.Ge(at).And(i.Lt(at.Add(side))), at
	}
	rows, top := place(site+".top", 2)
	columns, left := place(site+".left", 3)
	shape := []int{s.X.Dim(0), 1, s.X.Dim(2), s.X.Dim(3)}
	return rows.BroadcastTo(shape...).And(columns.BroadcastTo(shape...)), top, left
}

// squareLinf moves the elements of a window, each channel by ±2ε before the
// projection, which brings them to ±ε of the inputs.
func (s *search) squareLinf(at, side *graph.Node, d graph.Draw) *graph.Node {
	inside, _, _ := s.window("square.window", side, d)
	sign := corner(d, "square.sign", s.X.Dim(1), 1, 1)
	moved := s.ball.project(at.Add(sign.Mul(s.ball.eps.MulC(2))))
	return graph.Select(inside, moved, at)
}

// bump is Square's perturbation of one window in L2 or L1, side×side, of norm 1:
// two opposite centred pyramids, one above the other, which in L1 are steeper
// (Croce and Hein, ICML 2021).
func bump(norm Norm, side int) []float64 {
	power := 2.0
	if norm == L1 {
		power = 4
	}
	size := func(values []float64) (sum float64) {
		for _, v := range values {
			if norm == L1 {
				sum += math.Abs(v)
			} else {
				sum += v * v
			}
		}
		if norm == L1 {
			return sum
		}
		return math.Sqrt(sum)
	}
	out := make([]float64, side*side)
	pyramid := func(values []float64, rows int, sign float64) {
		top, left := rows/2, side/2
		for k := range max(rows/2+1, side/2+1) {
			for i := max(top-k, 0); i < min(top+k+1, rows); i++ {
				for j := max(left-k, 0); j < min(left+k+1, side); j++ {
					values[i*side+j] += math.Pow(float64(k+1), -power)
				}
			}
		}
		n := size(values)
		for i := range values {
			values[i] *= sign / n
		}
	}
	half := side / 2
	pyramid(out[:half*side], half, 1)
	pyramid(out[half*side:], side-half, -1)
	n := size(out)
	for i := range out {
		out[i] /= n
	}
	return out
}

// upright draws whether a bump stands upright; else it lies.
func upright(d graph.Draw, site string) *graph.Node {
	w := d.Words(site, 1, 1, 1)
	return w.Shr(w.C(31)).Eq(w.C(0))
}

// tiles starts in L2 and L1: bumps of a fifth of the height, side by side, each
// with a sign per channel, brought to the ball.
func (s *search) tiles(d graph.Draw) *graph.Node {
	c, h, w := s.X.Dim(1), s.X.Dim(2), s.X.Dim(3)
	side := max(min(h/5, w), 2)
	values := bump(s.Threat.Norm, side)
	standing, lying := make([]float64, h*w), make([]float64, h*w)
	top, left := max(h-5*side, 0)/2, max(w-5*side, 0)/2
	for i := range h / side * side {
		for j := range w / side * side {
			if y, x := top+i, left+j; y < h && x < w {
				standing[y*w+x] = values[i%side*side+j%side]
				lying[y*w+x] = values[j%side*side+i%side]
			}
		}
	}
	// One draw a tile and channel, looked up by each element's tile.
	rows, columns := (h+side-1)/side+1, (w+side-1)/side+1
	tile := make([]float64, h*w)
	for y := range h {
		for x := range w {
			tile[y*w+x] = float64(max(y-top, 0)/side*columns + max(x-left, 0)/side)
		}
	}
	g, n := s.X.Graph(), s.X.Dim(0)
	index := g.Const(graph.I32, tile, 1, 1, h*w)
	sign := corner(d, "square.tiles", c, rows*columns).Gather(2, index.BroadcastTo(n, c, h*w)).Reshape(n, c, h, w)
	words := d.Words("square.tiles.turn", 1, rows*columns)
	stands := words.Shr(words.C(31)).Eq(words.C(0)).Convert(graph.F32).Gather(2, index.BroadcastTo(n, 1, h*w)).Reshape(n, 1, h, w)
	shape := graph.Select(stands.Gt(stands.C(0.5)), g.Const(graph.F32, standing, 1, 1, h, w), g.Const(graph.F32, lying, 1, 1, h, w))
	return s.toBall(sign.Mul(shape))
}

// toBall is the inputs moved by delta, within ball and domain: in L2 scaled to
// norm ε, in L1 projected.
func (s *search) toBall(delta *graph.Node) *graph.Node {
	if s.Threat.Norm == L1 {
		return s.ball.project(s.X.Add(delta))
	}
	return s.Threat.clip(s.X.Add(unit(delta, []int{1, 2, 3}).Mul(s.ball.eps)))
}

// squareBump takes the perturbation out of one window and puts a bump, with the
// norm that this frees, on top of what is in another.
func (s *search) squareBump(at, side *graph.Node, distinct []int, d graph.Draw) *graph.Node {
	delta := at.Sub(s.X)
	in1, top, left := s.window("square.window", side, d)
	in2, _, _ := s.window("square.from", side, d)
	within := func(in, v *graph.Node) *graph.Node { return graph.Select(in, v, v.C(0)) }
	// Norms add up, over windows and channels, as their powers: |v| in L1, v² in
	// L2.
	power, root := (*graph.Node).Square, (*graph.Node).Sqrt
	if s.Threat.Norm == L1 {
		power, root = (*graph.Node).Abs, func(v *graph.Node) *graph.Node { return v }
	}
	sum := func(v *graph.Node, axes ...int) *graph.Node { return power(v).SumKeep(axes...) }
	unitWindow := func(v *graph.Node) *graph.Node { return v.Div(root(sum(v, 2, 3)).AddC(1e-12)) }

	channels := float64(s.X.Dim(1))
	freed := sum(within(in1.Or(in2), delta), 2, 3)
	unused := power(s.ball.eps).Sub(sum(delta, 1, 2, 3)).MaxC(0).DivC(channels)
	amount := root(unused.Add(freed))
	if s.Threat.Norm == L1 {
		amount = amount.MulC(channels) // as published: the projection takes back what is too much
	}
	sign := corner(d, "square.sign", s.X.Dim(1), 1, 1)
	added := unitWindow(s.bumpAt(side, distinct, top, left, d).Mul(sign).Add(unitWindow(within(in1, delta)))).Mul(amount)
	return s.toBall(graph.Select(in1, added, within(in2.Not(), delta)))
}

// bumpAt is a bump of a side among the distinct ones, standing or lying, with
// its corner at (top,left): (N,1,H,W).
func (s *search) bumpAt(side *graph.Node, distinct []int, top, left *graph.Node, d graph.Draw) *graph.Node {
	g, n, h, w := s.X.Graph(), s.X.Dim(0), s.X.Dim(2), s.X.Dim(3)
	stands := upright(d, "square.turn").Reshape(n, 1, 1)
	var both *graph.Node // (N,H,W), the bump in the upper left corner
	for _, k := range distinct {
		values := bump(s.Threat.Norm, k)
		standing, lying := make([]float64, h*w), make([]float64, h*w)
		for i := range k {
			for j := range k {
				standing[i*w+j], lying[i*w+j] = values[i*k+j], values[j*k+i]
			}
		}
		one := graph.Select(stands, g.Const(graph.F32, standing, 1, h, w), g.Const(graph.F32, lying, 1, h, w))
		if both == nil {
			both = one
		} else {
			both = graph.Select(side.Eq(side.C(float64(k))), one, both)
		}
	}
	// A window of twice the size, from which the place cuts its part.
	starts := graph.Concat(1, top.Reshape(n, 1).Neg().AddC(float64(h)), left.Reshape(n, 1).Neg().AddC(float64(w)))
	wide := both.PadND([]int{0, h, w}, []int{0, 0, 0}, []int{1, 1, 1})
	return wide.DynSlice(starts, h, w).Reshape(n, 1, h, w)
}
