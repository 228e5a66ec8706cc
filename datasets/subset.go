package datasets

import (
	"fmt"
	"slices"

	"temper/engine/rng"
)

// subset is a view of some examples of a source, which keep their IDs.
type subset struct {
	src   Source
	index []int32
}

func (s *subset) Info() Info             { return s.src.Info() }
func (s *subset) Len() int               { return len(s.index) }
func (s *subset) Label(i int) int32      { return s.src.Label(int(s.index[i])) }
func (s *subset) ID(i int) uint32        { return s.src.ID(int(s.index[i])) }
func (s *subset) Read(i int, dst Values) { s.src.Read(int(s.index[i]), dst) }

// Subset returns the examples of src that index lists, in that order. They are
// not copied and keep their IDs.
func Subset(src Source, index []int) (Source, error) {
	if len(index) == 0 {
		return nil, fmt.Errorf("%s: a subset of no examples", src.Info().Name)
	}
	view := &subset{src: src, index: make([]int32, len(index))}
	for k, i := range index {
		if i < 0 || i >= src.Len() {
			return nil, fmt.Errorf("%s: example %d is outside 0..%d", src.Info().Name, i, src.Len()-1)
		}
		view.index[k] = int32(i)
	}
	return view, nil
}

// Take returns the first n examples of src.
func Take(src Source, n int) (Source, error) {
	if n < 1 || n > src.Len() {
		return nil, fmt.Errorf("%s: cannot take %d of %d examples", src.Info().Name, n, src.Len())
	}
	index := make([]int, n)
	for i := range index {
		index[i] = i
	}
	return Subset(src, index)
}

// HoldOut divides src into held, n examples drawn without replacement, and
// rest, the others, both in ascending order. The seed alone decides which. With
// stratified, the classes of held stand in the proportions of src, to within
// one example each.
func HoldOut(src Source, n int, seed uint32, stratified bool) (rest, held Source, err error) {
	if n < 1 || n >= src.Len() {
		return nil, nil, fmt.Errorf("%s: cannot hold out %d of %d examples", src.Info().Name, n, src.Len())
	}
	order := rng.NewStream(seed, "datasets.holdout", 0).Perm(src.Len())
	quota := []int{n}
	stratum := func(int) int { return 0 }
	if stratified {
		quota = quotas(src, n)
		stratum = func(i int) int { return int(src.Label(i)) }
	}
	var in, out []int
	for _, i := range order {
		if q := &quota[stratum(i)]; *q > 0 {
			*q--
			in = append(in, i)
		} else {
			out = append(out, i)
		}
	}
	slices.Sort(in)
	slices.Sort(out)
	if held, err = Subset(src, in); err != nil {
		return nil, nil, err
	}
	rest, err = Subset(src, out)
	return rest, held, err
}

// quotas divides n among the classes of src in proportion to their numbers, by
// largest remainder; of equal remainders the lower class goes first.
func quotas(src Source, n int) []int {
	count := make([]int, len(src.Info().Classes))
	for i := range src.Len() {
		count[src.Label(i)]++
	}
	quota := make([]int, len(count))
	byRemainder := make([]int, len(count))
	left := n
	for c, m := range count {
		quota[c] = m * n / src.Len()
		left -= quota[c]
		byRemainder[c] = c
	}
	slices.SortStableFunc(byRemainder, func(a, b int) int {
		return count[b]*n%src.Len() - count[a]*n%src.Len()
	})
	for _, c := range byRemainder[:left] {
		quota[c]++
	}
	return quota
}
