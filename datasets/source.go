package datasets

import (
	"fmt"
	"strconv"
)

// DType is the type of a set's elements.
type DType uint8

// The element types: Uint8 for images as published, Float32 for synthetic
// patches and own data.
const (
	Uint8 DType = iota
	Float32
)

// String returns "uint8" or "float32".
func (d DType) String() string {
	if d == Float32 {
		return "float32"
	}
	return "uint8"
}

// Split names a part of a published set.
type Split string

// The splits; only SVHN has an extra one.
const (
	Train Split = "train"
	Test  Split = "test"
	Extra Split = "extra"
)

// Info describes a labelled set.
type Info struct {
	Name  string // "cifar10"
	Split Split
	DType DType
	// Channels, Height and Width are the shape (C,H,W) of one example.
	Channels, Height, Width int
	// Classes holds one name a label; labels are 0 … len(Classes)-1.
	Classes []string
	// Published is the number of examples that the published split has, 0
	// where nothing is published. A Source with fewer is a part of it, and
	// numbers measured on it are not numbers of the published set.
	Published int
	// Terms is the owners' licence and citation in a sentence.
	Terms string
}

// Elements returns the number of elements of one example, C·H·W.
func (in Info) Elements() int { return in.Channels * in.Height * in.Width }

// Values holds elements of one type: U8 is set where Info.DType is Uint8, F32
// where it is Float32, and the other is nil. Examples lie one after another,
// each (C,H,W) in row-major order.
type Values struct {
	U8  []uint8
	F32 []float32
}

// size returns the number of elements.
func (v Values) size() int { return len(v.U8) + len(v.F32) }

// slice returns elements lo … hi-1.
func (v Values) slice(lo, hi int) Values {
	if v.F32 != nil {
		return Values{F32: v.F32[lo:hi]}
	}
	return Values{U8: v.U8[lo:hi]}
}

// Source is a labelled set. Own data implement it; [Set] does so for data held
// in memory. Its methods are called from more than one goroutine and must not
// change what they return.
type Source interface {
	Info() Info
	// Len returns the number of examples.
	Len() int
	// Label returns the label of example i.
	Label(i int) int32
	// ID returns the number that example i keeps in every part taken of the
	// set. Random draws and saved examples go by it.
	ID(i int) uint32
	// Read writes example i, (C,H,W), into the field of dst that Info().DType
	// names; its length is Info().Elements().
	Read(i int, dst Values)
}

// Set is a [Source] held in memory, its examples contiguous.
type Set struct {
	info   Info
	values Values // (N,C,H,W)
	labels []int32
}

// NewSet makes a set of values (N,C,H,W) and N labels, which it keeps, not
// copies. It refuses values of the wrong type or number and labels outside
// info.Classes.
func NewSet(info Info, values Values, labels []int32) (*Set, error) {
	if info.Channels < 1 || info.Height < 1 || info.Width < 1 {
		return nil, fmt.Errorf("%s: shape %dx%dx%d: every dimension must be at least 1", info.Name, info.Channels, info.Height, info.Width)
	}
	if (info.DType == Uint8) != (values.F32 == nil) || values.U8 != nil && values.F32 != nil {
		return nil, fmt.Errorf("%s: the values are not %s, which the set's description says", info.Name, info.DType)
	}
	if len(labels) == 0 {
		return nil, fmt.Errorf("%s: no examples", info.Name)
	}
	// Divide, so that a hostile shape cannot overflow.
	e := info.Elements()
	if n := values.size(); n%e != 0 || n/e != len(labels) {
		return nil, fmt.Errorf("%s: %d labels for %d elements of %d an example", info.Name, len(labels), n, e)
	}
	if err := checkLabels(labels, len(info.Classes)); err != nil {
		return nil, fmt.Errorf("%s: %w", info.Name, err)
	}
	return &Set{info: info, values: values, labels: labels}, nil
}

func checkLabels(labels []int32, classes int) error {
	for i, y := range labels {
		if y < 0 || int(y) >= classes {
			return fmt.Errorf("label %d of example %d is outside 0..%d", y, i, classes-1)
		}
	}
	return nil
}

// Info describes the set.
func (s *Set) Info() Info { return s.info }

// Len returns the number of examples N.
func (s *Set) Len() int { return len(s.labels) }

// Label returns the label of example i.
func (s *Set) Label(i int) int32 { return s.labels[i] }

// ID returns i: in a whole set an example's index is its number.
func (s *Set) ID(i int) uint32 { return uint32(i) }

// Read copies example i, (C,H,W), into dst.
func (s *Set) Read(i int, dst Values) {
	v := s.Example(i)
	copy(dst.U8, v.U8)
	copy(dst.F32, v.F32)
}

// Example returns example i, (C,H,W), without copying; it must not be changed.
func (s *Set) Example(i int) Values {
	e := s.info.Elements()
	return s.values.slice(i*e, (i+1)*e)
}

// Values returns all elements, (N,C,H,W), without copying; they must not be
// changed.
func (s *Set) Values() Values { return s.values }

// Labels returns all N labels without copying; they must not be changed.
func (s *Set) Labels() []int32 { return s.labels }

// numbered returns the class names "0" … "k-1".
func numbered(k int) []string {
	names := make([]string, k)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}
