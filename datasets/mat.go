package datasets

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"
)

// The data types and array classes of MAT version 5 ("MAT-File Format",
// The MathWorks) that are read here.
const (
	miINT8       = 1
	miUINT8      = 2
	miINT32      = 5
	miUINT32     = 6
	miDOUBLE     = 9
	miMATRIX     = 14
	miCOMPRESSED = 15

	mxDOUBLE = 6
	mxUINT8  = 9

	matComplex = 0x08 // in the flags byte
)

// matReader walks the variables of a MAT version 5 file in a stream.
type matReader struct {
	file  *countReader
	order binary.ByteOrder
}

// countReader counts the bytes that a file gave, and notes its end.
type countReader struct {
	r   io.Reader
	n   int64
	eof bool
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.eof = c.eof || err == io.EOF
	return n, err
}

// matVariable is the header of one variable; its data are read from body.
type matVariable struct {
	name    string
	class   uint8
	dims    []int64
	storage uint32 // data type of the stored values
	bytes   int64  // their size
	element int64  // size of the element in the file, as it announces it
	body    io.Reader
	finish  func() error // to be called after the data: checks what follows them
}

// newMAT reads the 128-byte file header.
func newMAT(r io.Reader) (*matReader, error) {
	file := &countReader{r: bufio.NewReaderSize(r, 1<<18)}
	var h [128]byte
	if n, err := io.ReadFull(file, h[:]); err != nil {
		return nil, truncated(err, "the header has %d of 128 bytes", n)
	}
	m := &matReader{file: file}
	switch string(h[126:]) {
	case "IM":
		m.order = binary.LittleEndian
	case "MI":
		m.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("not a MAT version 5 file: bytes 126-127 are % x, not \"IM\" or \"MI\"", h[126:])
	}
	if v := m.order.Uint16(h[124:]); v != 0x0100 {
		return nil, fmt.Errorf("MAT version word %#04x, want 0x0100 (save with -v6 or -v7, not -v7.3)", v)
	}
	return m, nil
}

// next returns the next variable, or io.EOF after the last.
func (m *matReader) next() (*matVariable, error) {
	var tag [8]byte
	n, err := io.ReadFull(m.file, tag[:])
	if err == io.EOF {
		return nil, io.EOF
	}
	if err != nil {
		return nil, truncated(err, "%d of 8 bytes of an element's tag are there", n)
	}
	kind, size := m.order.Uint32(tag[:]), int64(m.order.Uint32(tag[4:]))
	element := &io.LimitedReader{R: m.file, N: size}
	switch kind {
	case miMATRIX:
		v, err := m.matrix(element, size)
		if err != nil {
			return nil, err
		}
		v.element = size
		return v, nil
	case miCOMPRESSED:
		return m.compressed(element, size)
	default:
		return nil, fmt.Errorf("element of type %d at the top level, want 14 (matrix) or 15 (compressed)", kind)
	}
}

// compressed reads a zlib stream that holds one matrix. No padding to 8 bytes
// follows it, unlike all other elements.
func (m *matReader) compressed(element *io.LimitedReader, size int64) (*matVariable, error) {
	packed := bufio.NewReaderSize(element, 1<<16)
	z, err := zlib.NewReader(packed)
	if err != nil {
		return nil, truncated(err, "a compressed element of %d bytes breaks off in its header", size)
	}
	var tag [8]byte
	if _, err := io.ReadFull(z, tag[:]); err != nil {
		return nil, truncated(err, "a compressed element of %d bytes breaks off in its first tag", size)
	}
	if kind := m.order.Uint32(tag[:]); kind != miMATRIX {
		return nil, fmt.Errorf("a compressed element holds type %d, want 14 (matrix)", kind)
	}
	inner := int64(m.order.Uint32(tag[4:]))
	v, err := m.matrix(&io.LimitedReader{R: z, N: inner}, inner)
	if err != nil {
		return nil, err
	}
	v.element = size
	finish := v.finish
	v.finish = func() error {
		if err := finish(); err != nil {
			return err
		}
		if err := expectEOF(z); err != nil {
			return err
		}
		if left := int64(packed.Buffered()) + element.N; left != 0 {
			return fmt.Errorf("%d bytes after the compressed stream", left)
		}
		return nil
	}
	return v, nil
}

