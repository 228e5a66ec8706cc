package datasets

import (
	"archive/zip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Array is an n-dimensional array in row-major (C) order. Data is a []uint8,
// []int32, []int64 or []float32 with as many elements as Shape says.
type Array struct {
	Shape []int
	Data  any
}

// NamedArray is an array of an .npz file.
type NamedArray struct {
	Name string
	Array
}

const (
	npyMagic     = "\x93NUMPY"
	maxNPYHeader = 1 << 16
	maxNPYBytes  = 1 << 36
)

// npyTypes are the dtypes that are read and written: little-endian, as NumPy
// names them.
var npyTypes = []struct {
	descr string
	width int64
}{{"|u1", 1}, {"<i4", 4}, {"<i8", 8}, {"<f4", 4}}

// ReadNPY reads one array in NumPy's .npy format, versions 1 to 3: dtypes |u1,
// <i4, <i8 and <f4 in C order. Everything else, and bytes after the data, is
// refused.
func ReadNPY(r io.Reader) (Array, error) {
	descr, shape, err := readNPYHeader(r)
	if err != nil {
		return Array{}, err
	}
	var width int64
	for _, t := range npyTypes {
		if t.descr == descr {
			width = t.width
		}
	}
	if width == 0 {
		return Array{}, fmt.Errorf("npy dtype %q is not read; convert with astype to uint8, int32, int64 or float32, little-endian", descr)
	}
	size := width
	for _, d := range shape {
		if d != 0 && size > maxNPYBytes/int64(d) {
			return Array{}, fmt.Errorf("npy shape %d is too large", shape)
		}
		size *= int64(d)
	}
	raw, err := readN(r, size)
	if err != nil {
		return Array{}, truncated(err, "%d of %d data bytes are there", len(raw), size)
	}
	if err := expectEOF(r); err != nil {
		return Array{}, err
	}
	return Array{Shape: shape, Data: npyData(descr, raw)}, nil
}

// npyData converts little-endian bytes to the slice type of a dtype.
func npyData(descr string, raw []byte) any {
	le := binary.LittleEndian
	switch descr {
	case "<i4":
		a := make([]int32, len(raw)/4)
		for i := range a {
			a[i] = int32(le.Uint32(raw[4*i:]))
		}
		return a
	case "<i8":
		a := make([]int64, len(raw)/8)
		for i := range a {
			a[i] = int64(le.Uint64(raw[8*i:]))
		}
		return a
	case "<f4":
		a := make([]float32, len(raw)/4)
		for i := range a {
			a[i] = math.Float32frombits(le.Uint32(raw[4*i:]))
		}
		return a
	default:
		return raw
	}
}

// readNPYHeader reads magic, version and the dictionary of the header.
func readNPYHeader(r io.Reader) (descr string, shape []int, err error) {
	head, err := readN(r, 8)
	if err != nil {
		return "", nil, truncated(err, "an npy header of %d bytes", len(head))
	}
	if string(head[:6]) != npyMagic {
		return "", nil, fmt.Errorf("not an npy array: it begins with bytes % x", head[:6])
	}
	lengthBytes := int64(4)
	switch head[6] {
	case 1:
		lengthBytes = 2
	case 2, 3:
	default:
		return "", nil, fmt.Errorf("npy version %d.%d, want 1 to 3", head[6], head[7])
	}
	b, err := readN(r, lengthBytes)
	if err != nil {
		return "", nil, truncated(err, "the npy header's length is missing")
	}
	length := int64(binary.LittleEndian.Uint16(b))
	if lengthBytes == 4 {
		length = int64(binary.LittleEndian.Uint32(b))
	}
	if length > maxNPYHeader {
		return "", nil, fmt.Errorf("npy header of %d bytes, at most %d are accepted", length, maxNPYHeader)
	}
	text, err := readN(r, length)
	if err != nil {
		return "", nil, truncated(err, "%d of the %d bytes of the npy header are there", len(text), length)
	}
	descr, shape, err = parseNPYHeader(string(text))
	if err != nil {
		return "", nil, fmt.Errorf("npy header: %w", err)
	}
	return descr, shape, nil
}

// parseNPYHeader reads the Python dictionary of an npy header. It has exactly
// the keys descr, fortran_order and shape.
func parseNPYHeader(text string) (descr string, shape []int, err error) {
	p := &literal{rest: text}
	seen := map[string]bool{}
	p.want("{")
	for !p.accept("}") && p.err == nil {
		key := p.str()
		p.want(":")
		switch key {
		case "descr":
			descr = p.str()
		case "fortran_order":
			if p.accept("True") {
				return "", nil, errors.New("the order is Fortran's; save a C-ordered copy (numpy.ascontiguousarray)")
			}
			p.want("False")
		case "shape":
			shape = p.tuple()
		default:
			p.fail("unknown key %q", key)
		}
		if seen[key] {
			p.fail("key %q comes twice", key)
		}
		seen[key] = true
		if !p.accept(",") && !p.peek("}") {
			p.fail("no comma after %q", key)
		}
	}
	if p.err == nil && strings.TrimRight(p.rest, " \n") != "" {
		p.fail("text after the dictionary")
	}
	if p.err == nil && len(seen) != 3 {
		p.fail("descr, fortran_order and shape are not all there")
	}
	return descr, shape, p.err
}

// literal reads the few Python literals of an npy header; the first error
// sticks.
type literal struct {
	rest string
	err  error
}

func (p *literal) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *literal) peek(token string) bool {
	p.rest = strings.TrimLeft(p.rest, " \t\n")
	return strings.HasPrefix(p.rest, token)
}

