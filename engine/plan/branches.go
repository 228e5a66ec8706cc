package plan

import (
	"slices"

	"temper/engine/graph"
)

// Costs of steps in bytes: what a device moves in the time that a step takes. A
// hundred floating-point operations of a product take as long as a byte, and to
// start a step as long as four million. The schedule must not depend on the device
// at hand, and needs no more than a comparison: which of two branches ends first.
const (
	flopsPerByte = 100
	startBytes   = 4 << 20
	littleBytes  = 64 << 10 // of a group on what belongs to the channels
)

// unit is what stays together in the schedule: a contraction with the group right
// behind it, which may be computed with it, and little groups behind that; or any
// other group.
type unit struct {
	groups      []*group
	contraction bool
	cost        float64
}

// spot is where a group stands: 0 is outside of regions. A set is a region of
// groups, each a branch of its own.
type spot struct {
	region, branch int
	set            bool
}

// regions finds groups that may run at once, and puts them in their order. Beside
// a contraction that nothing needs for the time being, such as a filter's gradient
// or a shortcut, run the units that follow it, until they have taken as long, or
// one needs it. A region is no longer than that, so that little memory has to be
// kept for it.
func (b *builder) regions(groups []*group) (ordered []*group, spots map[*group]spot) {
	spots = map[*group]spot{}
	if !b.o.Branches {
		return groups, spots
	}
	units := b.gather(b.early(b.units(groups)))
	for _, u := range units {
		ordered = append(ordered, u.groups...)
	}
	for i := 0; i < len(units); i++ {
		u := &units[i]
		if !u.contraction {
			continue
		}
		beside, end := 0.0, i+1
		for end < len(units) && (beside < u.cost || units[end].little()) && units[end].cost > 0 && b.independent(&units[end], u) {
			beside += units[end].cost
			end++
		}
		if end == i+1 {
			continue
		}
		b.region++
		for k := i; k < end; k++ {
			for _, g := range units[k].groups {
				spots[g] = spot{region: b.region}
				if k == i {
					spots[g] = spot{region: b.region, branch: 1}
				}
			}
		}
		i = end - 1
	}
	return ordered, spots
}

// sets finds neighbours outside of regions that may run at once: groups that need
// nothing of each other, such as the optimiser's for each weight. The first of them
// is not behind a contraction, with which it may be computed.
func (b *builder) sets(groups []*group, spots map[*group]spot) {
	if !b.o.Branches {
		return
	}
	alone := func(i int) bool { return groups[i].fused && len(groups[i].nodes) > 0 && spots[groups[i]].region == 0 }
	for i := 0; i < len(groups); i++ {
		if !alone(i) || i > 0 && b.behind(groups[i], groups[i-1]) {
			continue
		}
		u, end := b.unit(groups[i:i+1]), i+1
		for end < len(groups) && alone(end) {
			next := b.unit(groups[end : end+1])
			if !b.independent(&next, &u) {
				break
			}
			u.groups = append(u.groups, groups[end])
			end++
		}
		if end == i+1 {
			continue
		}
		b.region++
		for k, g := range groups[i:end] {
			spots[g] = spot{b.region, k, true}
		}
		i = end - 1
	}
}

// early moves one of two contractions that meet in the group behind them, such as
// a shortcut, to where other units can run beside it. The group stays behind the
// other one.
func (b *builder) early(units []unit) []unit {
	for i := 1; i < len(units); i++ {
		c, d := &units[i], &units[i-1]
		if !c.contraction || len(c.groups) < 2 || !d.contraction || len(d.groups) > 1 || !b.behind(c.groups[1], d.groups[0]) || b.needs(&unit{groups: c.groups[:1]}, d) {
			continue
		}
		last := b.unit(c.groups[1:])
		for _, pair := range [][2]*group{{c.groups[0], d.groups[0]}, {d.groups[0], c.groups[0]}} {
			moved, kept := b.unit(pair[:1]), b.unit(pair[1:])
			beside, at := 0.0, i-1
			for at > 0 && beside < moved.cost && units[at-1].cost > 0 && b.independent(&moved, &units[at-1]) {
				at--
				beside += units[at].cost
			}
			if at == i-1 {
				continue
			}
			kept.groups, kept.cost = append(kept.groups, last.groups...), kept.cost+last.cost
			units[i-1] = kept
			units = slices.Insert(slices.Delete(units, i, i+1), at, moved)
			break
		}
	}
	return units
}

