package plan

import "slices"

// align is the alignment of every temporary: a cache line, and the widest
// vector.
const align = 64

// place gives each temporary its offset in the arena or in the workers' private
// memory.
func (b *builder) place() {
	var temps, private []int
	for i := range b.p.Buffers {
		switch buf := &b.p.Buffers[i]; {
		case buf.Kind == dropped:
			*buf = Buffer{Kind: Temp} // holds nothing
		case buf.Kind == Temp && buf.Private:
			private = append(private, i)
		case buf.Kind == Temp:
			temps = append(temps, i)
		}
	}
	b.p.Arena, b.p.Private = b.lay(temps), b.lay(private)
}

// lay gives temporaries their offsets: largest first, each at the lowest place
// that no buffer alive at the same time occupies. It returns the size of all.
func (b *builder) lay(temps []int) (size int) {
	buf := func(i int) *Buffer { return &b.p.Buffers[i] }
	slices.SortStableFunc(temps, func(i, j int) int { return buf(j).Bytes() - buf(i).Bytes() })
	var placed []int // by offset
	for _, i := range temps {
		t, at := buf(i), 0
		if b.o.NoReuse {
			at = size
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
		size = max(size, at+padded(t))
		k, _ := slices.BinarySearchFunc(placed, at, func(j, at int) int { return buf(j).Offset - at })
		placed = slices.Insert(placed, k, i)
	}
	return size
}

// padded is a buffer's size in the arena.
func padded(b *Buffer) int { return (b.Bytes() + align - 1) &^ (align - 1) }
