package run

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// file builds safetensors bytes by hand.
func file(header string, data ...byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func read(b []byte) (*Tensors, error) {
	return ReadSafetensors(bytes.NewReader(b), int64(len(b)))
}

func encode(t *testing.T, x *Tensors) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, WriteSafetensors(&b, x))
	return b.Bytes()
}

// TestSafetensorsLayout holds the writer to bytes written out by hand from the
// format's description, in the reference implementation's order. Fed the same
// tensors, its version 0.8.0 wrote the same bytes.
func TestSafetensorsLayout(t *testing.T) {
	x := &Tensors{
		List: []Tensor{
			{"mask", "BOOL", []int{3}, []byte{1, 0, 1}},
			{"b", "F32", []int{}, []byte{0, 0, 128, 63}},
			{"a", "F32", []int{2, 1}, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
			{"n", "I64", []int{1}, []byte{9, 0, 0, 0, 0, 0, 0, 0}},
		},
		Metadata: map[string]string{"k": "v"},
	}
	header := `{"__metadata__":{"k":"v"},` +
		`"n":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},` +
		`"a":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]},` +
		`"b":{"dtype":"F32","shape":[],"data_offsets":[16,20]},` +
		`"mask":{"dtype":"BOOL","shape":[3],"data_offsets":[20,23]}}`
	header += strings.Repeat(" ", (8-len(header)%8)%8)
	want := file(header, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 128, 63, 1, 0, 1)
	if got := encode(t, x); !bytes.Equal(got, want) {
		t.Errorf("wrote\n%q\nwant\n%q", got, want)
	}
	if x.List[0].Name != "mask" {
		t.Error("writing reordered the caller's tensors")
	}
}

func TestSafetensorsRoundTrip(t *testing.T) {
	x := &Tensors{Metadata: map[string]string{"quote\"": "back\\slash\n", "": "é <&>"}}
	for i, d := range dtypes {
		for j, shape := range [][]int{{}, {0}, {3}, {2, 0, 5}, {2, 3, 1, 2}} {
			n, err := byteLen(d.name, shape)
			must(t, err)
			data := make([]byte, n)
			for k := range data {
				data[k] = byte(i + 7*j + k)
			}
			x.List = append(x.List, Tensor{fmt.Sprintf("%d.%s \"é\"", j, d.name), d.name, shape, data})
		}
	}
	b := encode(t, x)
	if n := binary.LittleEndian.Uint64(b); n%8 != 0 {
		t.Errorf("the data starts at %d", n+8)
	}
	got, err := read(b)
	must(t, err)
	byName := cmpopts.SortSlices(func(a, b Tensor) bool { return a.Name < b.Name })
	if d := cmp.Diff(x, got, byName); d != "" {
		t.Error(d)
	}
	if again := encode(t, got); !bytes.Equal(again, b) {
		t.Error("a second writing differs")
	}
}

func TestSafetensorsAccepts(t *testing.T) {
	for name, b := range map[string][]byte{
		"no tensors":        file(`{}`),
		"unaligned, spaces": file(` {}`[1:] + "   "),
		"any order":         file(`{"b":{"shape":[1],"data_offsets":[1,2],"dtype":"U8"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, 2),
		"white space":       file("{ \"a\" :\n{\"dtype\":\"U8\", \"shape\":[ ],\"data_offsets\":[0,1]}}", 1),
		"empty between":     file(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, 1),
	} {
		if _, err := read(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSafetensorsRejects(t *testing.T) {
	tensor := func(dtype, shape, offsets string) string {
		return fmt.Sprintf(`{"x":{"dtype":"%s","shape":%s,"data_offsets":%s}}`, dtype, shape, offsets)
	}
	huge := binary.LittleEndian.AppendUint64(nil, 1<<63)
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "truncated"},
		{"short length", []byte{1, 2, 3}, "truncated"},
		{"huge header", append(huge, '{', '}'), "above the format's"},
		{"header above the limit", binary.LittleEndian.AppendUint64(nil, maxHeader+1), "above the format's"},
		{"header past the end", binary.LittleEndian.AppendUint64(nil, maxHeader), "truncated"},
		{"no header", file(``), "does not start with {"},
		{"leading space", file(` {}`), "does not start with {"},
		{"not JSON", file(`{nope}`), "invalid character"},
		{"open", file(`{"x":`), "unexpected EOF"},
		{"second object", file(`{}{}`), "bytes after"},
		{"tab after", file("{}\t"), "bytes after"},
		{"not UTF-8", file("{\"\xff\":{}}"), "not UTF-8"},
		{"tensor no object", file(`{"x":1}`), "1 stands where { should"},
		{"unknown member", file(`{"x":{"dtype":"U8","shape":[],"data_offsets":[0,1],"y":0}}`, 0), "not part of the format"},
		{"no dtype", file(`{"x":{"shape":[],"data_offsets":[0,1]}}`, 0), "needs dtype"},
		{"no shape", file(`{"x":{"dtype":"U8","data_offsets":[0,1]}}`, 0), "needs dtype"},
		{"no offsets", file(`{"x":{"dtype":"U8","shape":[]}}`, 0), "needs dtype"},
		{"one offset", file(tensor("U8", "[1]", "[0]"), 0), "needs dtype"},
		{"three offsets", file(tensor("U8", "[1]", "[0,1,2]"), 0), "more than 2"},
		{"unknown dtype", file(tensor("F8_E4M3", "[1]", "[0,1]"), 0), `dtype "F8_E4M3" is not supported`},
		{"negative shape", file(tensor("U8", "[-1]", "[0,1]"), 0), "-1 is not a non-negative integer"},
		{"fraction", file(tensor("U8", "[1.0]", "[0,1]"), 0), "1.0 is not"},
		{"shape is text", file(tensor("U8", `["1"]`, "[0,1]"), 0), "1 is not"},
		{"product overflows", file(tensor("F32", "[4294967296,4294967296,0]", "[0,0]")), "impossible"},
		{"product overflows into the sign", file(tensor("F64", "[1152921504606846976]", "[0,0]")), "impossible"},
		{"rank", file(tensor("U8", "["+strings.Repeat("1,", maxRank)+"1]", "[0,1]"), 0), "more than 64"},
		{"length", file(tensor("F32", "[2]", "[0,4]"), 0, 0, 0, 0), "F32 [2] takes 8 bytes, data_offsets say 4"},
		{"backwards", file(tensor("U8", "[1]", "[1,0]"), 0), "data_offsets say -1"},
		{"gap at the start", file(tensor("U8", "[1]", "[1,2]"), 0, 0), "starts at byte 1"},
		{"overlap", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 0, 0, 0), "starts at byte 1"},
		{"truncated data", file(tensor("U8", "[2]", "[0,2]"), 0), "truncated: the tensors take 2 bytes and the file has 1"},
		{"bytes after", file(tensor("U8", "[1]", "[0,1]"), 0, 0), "1 bytes follow"},
		{"same name", file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`), `"a" appears twice`},
		{"same member", file(`{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}`), `"dtype" appears twice`},
		{"metadata twice", file(`{"__metadata__":{},"__metadata__":{}}`), "appears twice"},
		{"metadata number", file(`{"__metadata__":{"k":1}}`), "1 is not a string"},
	} {
		_, err := read(c.file)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

func TestSafetensorsWriterRejects(t *testing.T) {
	for _, c := range []struct {
		x    Tensors
		want string
	}{
		{Tensors{List: []Tensor{{"x", "F32", []int{2}, make([]byte, 4)}}}, `tensor "x": F32 [2] takes 8 bytes, not 4`},
		{Tensors{List: []Tensor{{"x", "F33", nil, nil}}}, `tensor "x": dtype "F33" is not supported`},
		{Tensors{List: []Tensor{{"x", "U8", []int{-1}, nil}}}, `tensor "x": shape [-1] is impossible`},
		{Tensors{List: []Tensor{{"x", "U8", []int{0}, nil}, {"x", "F32", []int{0}, nil}}}, `tensor "x": the name is already taken`},
		{Tensors{List: []Tensor{{"__metadata__", "U8", []int{0}, nil}}}, `tensor "__metadata__": the name is already taken`},
		{Tensors{List: []Tensor{{"\xff", "U8", []int{0}, nil}}}, `"\xff" is not UTF-8`},
		{Tensors{Metadata: map[string]string{"k": "\xff"}}, `"\xff" is not UTF-8`},
	} {
		wantError(t, WriteSafetensors(io.Discard, &c.x), c.want)
	}
}

// TestHostileSizesAllocateLittle: what a small file claims about its size must
// not be believed.
func TestHostileSizesAllocateLittle(t *testing.T) {
	for name, b := range map[string][]byte{
		"header":  binary.LittleEndian.AppendUint64(nil, maxHeader),
		"tensor":  file(`{"x":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296]}}`),
		"rank":    file(`{"x":{"dtype":"F32","shape":[` + strings.Repeat("0,", 1<<15) + `0],"data_offsets":[0,0]}}`),
		"nesting": file(strings.Repeat(`{"x":`, 1<<15)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := read(b)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 64<<10+uint64(8*len(b)) {
			t.Errorf("%s: a file of %d bytes made it allocate %d", name, len(b), got)
		}
	}
}

func TestReadSafetensorsFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	must(t, os.WriteFile(path, file(`{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 1, 2), 0o644))
	got, err := ReadSafetensorsFile(path)
	must(t, err)
	if d := cmp.Diff(&Tensors{List: []Tensor{{"x", "U8", []int{2}, []byte{1, 2}}}}, got); d != "" {
		t.Error(d)
	}
	must(t, os.WriteFile(path, []byte("hello"), 0o644))
	_, err = ReadSafetensorsFile(path)
	wantError(t, err, "read "+path+": truncated: 5 bytes are too few for a safetensors file")
	for _, start := range []string{"PK\x03\x04........", "\x80\x02\x8a\x0al\xfc\x9cF"} { // torch.save, now and before 1.6
		must(t, os.WriteFile(path, []byte(start), 0o644))
		if _, err = ReadSafetensorsFile(path); err == nil || !strings.Contains(err.Error(), "safetensors.torch.save_file(") {
			t.Errorf("%q: %v; want how to save it", start, err)
		}
	}
	_, err = ReadSafetensorsFile(dir)
	wantError(t, err, "read "+dir+": not a regular file")
}

// FuzzSafetensors: what is accepted writes and reads back as it was.
func FuzzSafetensors(f *testing.F) {
	f.Add(file(`{}`))
	f.Add(file(`{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}  `, 1, 2, 3, 4, 5, 6, 7, 8))
	f.Add(file(`{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[8,9]},"b":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}`, 1, 2, 3, 4, 5, 6, 7, 8, 9))
	f.Add(file(`{"a":{"dtype":"F16","shape":[0,9223372036854775807],"data_offsets":[0,0]}}`))
	f.Add(binary.LittleEndian.AppendUint64(nil, maxHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := read(b)
		if err != nil {
			return
		}
		got, err := read(encode(t, x))
		must(t, err)
		byName := cmpopts.SortSlices(func(a, b Tensor) bool { return a.Name < b.Name })
		if d := cmp.Diff(x, got, byName, cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	})
}
