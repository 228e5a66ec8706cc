package run

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// Tensor is one named array. Data holds its elements in C order,
// little-endian; the package never looks inside.
type Tensor struct {
	Name  string
	DType string // F64 F32 F16 BF16 I64 I32 U32 U8 BOOL
	Shape []int  // empty for a scalar
	Data  []byte
}

// Tensors is what a safetensors file holds: the tensors in the order of their
// data, and free text by key.
type Tensors struct {
	List     []Tensor
	Metadata map[string]string
}

const (
	maxHeader = 100_000_000 // the format's limit on the header, in bytes
	maxRank   = 64
	metaKey   = "__metadata__"
)

// dtypes gives each type its element size in bytes. The order is that in which
// the reference implementation lays data out: widest alignment first.
var dtypes = []struct {
	name string
	size int
}{
	{"I64", 8}, {"F64", 8}, {"F32", 4}, {"U32", 4}, {"I32", 4}, {"BF16", 2}, {"F16", 2}, {"U8", 1}, {"BOOL", 1},
}

// dtypeRank is the index of name in dtypes, or -1.
func dtypeRank(name string) int {
	for i, d := range dtypes {
		if d.name == name {
			return i
		}
	}
	return -1
}

// byteLen is the number of bytes a tensor of this type and shape takes.
func byteLen(dtype string, shape []int) (int, error) {
	rank := dtypeRank(dtype)
	if rank < 0 {
		return 0, fmt.Errorf("dtype %q is not supported", dtype)
	}
	n := uint64(dtypes[rank].size)
	for _, d := range shape {
		hi, lo := bits.Mul64(n, uint64(d))
		if d < 0 || hi != 0 || lo > math.MaxInt {
			return 0, fmt.Errorf("shape %v is impossible", shape)
		}
		n = lo
	}
	return int(n), nil
}

// WriteSafetensors writes t in the safetensors format: an 8-byte little-endian
// header length; a JSON header, padded with spaces so that the data starts at
// a multiple of 8; then the data, laid out as the reference implementation
// does (by type, then by name), so equal tensors give equal bytes. It reports
// names that repeat, unknown types, and data whose length is not its shape's.
func WriteSafetensors(w io.Writer, t *Tensors) error {
	header, list, err := encodeHeader(t)
	if err != nil {
		return err
	}
	return writeParts(w, header, list)
}

func writeParts(w io.Writer, header []byte, list []Tensor) error {
	if _, err := w.Write(header); err != nil {
		return err
	}
	for i := range list {
		if _, err := w.Write(list[i].Data); err != nil {
			return err
		}
	}
	return nil
}

