package datasets

import (
	"slices"
	"testing"
)

// tiny returns n uint8 examples of 2 elements in 3 classes: example i is
// (i, i+1) and has label i mod 3.
func tiny(t testing.TB, n int) *Set {
	t.Helper()
	x, y := make([]byte, 2*n), make([]int32, n)
	for i := range n {
		x[2*i], x[2*i+1], y[i] = byte(i), byte(i+1), int32(i%3)
	}
	s, err := NewSet(Info{Name: "tiny", Channels: 1, Height: 1, Width: 2, Classes: numbered(3)}, Values{U8: x}, y)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNewSet(t *testing.T) {
	u8 := Info{Name: "own", Channels: 1, Height: 2, Width: 2, Classes: numbered(2)}
	f32 := u8
	f32.DType = Float32
	flat := u8
	flat.Width = 0
	for _, c := range []struct {
		name   string
		info   Info
		values Values
		labels []int32
		err    string
	}{
		{"uint8", u8, Values{U8: make([]byte, 8)}, []int32{0, 1}, ""},
		{"float32", f32, Values{F32: make([]float32, 8)}, []int32{0, 1}, ""},
		{"shape", flat, Values{U8: make([]byte, 8)}, []int32{0, 1}, "own: shape 1x2x0"},
		{"type", u8, Values{F32: make([]float32, 8)}, []int32{0, 1}, "not uint8"},
		{"type", f32, Values{U8: make([]byte, 8)}, []int32{0, 1}, "not float32"},
		{"both", f32, Values{make([]byte, 4), make([]float32, 4)}, []int32{0, 1}, "not float32"},
		{"count", u8, Values{U8: make([]byte, 8)}, []int32{0}, "1 labels for 8 elements of 4"},
		{"ragged", u8, Values{U8: make([]byte, 9)}, []int32{0, 1}, "2 labels for 9 elements of 4"},
		{"empty", u8, Values{U8: []byte{}}, nil, "no examples"},
		{"label", u8, Values{U8: make([]byte, 8)}, []int32{0, 2}, "label 2 of example 1 is outside 0..1"},
		{"negative", u8, Values{U8: make([]byte, 8)}, []int32{-1, 0}, "label -1 of example 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewSet(c.info, c.values, c.labels)
			wantError(t, err, c.err)
		})
	}
}

func ids(s Source) []uint32 {
	var out []uint32
	for i := range s.Len() {
		out = append(out, s.ID(i))
	}
	return out
}

func TestSubset(t *testing.T) {
	s := tiny(t, 9)
	part, err := Subset(s, []int{7, 2, 2})
	if err != nil {
		t.Fatal(err)
	}
	x := Values{U8: make([]byte, 2)}
	part.Read(0, x)
	if part.Len() != 3 || part.Label(0) != 1 || x.U8[0] != 7 || !slices.Equal(ids(part), []uint32{7, 2, 2}) {
		t.Errorf("subset of %d examples, ids %v", part.Len(), ids(part))
	}
	nested, err := Take(part, 2)
	if err != nil || !slices.Equal(ids(nested), []uint32{7, 2}) {
		t.Errorf("ids %v, want those of the whole set; %v", ids(nested), err)
	}
	_, err = Subset(s, []int{9})
	wantError(t, err, "example 9 is outside 0..8")
	_, err = Subset(s, nil)
	wantError(t, err, "no examples")
	_, err = Take(s, 10)
	wantError(t, err, "cannot take 10 of 9")
}

func TestHoldOut(t *testing.T) {
	s := tiny(t, 100) // classes of 34, 33 and 33
	for _, c := range []struct {
		n          int
		stratified bool
		want       []int // label counts of held
	}{
		{n: 10}, {n: 99}, {n: 1, stratified: true, want: []int{1, 0, 0}},
		{n: 10, stratified: true, want: []int{4, 3, 3}},
		{n: 50, stratified: true, want: []int{17, 17, 16}},
		{n: 99, stratified: true, want: []int{33, 33, 33}},
	} {
		rest, held, err := HoldOut(s, c.n, 1, c.stratified)
		if err != nil {
			t.Fatal(err)
		}
		all := slices.Concat(ids(rest), ids(held))
		slices.Sort(all)
		if held.Len() != c.n || !slices.Equal(all, ids(s)) {
			t.Errorf("n = %d: parts of %d and %d do not make the whole", c.n, rest.Len(), held.Len())
		}
		if !slices.IsSorted(ids(rest)) || !slices.IsSorted(ids(held)) {
			t.Errorf("n = %d: parts are not in ascending order", c.n)
		}
		if got := histogram(held); c.want != nil && !slices.Equal(got, c.want) {
			t.Errorf("n = %d: held-out classes %v, want %v", c.n, got, c.want)
		}
	}
	_, a, _ := HoldOut(s, 10, 1, false)
	_, b, _ := HoldOut(s, 10, 1, false)
	_, other, _ := HoldOut(s, 10, 2, false)
	if !slices.Equal(ids(a), ids(b)) || slices.Equal(ids(a), ids(other)) {
		t.Error("the seed does not decide which examples are held out")
	}
	for _, n := range []int{0, 100} {
		_, _, err := HoldOut(s, n, 1, false)
		wantError(t, err, "cannot hold out")
	}
}
