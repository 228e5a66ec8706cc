package plan

import "slices"

// align is the alignment of every temporary: a cache line, and the widest
// vector.
const align = 64

// place gives each temporary its offset in the arena: largest first, each at
// the lowest place that no buffer alive at the same time occupies.
func (b *builder) place() {
	var temps []int
	for i := range b.p.Buffers {
		switch b.p.Buffers[i].Kind {
		case Temp:
			temps = append(temps, i)
		case dropped:
			b.p.Buffers[i] = Buffer{Kind: Temp} // holds nothing
		}
	}
	buf := func(i int) *Buffer { return &b.p.Buffers[i] }
	slices.SortStableFunc(temps, func(i, j int) int { return buf(j).Bytes() - buf(i).Bytes() })
	var placed []int // by offset
	for _, i := range temps {
		t, at := buf(i), 0
		if b.o.NoReuse {
			at = b.p.Arena
		} else {
			for _, j := range placed {
				o := buf(j)
				if o.From > t.To || t.From > o.To || o.Offset+padded(o) <= at {
					continue
				}
				if at+padded(t) <= o.Offset {
					break
				}
				at = o.Offset + padded(o)
			}
		}
		t.Offset = at
		b.p.Arena = max(b.p.Arena, at+padded(t))
		k, _ := slices.BinarySearchFunc(placed, at, func(j, at int) int { return buf(j).Offset - at })
		placed = slices.Insert(placed, k, i)
	}
}

// padded is a buffer's size in the arena.
func padded(b *Buffer) int { return (b.Bytes() + align - 1) &^ (align - 1) }