// encodeHeader returns the bytes before the data, the length included, and the
// tensors in the order of their data.
func encodeHeader(t *Tensors) ([]byte, []Tensor, error) {
	list := slices.Clone(t.List)
	slices.SortStableFunc(list, func(a, b Tensor) int {
		if c := dtypeRank(a.DType) - dtypeRank(b.DType); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	h := headerWriter{b: append(make([]byte, 8), '{')}
	if len(t.Metadata) > 0 {
		h.metadata(t.Metadata)
	}
	names := map[string]bool{metaKey: true}
	offset := 0
	for _, x := range list {
		n, err := byteLen(x.DType, x.Shape)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("tensor %q: %w", x.Name, err)
		case names[x.Name]:
			return nil, nil, fmt.Errorf("tensor %q: the name is already taken", x.Name)
		case len(x.Shape) > maxRank:
			return nil, nil, fmt.Errorf("tensor %q: more than %d dimensions", x.Name, maxRank)
		case n != len(x.Data):
			return nil, nil, fmt.Errorf("tensor %q: %s %v takes %d bytes, not %d", x.Name, x.DType, x.Shape, n, len(x.Data))
		}
		names[x.Name] = true
		h.tensor(x, offset)
		offset += n
	}
	h.b = append(h.b, '}')
	for len(h.b)%8 != 0 {
		h.b = append(h.b, ' ')
	}
	if h.notUTF8 != "" {
		return nil, nil, fmt.Errorf("%q is not UTF-8", h.notUTF8)
	}
	n := len(h.b) - 8
	if n > maxHeader {
		return nil, nil, fmt.Errorf("the header takes %d bytes, above the format's %d", n, maxHeader)
	}
	binary.LittleEndian.PutUint64(h.b, uint64(n))
	return h.b, list, nil
}

// headerWriter appends the header's JSON by hand: its order is part of the
// format's canonical form, and sealDigits relies on there being no spaces.
type headerWriter struct {
	b       []byte
	notUTF8 string
}

func (h *headerWriter) string(s string) {
	if !utf8.ValidString(s) {
		h.notUTF8 = s
	}
	quoted, err := json.Marshal(s)
	if err != nil {
		panic("BUG: a string does not marshal: " + err.Error())
	}
	h.b = append(h.b, quoted...)
}

// comma separates a new member from the one before it, if there is one.
func (h *headerWriter) comma() {
	if h.b[len(h.b)-1] != '{' {
		h.b = append(h.b, ',')
	}
}

func (h *headerWriter) metadata(m map[string]string) {
	h.b = append(h.b, `"`+metaKey+`":{`...)
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		h.comma()
		h.string(k)
		h.b = append(h.b, ':')
		h.string(m[k])
	}
	h.b = append(h.b, '}')
}

func (h *headerWriter) tensor(x Tensor, offset int) {
	h.comma()
	h.string(x.Name)
	h.b = fmt.Appendf(h.b, `:{"dtype":"%s","shape":[`, x.DType)
	for i, d := range x.Shape {
		if i > 0 {
			h.b = append(h.b, ',')
		}
		h.b = fmt.Append(h.b, d)
	}
	h.b = fmt.Appendf(h.b, `],"data_offsets":[%d,%d]}`, offset, offset+len(x.Data))
}

// ReadSafetensors reads a safetensors stream of size bytes in all. It accepts
// what the format allows and no more: every byte of the data belongs to
// exactly one tensor, names are unique, and each length is its shape's. It
// allocates no more than a small multiple of size, whatever the header claims.
func ReadSafetensors(r io.Reader, size int64) (*Tensors, error) {
	header, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	return readTensors(r, header, size)
}

// ReadSafetensorsFile is [ReadSafetensors] of a file; its errors name path.
func ReadSafetensorsFile(path string) (*Tensors, error) {
	f, size, err := openSized(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := ReadSafetensors(f, size)
	if err != nil {
		return nil, fileError("read", path, err)
	}
	return t, nil
}

// openSized opens a regular file and returns its size.
func openSized(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fileError("read", path, err)
	}
	return sized(f, path)
}

// sized returns a file and its size, if it is a regular one, or closes it.
func sized(f *os.File, path string) (*os.File, int64, error) {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, 0, fileError("read", path, err)
	}
	return f, info.Size(), nil
}

// readHeader returns the bytes before the data, the length included.
func readHeader(r io.Reader, size int64) ([]byte, error) {
	var length [8]byte
	if size < int64(len(length)) {
		return nil, fmt.Errorf("truncated: %d bytes are too few for a safetensors file", size)
	}
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(length[:])
	switch {
	case bytes.HasPrefix(length[:], []byte("PK\x03\x04")), bytes.HasPrefix(length[:], []byte("\x80\x02\x8a\x0a")): // a zip file; torch's magic number, pickled
		return nil, errors.New("not a safetensors file, but one that torch.save or NumPy wrote; in Python: safetensors.torch.save_file(model.state_dict(), \"FILE.safetensors\")")
	case n > maxHeader:
		return nil, fmt.Errorf("not a safetensors file: its header would take %d bytes, above the format's %d; an ONNX file, for one, cannot be read", n, maxHeader)
	}
	if int64(n) > size-8 {
		return nil, fmt.Errorf("truncated: the header takes %d bytes and the file has %d", n+8, size)
	}
	header := make([]byte, 8+n)
	copy(header, length[:])
	_, err := io.ReadFull(r, header[8:])
	return header, err
}