// matrix reads the header of a matrix of size bytes, up to its values.
func (m *matReader) matrix(r *io.LimitedReader, size int64) (*matVariable, error) {
	flags, err := m.small(r, miUINT32, 8)
	if err != nil {
		return nil, fmt.Errorf("array flags: %w", err)
	}
	if len(flags) != 8 {
		return nil, fmt.Errorf("array flags of %d bytes, want 8", len(flags))
	}
	word := m.order.Uint32(flags)
	dims, err := m.small(r, miINT32, 4*8)
	if err != nil {
		return nil, fmt.Errorf("dimensions: %w", err)
	}
	name, err := m.small(r, miINT8, 63)
	if err != nil {
		return nil, fmt.Errorf("variable name: %w", err)
	}
	v := &matVariable{name: string(name), class: uint8(word)}
	if word>>8&matComplex != 0 {
		return nil, fmt.Errorf("variable %q is complex", v.name)
	}
	if len(dims) < 8 || len(dims)%4 != 0 {
		return nil, fmt.Errorf("variable %q: dimensions of %d bytes", v.name, len(dims))
	}
	for ; len(dims) > 0; dims = dims[4:] {
		d := int32(m.order.Uint32(dims))
		if d < 0 {
			return nil, fmt.Errorf("variable %q: negative dimension %d", v.name, d)
		}
		v.dims = append(v.dims, int64(d))
	}
	var pad int64
	v.storage, v.bytes, v.body, pad, err = m.tag(r)
	if err != nil {
		return nil, fmt.Errorf("variable %q: %w", v.name, err)
	}
	rest := v.bytes // that the values have yet to take of the element
	if v.body != io.Reader(r) {
		rest = 0 // they stood in the tag
	}
	// The padding of the last sub-element may be left out.
	if r.N != rest && r.N != rest+pad {
		return nil, fmt.Errorf("variable %q: %d bytes of values in an element of %d with %d left", v.name, v.bytes, size, r.N)
	}
	v.finish = func() error {
		if n, err := io.CopyN(io.Discard, r, r.N); err != nil {
			return truncated(err, "%d bytes of padding are there", n)
		}
		return nil
	}
	return v, nil
}

// tag reads a sub-element's tag, in the long or the packed ("small") form, and
// returns its type, its size, a reader of its data and the padding after them.
func (m *matReader) tag(r io.Reader) (kind uint32, size int64, data io.Reader, pad int64, err error) {
	var t [8]byte
	if _, err := io.ReadFull(r, t[:]); err != nil {
		return 0, 0, nil, 0, truncated(err, "the tag is missing")
	}
	first := m.order.Uint32(t[:])
	if packed := first >> 16; packed != 0 { // size and type share a word, data the other
		if packed > 4 {
			return 0, 0, nil, 0, fmt.Errorf("packed element of %d bytes, at most 4 fit", packed)
		}
		return first & 0xffff, int64(packed), bytes.NewReader(t[4 : 4+packed]), 0, nil
	}
	size = int64(m.order.Uint32(t[4:]))
	return first, size, r, -size & 7, nil
}

// small reads a whole sub-element of the wanted type and at most limit bytes.
func (m *matReader) small(r io.Reader, want uint32, limit int64) ([]byte, error) {
	kind, size, data, pad, err := m.tag(r)
	if err != nil {
		return nil, err
	}
	if kind != want {
		return nil, fmt.Errorf("data type %d, want %d", kind, want)
	}
	if size > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are accepted", size, limit)
	}
	b := make([]byte, size+pad)
	if _, err := io.ReadFull(data, b); err != nil {
		return nil, truncated(err, "fewer bytes than the %d announced", size)
	}
	return b[:size], nil
}
