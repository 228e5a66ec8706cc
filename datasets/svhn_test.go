package datasets

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zlib"
)

// mat writes MAT version 5 files in either byte order.
type mat struct{ order binary.AppendByteOrder }

func (m mat) header(mark string) []byte {
	h := bytes.Repeat([]byte(" "), 124)
	h = m.order.AppendUint16(h, 0x0100)
	return append(h, mark...)
}

func (m mat) words(w ...uint32) (b []byte) {
	for _, x := range w {
		b = m.order.AppendUint32(b, x)
	}
	return b
}

// element writes the long form, with padding; packed the small form.
func (m mat) element(kind uint32, data []byte) []byte {
	pad := make([]byte, -len(data)&7)
	return join(m.words(kind, uint32(len(data))), data, pad)
}

func (m mat) packed(kind uint32, data []byte) []byte {
	b := append(m.words(uint32(len(data))<<16|kind), data...)
	return append(b, make([]byte, 8-len(b))...)
}

// matrix writes a variable; name and values are written as they are given.
func (m mat) matrix(class uint32, dims []uint32, name, values []byte) []byte {
	return m.element(miMATRIX, join(
		m.element(miUINT32, m.words(class, 0)),
		m.element(miINT32, m.words(dims...)),
		name, values))
}

func (m mat) zip(b []byte) []byte {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write(b)
	w.Close()
	return join(m.words(miCOMPRESSED, uint32(z.Len())), z.Bytes())
}

// x and y write the two variables of an SVHN file.
func (m mat) x(raw []byte) []byte {
	return m.matrix(mxUINT8, []uint32{32, 32, 3, uint32(len(raw) / svhnPixels)},
		m.packed(miINT8, []byte("X")), m.element(miUINT8, raw))
}

func (m mat) y(labels []byte) []byte {
	return m.matrix(mxDOUBLE, []uint32{uint32(len(labels)), 1},
		m.packed(miINT8, []byte("y")), m.element(miUINT8, labels))
}

func (m mat) yDouble(labels []byte) []byte {
	var b []byte
	for _, l := range labels {
		b = m.order.AppendUint64(b, math.Float64bits(float64(l)))
	}
	return m.matrix(mxDOUBLE, []uint32{1, uint32(len(labels))}, m.element(miINT8, []byte("y")), m.element(miDOUBLE, b))
}

func (m mat) yUint8(labels []byte) []byte {
	values := m.element(miUINT8, labels)
	if len(labels) <= 4 {
		values = m.packed(miUINT8, labels)
	}
	return m.matrix(mxUINT8, []uint32{uint32(len(labels)), 1}, m.packed(miINT8, []byte("y")), values)
}

var (
	little = mat{binary.LittleEndian}
	big    = mat{binary.BigEndian}
)

