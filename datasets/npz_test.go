package datasets

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// npy encodes a header text and data as version 1.
func npy(header string, data []byte) []byte {
	b := append([]byte(npyMagic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(header)))
	return join(b, []byte(header), data)
}

func TestReadNPY(t *testing.T) {
	const u1 = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }\n"
	data := []byte{1, 2, 3, 4, 5, 6}
	v2 := join([]byte(npyMagic), []byte{2, 0}, binary.LittleEndian.AppendUint32(nil, uint32(len(u1))), []byte(u1), data)
	for _, c := range []struct {
		name string
		file []byte
		want any
		err  string
	}{
		{"uint8", npy(u1, data), Array{[]int{2, 3}, data}, ""},
		{"version 2", v2, Array{[]int{2, 3}, data}, ""},
		{"version 3", edit(v2, 6, 3), Array{[]int{2, 3}, data}, ""},
		{"spacing and quotes", npy(`{ "shape":(2,3) , "fortran_order" :False,"descr":"|u1"}   `, data), Array{[]int{2, 3}, data}, ""},
		{"python 2", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (6L,), }", data), Array{[]int{6}, data}, ""},
		{"scalar", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (), }", data[:1]), Array{[]int{}, data[:1]}, ""},
		{"int32", npy("{'descr': '<i4', 'fortran_order': False, 'shape': (1,), }", []byte{254, 255, 255, 255}), Array{[]int{1}, []int32{-2}}, ""},
		{"int64", npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }", []byte{0, 0, 0, 0, 1, 0, 0, 0}), Array{[]int{1}, []int64{1 << 32}}, ""},
		{"float32", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", []byte{0, 0, 0x80, 0x3f}), Array{[]int{1}, []float32{1}}, ""},

		{"empty", nil, nil, "truncated: an npy header of 0 bytes"},
		{"magic", edit(npy(u1, data), 1, 'X'), nil, "not an npy array: it begins with bytes 93 58"},
		{"version 4", edit(npy(u1, data), 6, 4), nil, "npy version 4.0, want 1 to 3"},
		{"no length", npy(u1, data)[:9], nil, "the npy header's length is missing"},
		{"header cut", npy(u1, data)[:30], nil, "20 of the 60 bytes of the npy header"},
		{"long header", join(v2[:8], []byte{0, 0, 2, 0}), nil, "npy header of 131072 bytes, at most 65536"},
		{"data cut", npy(u1, data[:5]), nil, "truncated: 5 of 6 data bytes"},
		{"trailing", npy(u1, append(data, 7)), nil, "trailing bytes"},
		{"big-endian", npy("{'descr': '>i4', 'fortran_order': False, 'shape': (1,), }", data), nil, `dtype ">i4" is not read`},
		{"float64", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", data), nil, `dtype "<f8" is not read`},
		{"object", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", data), nil, `dtype "|O" is not read`},
		{"record", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", data), nil, "npy header: no '"},
		{"fortran", npy("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", data), nil, "the order is Fortran's"},
		{"unknown key", npy("{'descr': '|u1', 'order': False, 'shape': (2, 3), }", data), nil, `unknown key "order"`},
		{"key twice", npy("{'descr': '|u1', 'descr': '|u1', 'shape': (2, 3), }", data), nil, `key "descr" comes twice`},
		{"key missing", npy("{'descr': '|u1', 'shape': (2, 3), }", data), nil, "not all there"},
		{"after", npy(strings.TrimSpace(u1)+"1", data), nil, "text after the dictionary"},
		{"no comma", npy("{'descr': '|u1' 'fortran_order': False, 'shape': (2, 3), }", data), nil, "no comma after"},
		{"negative", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, 3), }", data), nil, "a dimension is missing or too large"},
		{"hostile", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 99999999), }", data), nil, "is too large"},
		{"hostile 2", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999999999,), }", data), nil, "missing or too large"},
		{"not closed", npy("{'descr': '|u1", data), nil, "not closed"},
		{"no dictionary", npy("[]", data), nil, "no { where one is due"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := ReadNPY(bytes.NewReader(c.file))
			wantError(t, err, c.err)
			if err == nil && !reflect.DeepEqual(a, c.want) {
				t.Errorf("%v, want %v", a, c.want)
			}
		})
	}
}