// gather puts little groups right behind the contraction whose results they read, a
// batch norm's scale behind the sums that it is computed from, across what stands
// between: in the same unit a back end can compute them with it.
func (b *builder) gather(units []unit) []unit {
	gathered := -1 // where the last one went
	for i := 1; i < len(units); i++ {
		u := &units[i]
		if !u.little() || slices.ContainsFunc(u.groups[0].nodes, func(n *graph.Node) bool { return n.Op().Class() == graph.ClassReduce }) {
			continue
		}
		at := i - 1
		for at > 0 && at != gathered && !units[at].little() && units[at].cost > 0 && b.independent(u, &units[at]) {
			at--
		}
		if c := &units[at]; c.contraction && len(c.groups) > 1 && (at == gathered || b.needs(u, c)) {
			c.groups, c.cost = append(c.groups, u.groups...), c.cost+u.cost
			units = slices.Delete(units, i, i+1)
			gathered = at
			i--
		}
	}
	return units
}

// little says whether what a unit moves is next to nothing.
func (u *unit) little() bool { return !u.contraction && u.cost > 0 && u.cost < startBytes+littleBytes }

func (b *builder) units(groups []*group) (units []unit) {
	for i := 0; i < len(groups); i++ {
		g := groups[i]
		if len(g.nodes) == 0 {
			continue
		}
		n := 1
		if i+1 < len(groups) && groups[i+1].fused && b.behind(groups[i+1], g) {
			n = 2
		}
		units = append(units, b.unit(groups[i:i+n]))
		i += n - 1
	}
	return units
}

func (b *builder) unit(groups []*group) unit {
	u := unit{groups: slices.Clone(groups), contraction: !groups[0].fused && groups[0].nodes[0].Op().Class() == graph.ClassContraction}
	for _, g := range groups {
		u.cost += b.cost(g)
	}
	return u
}

// cost is 0 for a loop, which is no part of a region.
func (b *builder) cost(g *group) float64 {
	if g.nodes[0].Body() != nil {
		return 0
	}
	cost := float64(startBytes)
	for _, n := range g.nodes {
		cost += n.FLOPs() / flopsPerByte
	}
	moved := b.inputs(g)
	if g.fused {
		moved = append(moved, g.stored...)
	} else {
		moved = append(moved, g.nodes...)
	}
	slices.SortFunc(moved, func(x, y *graph.Node) int { return x.ID() - y.ID() })
	for _, n := range slices.Compact(moved) {
		cost += float64(n.Size() * n.DType().Size())
	}
	return cost
}

// needs says whether a unit reads what an earlier one computes.
func (b *builder) needs(u, earlier *unit) bool {
	for _, g := range u.groups {
		for _, in := range b.inputs(g) {
			for _, e := range earlier.groups {
				if slices.Contains(e.nodes, in) {
					return true
				}
			}
		}
	}
	return false
}

// independent says whether a unit can run beside an earlier one: it does not need
// it, and neither computes what is to be written over a value that the other reads.
func (b *builder) independent(u, earlier *unit) bool {
	return !b.needs(u, earlier) && !b.replaces(u, earlier) && !b.replaces(earlier, u)
}

// replaces says whether a unit computes the next value of a state, or of what a
// loop carries, that another unit reads.
func (b *builder) replaces(u, reader *unit) bool {
	for _, g := range u.groups {
		for _, n := range g.nodes {
			for _, old := range b.old[n] {
				if slices.ContainsFunc(reader.groups, func(r *group) bool { return slices.Contains(b.inputs(r), old) }) {
					return true
				}
			}
		}
	}
	return false
}

// replaced finds what values replace.
func (b *builder) replaced() {
	note := func(value, old *graph.Node) {
		for value.Op() == graph.OpReshape {
			value = value.In(0)
		}
		b.old[value] = append(b.old[value], old)
	}
	for _, a := range b.p.Graph.Assigns() {
		note(a.Value, a.State)
	}
	for n := range b.live {
		for i := range n.Attrs().Carry {
			note(n.Body().Results()[i], n.Body().Params()[1+i])
		}
	}
}

// enter notes where the group stands that is scheduled now.
func (b *builder) enter(s spot) {
	if s.region > 0 {
		if b.spots[b.now] = s; b.began[s.region] == 0 {
			b.began[s.region] = b.now
		}
		b.ended[s.region] = b.now
	}
}

// apartFrom says whether two times are those of different branches of a region.
func (b *builder) apartFrom(s, t int) bool {
	x, y := b.spots[s], b.spots[t]
	return x.region > 0 && x.region == y.region && x.branch != y.branch
}

// occupy lets what is touched in a region live through all of it: the two
// branches share no memory but what both read.
func (b *builder) occupy(i, time int) {
	if r := b.spots[time].region; r > 0 {
		buf := &b.p.Buffers[i]
		buf.From, buf.To = min(buf.From, b.began[r]), max(buf.To, b.ended[r])
	}
}