func TestDecodeSVHN(t *testing.T) {
	x, y := noise(5*svhnPixels), []byte{10, 1, 9, 5, 10}
	m, h := little, little.header("IM")
	named := func(name string) []byte {
		return m.matrix(mxUINT8, []uint32{2, 1}, m.element(miINT8, []byte(name)), m.packed(miUINT8, []byte{1, 2}))
	}
	shaped := func(class, storage uint32, values []byte, dims ...uint32) []byte {
		return join(h, m.matrix(class, dims, m.packed(miINT8, []byte("X")), m.element(storage, values)))
	}
	labelled := func(class, storage uint32, values []byte, dims ...uint32) []byte {
		return join(h, m.x(x), m.matrix(class, dims, m.packed(miINT8, []byte("y")), m.element(storage, values)))
	}
	whole := join(h, m.zip(m.x(x)), m.zip(m.y(y)))
	plain := join(h, m.x(x), m.yUint8(y))
	complexX := m.x(x)
	complexX[8+8+1] |= matComplex
	cut := m.x(x)
	binary.LittleEndian.PutUint32(cut[4:], uint32(len(cut)-8-16))
	unpadded := m.y(y)
	unpadded = unpadded[:len(unpadded)-3]
	binary.LittleEndian.PutUint32(unpadded[4:], uint32(len(unpadded)-8))
	stuffed := m.zip(m.x(x))
	stuffed = append(stuffed, 0)
	binary.LittleEndian.PutUint32(stuffed[4:], uint32(len(stuffed)-8))

	for _, c := range []struct {
		name string
		file []byte
		err  string
	}{
		{"compressed", whole, ""},
		{"plain", plain, ""},
		{"y first", join(h, m.y(y), m.x(x)), ""},
		{"y double", join(h, m.zip(m.x(x)), m.zip(m.yDouble(y))), ""},
		{"last padding left out", join(h, m.zip(m.x(x)), m.zip(unpadded)), ""},
		{"big-endian", join(big.header("MI"), big.zip(big.x(x)), big.yDouble(y)), ""},
		{"big-endian packed", join(big.header("MI"), big.x(x[:3*svhnPixels]), big.yUint8(y[:3])), ""},

		{"empty", nil, "the header has 0 of 128 bytes"},
		{"marker", edit(whole, 126, 'X'), "bytes 126-127 are 58 4d"},
		{"v7.3", edit(whole, 125, 2), "version word 0x0200, want 0x0100"},
		{"wrong order", edit(edit(whole, 126, 'M'), 127, 'I'), "version word 0x0001"},
		{"no variables", h, "X and y are not both there"},
		{"no y", join(h, m.x(x)), "X and y are not both there"},
		{"tag cut", whole[:132], "4 of 8 bytes of an element's tag"},
		{"element type", join(h, m.element(9, x)), "element of type 9 at the top level"},
		{"other variable", join(h, m.x(x), m.y(y), named("z")), `variable "z": not expected`},
		{"twice", join(h, m.x(x), m.y(y), m.y(y)), `variable "y": not expected`},
		{"long name", join(h, named(string(bytes.Repeat([]byte("n"), 64)))), "variable name: 64 bytes, at most 63"},
		{"complex", join(h, complexX), `variable "X" is complex`},
		{"X class", shaped(mxDOUBLE, miUINT8, x, 32, 32, 3, 5), "class 6 stored as type 2"},
		{"X storage", shaped(mxUINT8, miINT8, x, 32, 32, 3, 5), "class 9 stored as type 1"},
		{"X shape", shaped(mxUINT8, miUINT8, x, 3, 32, 32, 5), "shape [3 32 32 5], want [32 32 3 N]"},
		{"X count", shaped(mxUINT8, miUINT8, x, 32, 32, 3, 6), "15360 bytes, but the shape [32 32 3 6] needs 18432"},
		{"X hostile", shaped(mxUINT8, miUINT8, nil, 32, 32, 3, 1<<30), "1073741824 images announced"},
		{"X negative", shaped(mxUINT8, miUINT8, nil, 32, 32, 3, 1<<31), "negative dimension"},
		{"X empty", shaped(mxUINT8, miUINT8, nil, 32, 32, 3, 0), "0 images announced"},
		{"element too small", join(h, cut), "15360 bytes of values in an element of"},
		{"element too large", join(h, m.element(miMATRIX, join(m.x(x)[8:], make([]byte, 8))), m.y(y)), "15360 bytes of values in an element of 15424 with 15368 left"},
		{"X truncated", whole[:2000], "truncated: the file ends after 2000 bytes, but its element X alone has "},
		{"X plain truncated", plain[:128+64+2*svhnPixels+100], "2 of 5 images are whole"},
		{"X corrupt", edit(whole, 300, whole[300]^0xff), `variable "X": `},
		{"X checksum", edit(whole, len(h)+len(m.zip(m.x(x)))-1, 0x55), "checksum"},
		{"stuffed", join(h, stuffed, m.y(y)), "1 bytes after the compressed stream"},
		{"y class", labelled(4, miUINT8, y, 5, 1), "class 4, want 6 (double) or 9 (uint8)"},
		{"y storage", labelled(mxUINT8, miDOUBLE, make([]byte, 40), 5, 1), "class 9 stored as type 9"},
		{"y shape", labelled(mxUINT8, miUINT8, make([]byte, 10), 5, 2), "shape [5 2], want [N 1]"},
		{"y size", labelled(mxUINT8, miUINT8, y, 6, 1), "5 bytes, but the shape [6 1] needs 6"},
		{"y count", labelled(mxUINT8, miUINT8, y[:4], 4, 1), "5 images but 4 labels"},
		{"label 0", labelled(mxUINT8, miUINT8, []byte{1, 2, 0, 3, 4}, 5, 1), "label 0 of image 2 is not 1..10"},
		{"label 11", labelled(mxUINT8, miUINT8, []byte{1, 2, 3, 3, 11}, 5, 1), "label 11 of image 4 is not 1..10"},
		{"label 2.5", labelled(mxDOUBLE, miDOUBLE, bytes.Repeat(binary.LittleEndian.AppendUint64(nil, math.Float64bits(2.5)), 5), 5, 1), "label 2.5 of image 0"},
		{"label NaN", labelled(mxDOUBLE, miDOUBLE, bytes.Repeat([]byte{0xff}, 40), 5, 1), "label NaN of image 0"},
		{"trailing", join(whole, []byte{0}), "1 of 8 bytes of an element's tag"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := DecodeSVHN(Train, bytes.NewReader(c.file))
			wantError(t, err, c.err)
			if err == nil {
				checkSVHN(t, s, x, y)
			}
		})
	}
}