func TestWriteNPY(t *testing.T) {
	many := make([]int64, 20000)
	for i := range many {
		many[i] = int64(i) << 20
	}
	for _, a := range []Array{
		{[]int{2, 3}, []uint8{1, 2, 3, 4, 5, 6}},
		{[]int{2}, []int32{-1, math.MaxInt32}},
		{[]int{200, 100}, many},
		{[]int{2, 1}, []float32{-0.5, float32(math.Inf(1))}},
		{[]int{}, []float32{3}},
		{[]int{0, 4}, []uint8{}},
	} {
		var b bytes.Buffer
		if err := WriteNPY(&b, a); err != nil {
			t.Fatal(err)
		}
		if at := bytes.IndexByte(b.Bytes(), '\n') + 1; at%64 != 0 {
			t.Errorf("the data of %d begin at byte %d, which 64 does not divide", a.Shape, at)
		}
		back, err := ReadNPY(&b)
		if err != nil || !reflect.DeepEqual(back, a) {
			t.Errorf("%v came back as %v, %v", a.Shape, back.Shape, err)
		}
	}
	// What numpy.save writes for numpy.zeros(3, "uint8").
	var b bytes.Buffer
	WriteNPY(&b, Array{[]int{3}, []uint8{0, 0, 0}})
	want := npyMagic + "\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }" + strings.Repeat(" ", 60) + "\n\x00\x00\x00"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	wantError(t, WriteNPY(&b, Array{[]int{2}, []uint8{1}}), "1 elements for shape [2]")
	wantError(t, WriteNPY(&b, Array{[]int{1}, []float64{1}}), "data of type []float64")
}

func named(name string, data any, shape ...int) NamedArray {
	return NamedArray{name, Array{shape, data}}
}

func TestOpenNPZ(t *testing.T) {
	x := noise(2 * 3 * 5 * 6)
	grey := []float32{0, 0.5, 1, 0.25, 0, 0, 0, 1}
	full := []NamedArray{
		named("x_train", x, 2, 3, 5, 6), named("y_train", []int64{0, 2}, 2),
		named("x_test", grey, 2, 2, 2), named("y_test", []uint8{4, 1}, 2),
		named("note", []int32{1}, 1),
	}
	alone := []NamedArray{named("x", x, 2, 3, 5, 6), named("y", []int32{1, 0}, 2)}
	with := func(i int, a NamedArray) []NamedArray {
		c := slices.Clone(full)
		c[i] = a
		return c
	}
	for _, c := range []struct {
		name   string
		arrays []NamedArray
		split  Split
		err    string
		shape  [3]int
		labels []int32
		k      int
	}{
		{"train", full, Train, "", [3]int{3, 5, 6}, []int32{0, 2}, 5},
		{"test", full, Test, "", [3]int{1, 2, 2}, []int32{4, 1}, 5},
		{"alone", alone, Test, "", [3]int{3, 5, 6}, []int32{1, 0}, 2},
		{name: "alone is no training set", arrays: alone, split: Train, err: "no arrays x_train and y_train"},
		{name: "extra", arrays: full, split: Extra, err: "no arrays x_extra and y_extra"},
		{name: "y missing", arrays: full[:1], split: Train, err: "no arrays x_train and y_train"},
		{name: "test missing", arrays: full[:2], split: Test, err: "no arrays x_test and y_test"},
		{name: "channels last", arrays: with(0, named("x_train", noise(2*30*30*3), 2, 30, 30, 3)), split: Train, err: "looks like (N,H,W,C)"},
		{name: "flat", arrays: with(0, named("x_train", x, 2, 90)), split: Train, err: "shape [2 90], want (N,C,H,W) or (N,H,W)"},
		{name: "type", arrays: with(0, named("x_train", make([]int32, 8), 2, 2, 2)), split: Train, err: "elements of type []int32"},
		{name: "NaN", arrays: with(2, named("x_test", []float32{0, float32(math.NaN())}, 2, 1, 1)), split: Test, err: "x_test: element [1 0 0] is NaN, and no number"},
		{name: "counts", arrays: with(1, named("y_train", []int64{0, 2, 1}, 3)), split: Train, err: "x_train has 2 examples but y_train 3"},
		{name: "label shape", arrays: with(1, named("y_train", []int64{0, 2}, 2, 1)), split: Train, err: "y_train: shape [2 1], want [N]"},
		{name: "label type", arrays: with(1, named("y_train", []float32{0, 2}, 2)), split: Train, err: "labels of type []float32"},
		{name: "label", arrays: with(1, named("y_train", []int64{0, -1}, 2)), split: Train, err: "label -1 of example 1"},
		{name: "label of the other", arrays: with(3, named("y_test", []int64{0, 1 << 40}, 2)), split: Train, err: "y_test: label 1099511627776"},
		{name: "one class", arrays: []NamedArray{named("x", grey, 2, 2, 2), named("y", []int32{0, 0}, 2)}, split: Test, err: "at least two classes"},
		{name: "empty", arrays: []NamedArray{named("x", []uint8{}, 0, 2, 2), named("y", []int32{}, 0)}, split: Test, err: "classes"},
		{name: "twice", arrays: append(full, full[0]), split: Train, err: "array x_train.npy comes twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "own.npz")
			if err := SaveNPZ(path, c.arrays...); err != nil {
				t.Fatal(err)
			}
			s, err := Open("npz:"+path, "", c.split, Options{})
			wantError(t, err, c.err)
			if err != nil {
				if !strings.Contains(err.Error(), path) {
					t.Errorf("error %q does not name the file", err)
				}
				return
			}
			in := s.Info()
			if [3]int{in.Channels, in.Height, in.Width} != c.shape || len(in.Classes) != c.k || !slices.Equal(s.Labels(), c.labels) {
				t.Errorf("info %+v, labels %v", in, s.Labels())
			}
			if c.name == "test" && (in.DType != Float32 || !slices.Equal(s.Values().F32, grey)) {
				t.Errorf("values %v, want %v", s.Values().F32, grey)
			}
		})
	}
}

