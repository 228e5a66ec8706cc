package datasets

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

const svhnPixels = 32 * 32 * 3

// DecodeSVHN reads a split of SVHN's cropped digits (Netzer et al., 2011) from
// its MAT version 5 file: X uint8 (32,32,3,N), column-major, and y (N,1), class
// double or uint8, where 10 stands for the digit 0. A file that breaks off is
// refused with the number of whole images; [DecodeSVHNPartial] reads those.
func DecodeSVHN(split Split, r io.Reader) (*Set, error) {
	m, err := newMAT(r)
	if err != nil {
		return nil, err
	}
	var x, y []byte
	for {
		v, err := m.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("after %d bytes: %w", m.file.n, err)
		}
		switch {
		case v.name == "X" && x == nil:
			x, err = svhnImages(v)
			if errors.Is(err, io.ErrUnexpectedEOF) && m.file.eof {
				err = fmt.Errorf("truncated: the file ends after %d bytes, but its element X alone has %d; %d of %d images are whole",
					m.file.n, v.element, len(x)/svhnPixels, v.dims[3])
			}
		case v.name == "y" && y == nil:
			y, err = svhnLabels(m, v)
		default:
			err = errors.New("not expected: an SVHN file holds X and y, once each")
		}
		if err == nil {
			err = v.finish()
		}
		if err != nil {
			return nil, fmt.Errorf("variable %q: %w", v.name, err)
		}
	}
	if x == nil || y == nil {
		return nil, errors.New("the variables X and y are not both there")
	}
	return svhnSet(split, x, y)
}

// DecodeSVHNPartial reads the images that are whole at the beginning of an SVHN
// file, truncated or not. The labels, which the file holds at its end, are
// given: one byte 1 to 10 for each image of the split in the official order,
// of which the first are used.
func DecodeSVHNPartial(split Split, r io.Reader, labels []uint8) (*Set, error) {
	m, err := newMAT(r)
	if err != nil {
		return nil, err
	}
	v, err := m.next()
	if err != nil {
		return nil, fmt.Errorf("after %d bytes: %w", m.file.n, truncated(err, "no variable is there"))
	}
	if v.name != "X" {
		return nil, fmt.Errorf("the first variable is %q, want X", v.name)
	}
	x, err := svhnImages(v)
	if err != nil && !(errors.Is(err, io.ErrUnexpectedEOF) && m.file.eof) {
		return nil, fmt.Errorf("variable %q: %w", v.name, err)
	}
	n := len(x) / svhnPixels
	if n > len(labels) {
		return nil, fmt.Errorf("%d labels for %d images", len(labels), n)
	}
	return svhnSet(split, x[:n*svhnPixels], labels[:n])
}

// svhnImages reads X as it is stored. Where the data end early it returns what
// there was and io.ErrUnexpectedEOF.
func svhnImages(v *matVariable) ([]byte, error) {
	if v.class != mxUINT8 || v.storage != miUINT8 {
		return nil, fmt.Errorf("class %d stored as type %d, want %d (uint8) as %d (uint8)", v.class, v.storage, mxUINT8, miUINT8)
	}
	if len(v.dims) != 4 || !slices.Equal(v.dims[:3], []int64{32, 32, 3}) {
		return nil, fmt.Errorf("shape %d, want [32 32 3 N]", v.dims)
	}
	n := v.dims[3]
	if n < 1 || n > maxExamples {
		return nil, fmt.Errorf("%d images announced; 1 to %d are accepted", n, maxExamples)
	}
	if v.bytes != n*svhnPixels {
		return nil, fmt.Errorf("%d bytes, but the shape %d needs %d", v.bytes, v.dims, n*svhnPixels)
	}
	return readN(v.body, v.bytes)
}

// svhnLabels reads y. MATLAB stores doubles that are small integers as bytes,
// so that class and storage differ.
func svhnLabels(m *matReader, v *matVariable) ([]byte, error) {
	width := int64(1)
	switch {
	case v.class != mxDOUBLE && v.class != mxUINT8:
		return nil, fmt.Errorf("class %d, want %d (double) or %d (uint8)", v.class, mxDOUBLE, mxUINT8)
	case v.storage == miDOUBLE && v.class == mxDOUBLE:
		width = 8
	case v.storage != miUINT8:
		return nil, fmt.Errorf("class %d stored as type %d, want %d (uint8) or %d (double)", v.class, v.storage, miUINT8, miDOUBLE)
	}
	if len(v.dims) != 2 || min(v.dims[0], v.dims[1]) != 1 || max(v.dims[0], v.dims[1]) > maxExamples {
		return nil, fmt.Errorf("shape %d, want [N 1]", v.dims)
	}
	n := v.dims[0] * v.dims[1]
	if v.bytes != n*width {
		return nil, fmt.Errorf("%d bytes, but the shape %d needs %d", v.bytes, v.dims, n*width)
	}
	raw, err := readN(v.body, v.bytes)
	if err != nil {
		return nil, truncated(err, "%d of %d bytes are there", len(raw), v.bytes)
	}
	if width == 1 {
		return raw, nil
	}
	y := make([]byte, n)
	for i := range y {
		f := math.Float64frombits(m.order.Uint64(raw[8*i:]))
		if !(f >= 0 && f <= 255 && f == math.Trunc(f)) {
			return nil, fmt.Errorf("label %g of image %d is not 1..10", f, i)
		}
		y[i] = byte(f)
	}
	return y, nil
}

// svhnSet turns the stored images, each (W,H) within each channel, to (C,H,W)
// in place, and label 10 to 0.
func svhnSet(split Split, x, y []byte) (*Set, error) {
	if len(x)/svhnPixels != len(y) {
		return nil, fmt.Errorf("%d images but %d labels", len(x)/svhnPixels, len(y))
	}
	for p := x; len(p) > 0; p = p[32*32:] {
		for h := range 32 {
			for w := range h {
				p[32*h+w], p[32*w+h] = p[32*w+h], p[32*h+w]
			}
		}
	}
	labels := make([]int32, len(y))
	for i, b := range y {
		if b < 1 || b > 10 {
			return nil, fmt.Errorf("label %d of image %d is not 1..10", b, i)
		}
		labels[i] = int32(b % 10)
	}
	return NewSet(svhnInfo(split), Values{U8: x}, labels)
}