// checkSVHN compares a set with what MATLAB would have stored.
func checkSVHN(t *testing.T, s *Set, raw, labels []byte) {
	t.Helper()
	for n := range s.Len() {
		if want := int32(labels[n] % 10); s.Label(n) != want {
			t.Errorf("label %d, want %d", s.Label(n), want)
		}
		got := s.Example(n).U8
		for c := range 3 {
			for h := range 32 {
				for w := range 32 {
					if got[(c*32+h)*32+w] != raw[h+32*(w+32*(c+3*n))] {
						t.Fatalf("image %d, channel %d, row %d, column %d is wrong", n, c, h, w)
					}
				}
			}
		}
	}
}

func TestDecodeSVHNPartial(t *testing.T) {
	x, y := noise(5*svhnPixels), []byte{10, 1, 9, 5, 10}
	whole := join(little.header("IM"), little.x(x), little.y(y))
	for _, c := range []struct {
		name   string
		file   []byte
		labels []byte
		n      int
		err    string
	}{
		{"whole", whole, y, 5, ""},
		{"truncated", whole[:128+64+2*svhnPixels+100], y, 2, ""},
		{"nothing", whole[:128], y, 0, "truncated: no variable is there"},
		{"no whole image", whole[:1000], y, 0, "no examples"},
		{"labels", whole, y[:4], 0, "4 labels for 5 images"},
		{"y first", join(little.header("IM"), little.y(y)), y, 0, `the first variable is "y"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := DecodeSVHNPartial(Train, bytes.NewReader(c.file), c.labels)
			wantError(t, err, c.err)
			if err == nil {
				if s.Len() != c.n {
					t.Errorf("%d images, want %d", s.Len(), c.n)
				}
				checkSVHN(t, s, x, y)
			}
		})
	}
}

// The real files: a repacked subset, its labels in the official order, and the
// truncated official file, whose whole images are those of the subset.
func TestRealSVHN(t *testing.T) {
	dir := realData(t)
	subset := filepath.Join(dir, "svhn-subset")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(subset, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	official := read("official_order_train_labels_73257.u8")
	train, err := Open("svhn", dir, Train, Options{})
	if err != nil {
		t.Fatal(err)
	}
	test, err := Open("svhn", dir, Test, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if train.Len() != 883 || test.Len() != 200 || train.Info().Published != 73257 {
		t.Errorf("%d training and %d test images of a subset of 883 and 200", train.Len(), test.Len())
	}
	prefix := read("official_train_32x32.mat.first2686976bytes")
	_, err = DecodeSVHN(Train, bytes.NewReader(prefix))
	wantError(t, err, "truncated: the file ends after 2686976 bytes, but its element X alone has 182004347; 1083 of 73257 images are whole")
	part, err := DecodeSVHNPartial(Train, bytes.NewReader(prefix), official)
	if err != nil {
		t.Fatal(err)
	}
	both := slices.Concat(train.Values().U8, test.Values().U8)
	labels := slices.Concat(train.Labels(), test.Labels())
	if !bytes.Equal(part.Values().U8, both) || !slices.Equal(part.Labels(), labels) {
		t.Error("the whole images of the official file are not the subset's")
	}
	for _, c := range []struct {
		file string
		want []int // counts of labels 0 … 9, of which the label files write 0 as 10
	}{
		{"official_order_train_labels_73257.u8", []int{4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659}},
		{"official_order_test_labels_26032.u8", []int{1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595}},
	} {
		got := make([]int, 10)
		for _, b := range read(c.file) {
			got[b%10]++
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s counts %v, want %v", c.file, got, c.want)
		}
	}
}

func FuzzSVHN(f *testing.F) {
	x, y := noise(2*svhnPixels), []byte{10, 3}
	packed := join(little.header("IM"), little.zip(little.x(x)), little.zip(little.y(y)))
	f.Add(packed)
	f.Add(packed[:700])
	f.Add(join(little.header("IM"), little.x(x), little.yUint8(y)))
	f.Add(join(big.header("MI"), big.x(x), big.yDouble(y)))
	f.Add(join(little.header("IM"), little.x(x))[:4000])
	f.Add(join(little.header("IM"), little.words(miCOMPRESSED, 1<<31)))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := DecodeSVHN(Train, bytes.NewReader(file))
		checkDecoded(t, s, err)
		labels := bytes.Repeat([]byte{10}, 1<<10)
		part, err2 := DecodeSVHNPartial(Train, bytes.NewReader(file), labels)
		checkDecoded(t, part, err2)
		if err == nil && err2 == nil && !bytes.Equal(s.Values().U8, part.Values().U8) {
			t.Error("a whole file read as a partial one gives other images")
		}
	})
}