// TestNPZ: what is asked of own data besides their form; what is not so is named
// with its array, its place and its value.
func TestNPZ(t *testing.T) {
	like := &Info{Channels: 1, Height: 2, Width: 2, Classes: []string{"cat", "dog", "cow"}}
	images := func(v ...float32) []float32 { return append([]float32{0, 1, 0.5, 1, 0, 0}, v...) }
	x, adv, y := named("x", images(0, 0.25), 2, 2, 2), named("x_adv", images(0.75, 1), 2, 1, 2, 2), named("y", []int32{0, 1}, 2)
	beyond, below := math.Nextafter32(1, 2), -math.SmallestNonzeroFloat32
	for _, c := range []struct {
		name   string
		arrays []NamedArray
		want   NPZ
		err    string
		last   float32
		label  string // what Info().Name ends in
	}{
		{"any", []NamedArray{named("x", images(-3, 200), 2, 2, 2), adv, y}, NPZ{}, "", 200, "own.npz"},
		{"unit", []NamedArray{x, adv, y}, NPZ{Unit: true}, "", 0.25, "own.npz"},
		{"attacked", []NamedArray{x, adv, y}, NPZ{Unit: true, Like: like}, "", 1, "own.npz (x_adv)"},
		{"not attacked", []NamedArray{x, y}, NPZ{Like: like}, "", 0.25, "own.npz (x)"},
		{"test set", []NamedArray{named("x_test", images(0, 0.125), 2, 2, 2), named("y_test", []uint8{2, 2}, 2), x}, NPZ{Like: like}, "", 0.125, "own.npz (x_test)"},
		{name: "beyond", arrays: []NamedArray{named("x", images(0, float32(beyond)), 2, 2, 2), y}, want: NPZ{Unit: true}, err: "x: element [1 1 1] is 1.0000001: float32 images lie in [0,1]; scale or clip them"},
		{name: "below", arrays: []NamedArray{x, named("x_adv", images(float32(below), 0), 2, 1, 2, 2), y}, want: NPZ{Unit: true, Like: like}, err: "x_adv: element [1 0 1 0] is -1e-45: float32 images"},
		{name: "infinite", arrays: []NamedArray{named("x", images(0, float32(math.Inf(-1))), 2, 2, 2), y}, err: "x: element [1 1 1] is -Inf, and no number"},
		{name: "one label only", arrays: []NamedArray{x, named("y", []int32{1, 1}, 2)}, want: NPZ{Like: like}, last: 0.25, label: "(x)"},
		{name: "label", arrays: []NamedArray{x, named("y", []int32{0, 3}, 2)}, want: NPZ{Like: like}, err: "y: label 3 of example 1 is outside 0..2"},
		{name: "height", arrays: []NamedArray{named("x", images(0, 0), 2, 1, 4), y}, want: NPZ{Like: like}, err: "x: shape [2 1 4]: the network takes images of (1,2,2)"},
		{name: "channels", arrays: []NamedArray{named("x", images(0, 0), 1, 2, 2, 2), named("y", []int32{1}, 1)}, want: NPZ{Like: like}, err: "the network takes images of (1,2,2)"},
		{name: "no images", arrays: []NamedArray{y}, want: NPZ{Like: like}, err: "want the arrays x_adv, x_test or x, with y_test or y"},
		{name: "no labels", arrays: []NamedArray{x, adv}, want: NPZ{Like: like}, err: "want the arrays x_adv"},
		{name: "other file", arrays: []NamedArray{x, y}, want: NPZ{SHA256: strings.Repeat("0", 64)}, err: ", not " + strings.Repeat("0", 64) + ": it has changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "own.npz")
			if err := SaveNPZ(path, c.arrays...); err != nil {
				t.Fatal(err)
			}
			set, err := OpenNPZ(path, Test, c.want)
			wantError(t, err, c.err)
			if err != nil {
				if !strings.Contains(err.Error(), path) {
					t.Errorf("error %q does not name the file", err)
				}
				return
			}
			if v := set.Values().F32; v[7] != c.last || !strings.HasSuffix(set.Info().Name, c.label) {
				t.Errorf("%s: values %v", set.Info().Name, v)
			}
			if c.want.Like != nil && !slices.Equal(set.Info().Classes, like.Classes) {
				t.Errorf("classes %v", set.Info().Classes)
			}
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c.want.SHA256 = fmt.Sprintf("%x", sha256.Sum256(file))
			if _, err := OpenNPZ(path, Test, c.want); err != nil {
				t.Errorf("with its own SHA-256: %v", err)
			}
		})
	}
}