func (p *literal) accept(token string) bool {
	if !p.peek(token) {
		return false
	}
	p.rest = p.rest[len(token):]
	return true
}

func (p *literal) want(token string) {
	if !p.accept(token) {
		p.fail("no %s where one is due", token)
	}
}

// str reads a quoted string without escapes.
func (p *literal) str() string {
	quote := `'`
	if p.peek(`"`) {
		quote = `"`
	}
	p.want(quote)
	s, rest, ok := strings.Cut(p.rest, quote)
	if !ok || strings.Contains(s, `\`) {
		p.fail("a string is not closed or has an escape")
		return ""
	}
	p.rest = rest
	return s
}

// tuple reads (), (n,), (n, m) and so on; Python 2 wrote 3L for 3.
func (p *literal) tuple() []int {
	shape := []int{}
	p.want("(")
	for !p.accept(")") && p.err == nil {
		p.peek("")
		digits := p.rest[:len(p.rest)-len(strings.TrimLeft(p.rest, "0123456789"))]
		n, err := strconv.ParseInt(digits, 10, 40)
		if err != nil || len(shape) == 32 {
			p.fail("a dimension is missing or too large, or there are more than 32")
			return nil
		}
		p.rest = strings.TrimPrefix(p.rest[len(digits):], "L")
		shape = append(shape, int(n))
		if !p.accept(",") && !p.peek(")") {
			p.fail("no comma in the shape")
		}
	}
	return shape
}

// WriteNPY writes one array in NumPy's .npy format, version 1.
func WriteNPY(w io.Writer, a Array) error {
	n, descr, err := a.check()
	if err != nil {
		return err
	}
	dims := ""
	for _, d := range a.Shape {
		dims += strconv.Itoa(d) + ", "
	}
	if len(a.Shape) > 1 {
		dims = strings.TrimSuffix(dims, ", ")
	}
	head := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, strings.TrimSuffix(dims, " "))
	// Magic, version, length and header fill a multiple of 64 bytes.
	total := (10 + len(head) + 1 + 63) / 64 * 64
	if total-10 > math.MaxUint16 {
		return fmt.Errorf("npy: %d dimensions are too many", len(a.Shape))
	}
	head += strings.Repeat(" ", total-10-len(head)-1) + "\n"
	b := append([]byte(npyMagic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(head)))
	if _, err := w.Write(append(b, head...)); err != nil {
		return err
	}
	return writeNPYData(w, a.Data, n)
}

// check returns the number of elements and the dtype.
func (a Array) check() (n int, descr string, err error) {
	n = 1
	for _, d := range a.Shape {
		n *= d
	}
	have := 0
	switch data := a.Data.(type) {
	case []uint8:
		have, descr = len(data), "|u1"
	case []int32:
		have, descr = len(data), "<i4"
	case []int64:
		have, descr = len(data), "<i8"
	case []float32:
		have, descr = len(data), "<f4"
	default:
		return 0, "", fmt.Errorf("npy: data of type %T; want []uint8, []int32, []int64 or []float32", a.Data)
	}
	if have != n {
		return 0, "", fmt.Errorf("npy: %d elements for shape %d", have, a.Shape)
	}
	return n, descr, nil
}

// writeNPYData writes n elements little-endian, in pieces.
func writeNPYData(w io.Writer, data any, n int) error {
	if bytes, ok := data.([]uint8); ok {
		_, err := w.Write(bytes)
		return err
	}
	const piece = 1 << 13
	buf := make([]byte, 0, 8*piece)
	for lo := 0; lo < n; lo += piece {
		hi := min(n, lo+piece)
		buf = buf[:0]
		switch d := data.(type) {
		case []int32:
			for _, x := range d[lo:hi] {
				buf = binary.LittleEndian.AppendUint32(buf, uint32(x))
			}
		case []int64:
			for _, x := range d[lo:hi] {
				buf = binary.LittleEndian.AppendUint64(buf, uint64(x))
			}
		case []float32:
			for _, x := range d[lo:hi] {
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(x))
			}
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// SaveNPY writes one array to a .npy file, which appears whole or not at all.
func SaveNPY(path string, a Array) error {
	return writeAtomic(path, func(w io.Writer) error { return WriteNPY(w, a) })
}

// SaveNPZ writes arrays to an uncompressed .npz file, which appears whole or
// not at all. The same arrays give the same bytes.
func SaveNPZ(path string, arrays ...NamedArray) error {
	return writeAtomic(path, func(w io.Writer) error {
		z := zip.NewWriter(w)
		for _, a := range arrays {
			entry, err := z.CreateHeader(&zip.FileHeader{Name: a.Name + ".npy", Method: zip.Store})
			if err != nil {
				return err
			}
			if err := WriteNPY(entry, a.Array); err != nil {
				return fmt.Errorf("array %s: %w", a.Name, err)
			}
		}
		return z.Close()
	})
}