// readTensors parses header and reads the data that follows it.
func readTensors(r io.Reader, header []byte, size int64) (*Tensors, error) {
	t, end, err := parseHeader(header[8:])
	if err != nil {
		return nil, fmt.Errorf("safetensors header: %w", err)
	}
	switch have := size - int64(len(header)); {
	case int64(end) > have:
		return nil, fmt.Errorf("truncated: the tensors take %d bytes and the file has %d", end, have)
	case int64(end) < have:
		return nil, fmt.Errorf("%d bytes follow the last tensor", have-int64(end))
	}
	for i := range t.List {
		x := &t.List[i]
		n, err := byteLen(x.DType, x.Shape)
		if err != nil {
			panic("BUG: parseHeader let a tensor pass: " + err.Error())
		}
		x.Data = make([]byte, n)
		if _, err := io.ReadFull(r, x.Data); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// span is a tensor and the bytes [begin, end) of the data it claims.
type span struct {
	Tensor
	begin, end int
}

// parseHeader reads the JSON header: the tensors, still without data, in the
// order of their data, and where the last one ends.
func parseHeader(b []byte) (*Tensors, int, error) {
	if len(b) == 0 || b[0] != '{' {
		return nil, 0, errors.New("does not start with {")
	}
	b = bytes.TrimRight(b, " ")
	r, err := newJSONReader(b)
	if err != nil {
		return nil, 0, err
	}
	t := &Tensors{}
	var spans []span
	err = r.object(func(name string) (err error) {
		if name == metaKey {
			t.Metadata, err = parseMetadata(r)
			return err
		}
		s, err := parseSpan(r)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		s.Name = name
		spans = append(spans, s)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	if err := r.end(len(b)); err != nil {
		return nil, 0, err
	}
	// Empty tensors share their begin with the next one and come first.
	slices.SortStableFunc(spans, func(a, b span) int {
		if a.begin != b.begin {
			return a.begin - b.begin
		}
		return a.end - b.end
	})
	end := 0
	for _, s := range spans {
		if s.begin != end {
			return nil, 0, fmt.Errorf("tensor %q starts at byte %d of the data, not where the one before it ends (%d)", s.Name, s.begin, end)
		}
		end = s.end
		t.List = append(t.List, s.Tensor)
	}
	return t, end, nil
}

func parseMetadata(r *jsonReader) (map[string]string, error) {
	m := map[string]string{}
	err := r.object(func(key string) (err error) {
		m[key], err = r.string()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", metaKey, err)
	}
	return m, nil
}

// parseSpan reads {"dtype": …, "shape": […], "data_offsets": [begin, end]}.
func parseSpan(r *jsonReader) (span, error) {
	var s span
	var offsets []int
	err := r.object(func(key string) (err error) {
		switch key {
		case "dtype":
			s.DType, err = r.string()
		case "shape":
			s.Shape, err = r.ints(maxRank)
		case "data_offsets":
			offsets, err = r.ints(2)
		default:
			err = fmt.Errorf("%q is not part of the format", key)
		}
		return err
	})
	if err != nil {
		return span{}, err
	}
	if s.DType == "" || s.Shape == nil || len(offsets) != 2 {
		return span{}, errors.New("needs dtype, shape and two data_offsets")
	}
	n, err := byteLen(s.DType, s.Shape)
	if err != nil {
		return span{}, err
	}
	s.begin, s.end = offsets[0], offsets[1]
	if s.end-s.begin != n {
		return span{}, fmt.Errorf("%s %v takes %d bytes, data_offsets say %d", s.DType, s.Shape, n, s.end-s.begin)
	}
	return s, nil
}