func TestOpenNPZCompressedAndDamaged(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, a := range []NamedArray{named("x", noise(5000), 50, 10, 10), named("y", make([]uint8, 50), 50), named("y_train", []uint8{1}, 1)} {
		w, _ := z.Create(a.Name + ".npy")
		WriteNPY(w, a.Array)
	}
	z.Close()
	path := filepath.Join(t.TempDir(), "c.npz")
	for _, c := range []struct {
		name string
		file []byte
		err  string
	}{
		{"deflated", b.Bytes(), ""},
		{"corrupt", edit(b.Bytes(), 300, b.Bytes()[300]^0x40), "x: "},
		{"truncated", b.Bytes()[:b.Len()-20], "not a valid zip file"},
	} {
		os.WriteFile(path, c.file, 0o644)
		s, err := OpenNPZ(path, Test, NPZ{})
		wantError(t, err, c.err)
		if err == nil && (s.Len() != 50 || !bytes.Equal(s.Values().U8, noise(5000))) {
			t.Error("values differ from what was saved")
		}
	}
}

func TestSaveIsAtomicAndRepeatable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.npz")
	good := named("x", []uint8{1, 2}, 2)
	if err := SaveNPZ(path, good); err != nil {
		t.Fatal(err)
	}
	first, _ := os.ReadFile(path)
	wantError(t, SaveNPZ(path, named("x", []uint8{1}, 2)), "array x: npy: 1 elements for shape [2]")
	if now, _ := os.ReadFile(path); !bytes.Equal(now, first) {
		t.Error("a failed save touched the file")
	}
	if err := SaveNPY(filepath.Join(dir, "none", "a.npy"), good.Array); err == nil {
		t.Error("saved into a folder that is not there")
	}
	SaveNPZ(path, good)
	if now, _ := os.ReadFile(path); !bytes.Equal(now, first) {
		t.Error("the same arrays gave other bytes")
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("files left behind: %v", entries)
	}
}

func FuzzNPY(f *testing.F) {
	for _, a := range []Array{{[]int{2, 3}, noise(6)}, {[]int{2}, []int64{5, -1}}, {[]int{1, 1}, []float32{1.5}}, {[]int{}, []int32{7}}} {
		var b bytes.Buffer
		WriteNPY(&b, a)
		f.Add(b.Bytes())
		f.Add(b.Bytes()[:b.Len()-1])
		f.Add(b.Bytes()[:40])
	}
	f.Add(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627775, 2), }", nil))
	f.Fuzz(func(t *testing.T, file []byte) {
		a, err := ReadNPY(bytes.NewReader(file))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteNPY(&b, a); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := ReadNPY(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		var again bytes.Buffer
		WriteNPY(&again, back)
		if !bytes.Equal(b.Bytes(), again.Bytes()) {
			t.Error("not the same after a round trip")
		}
	})
}

func FuzzNPZ(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "seed.npz")
	SaveNPZ(path, named("x", noise(8), 2, 2, 2), named("y", []int32{0, 1}, 2))
	seed, _ := os.ReadFile(path)
	f.Add(seed)
	f.Add(seed[:len(seed)-1])
	f.Add(seed[10:])
	f.Add(edit(seed, 130, 0xff))
	f.Fuzz(func(t *testing.T, file []byte) {
		z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		s, err := decodeNPZ(z, "fuzz", Test, NPZ{})
		checkDecoded(t, s, err)
	})
}
