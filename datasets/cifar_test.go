package datasets

import (
	"bytes"
	"io"
	"slices"
	"testing"
)

// cifarRecords encodes n records; labels(i) are the label bytes of record i.
func cifarRecords(n int, labels func(i int) []byte) []byte {
	var b []byte
	for i := range n {
		b = append(b, labels(i)...)
		b = append(b, noise(i + cifarPixels)[i:]...)
	}
	return b
}

func TestDecodeCIFAR10(t *testing.T) {
	file := cifarRecords(3, func(i int) []byte { return []byte{byte(9 - i)} })
	s, err := DecodeCIFAR10(Train, bytes.NewReader(file), bytes.NewReader(file[:3073]))
	if err != nil {
		t.Fatal(err)
	}
	if want := []int32{9, 8, 7, 9}; !slices.Equal(s.Labels(), want) {
		t.Errorf("labels %v, want %v", s.Labels(), want)
	}
	if !bytes.Equal(s.Example(2).U8, file[2*3073+1:]) || !bytes.Equal(s.Example(3).U8, file[1:3073]) {
		t.Error("images differ from what was encoded")
	}
	for _, c := range []struct {
		name string
		file []byte
		err  string
	}{
		{"empty", nil, "no examples"},
		{"truncated", file[:len(file)-1], "file 1 of 1, record 2: truncated: 3072 of 3073 bytes are there"},
		{"trailing", join(file, []byte{1}), "record 3: truncated: 1 of 3073 bytes are there"},
		{"label", edit(file, 3073, 10), "file 1 of 1, record 1: label 10 is outside 0..9"},
	} {
		_, err := DecodeCIFAR10(Train, bytes.NewReader(c.file))
		t.Run(c.name, func(t *testing.T) { wantError(t, err, c.err) })
	}
}

func TestDecodeCIFAR100(t *testing.T) {
	file := cifarRecords(2, func(i int) []byte { return []byte{byte(19 * i), byte(99 - i)} })
	s, err := DecodeCIFAR100(Test, bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if want := []int32{99, 98}; !slices.Equal(s.Labels(), want) {
		t.Errorf("labels %v, want the fine ones %v", s.Labels(), want)
	}
	if !bytes.Equal(s.Example(1).U8, file[3074+2:]) {
		t.Error("image differs from what was encoded")
	}
	_, err = DecodeCIFAR100(Test, bytes.NewReader(edit(file, 0, 20)))
	wantError(t, err, "record 0: coarse label 20 is outside 0..19")
	_, err = DecodeCIFAR100(Test, bytes.NewReader(edit(file, 1, 100)))
	wantError(t, err, "label 100 is outside 0..99")
}

func TestClassNames(t *testing.T) {
	for _, in := range []Info{mnistInfo(Train), cifar10Info(Train), cifar100Info(Train), svhnInfo(Train)} {
		want := 10
		if in.Name == "cifar100" {
			want = 100
			if !slices.IsSorted(in.Classes) {
				t.Error("the fine classes of CIFAR-100 are in alphabetical order")
			}
		}
		names := slices.Clone(in.Classes)
		slices.Sort(names)
		if len(slices.Compact(names)) != want {
			t.Errorf("%s has %d different classes, want %d", in.Name, len(names), want)
		}
	}
}

func FuzzCIFAR(f *testing.F) {
	ten := cifarRecords(2, func(i int) []byte { return []byte{byte(i)} })
	hundred := cifarRecords(2, func(i int) []byte { return []byte{byte(i), byte(50 * i)} })
	f.Add(ten, false)
	f.Add(ten[:4000], false)
	f.Add(edit(ten, 0, 11), false)
	f.Add(hundred, true)
	f.Add(hundred[:3073], true)
	f.Fuzz(func(t *testing.T, file []byte, fine bool) {
		decode := DecodeCIFAR10
		if fine {
			decode = DecodeCIFAR100
		}
		s, err := decode(Train, bytes.NewReader(file))
		checkDecoded(t, s, err)
		if plain, err2 := decode(Train, io.MultiReader(bytes.NewReader(file))); (err == nil) != (err2 == nil) ||
			err == nil && !bytes.Equal(plain.Values().U8, s.Values().U8) {
			t.Error("the result depends on whether the size is known")
		}
	})
}
