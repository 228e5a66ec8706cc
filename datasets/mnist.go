package datasets

import (
	"encoding/binary"
	"fmt"
	"io"
)

// maxExamples bounds the number of examples a file may announce; the largest
// published split, SVHN's extra one, has 531,131.
const maxExamples = 1 << 20

// DecodeMNIST reads a split of MNIST from its two IDX files (LeCun, Cortes,
// Burges), gzip or plain: images uint8 (N,28,28) and labels uint8 (N). It
// accepts any N from 1 to 1,048,576.
func DecodeMNIST(split Split, images, labels io.Reader) (*Set, error) {
	x, n, err := decodeIDX(images, 28, 28)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	y, m, err := decodeIDX(labels)
	if err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	if n != m {
		return nil, fmt.Errorf("%d images but %d labels", n, m)
	}
	return NewSet(mnistInfo(split), Values{U8: x}, widen(y))
}

// widen turns label bytes into labels.
func widen(y []byte) []int32 {
	labels := make([]int32, len(y))
	for i, b := range y {
		labels[i] = int32(b)
	}
	return labels
}

// decodeIDX reads an IDX file of unsigned bytes whose dimensions are n and
// then rest.
func decodeIDX(r io.Reader, rest ...int) (data []byte, n int, err error) {
	if r, err = gunzip(r); err != nil {
		return nil, 0, err
	}
	// Magic: two zero bytes, the type code (8 is unsigned byte), the rank.
	header, err := readN(r, int64(4+4*(1+len(rest))))
	if err != nil {
		return nil, 0, truncated(err, "the header ends after %d bytes", len(header))
	}
	switch {
	case header[0] != 0 || header[1] != 0:
		return nil, 0, fmt.Errorf("not an IDX file: it begins with bytes % x", header[:4])
	case header[2] != 8:
		return nil, 0, fmt.Errorf("IDX type code %#02x, want 0x08 (unsigned byte)", header[2])
	case int(header[3]) != 1+len(rest):
		return nil, 0, fmt.Errorf("IDX with %d dimensions, want %d", header[3], 1+len(rest))
	}
	size := int64(1)
	for i, want := range rest {
		if got := binary.BigEndian.Uint32(header[8+4*i:]); got != uint32(want) {
			return nil, 0, fmt.Errorf("IDX dimension %d is %d, want %d", i+1, got, want)
		}
		size *= int64(want)
	}
	count := binary.BigEndian.Uint32(header[4:])
	if count < 1 || count > maxExamples {
		return nil, 0, fmt.Errorf("IDX announces %d examples; 1 to %d are accepted", count, maxExamples)
	}
	data, err = readN(r, int64(count)*size)
	if err != nil {
		return nil, 0, truncated(err, "%d of %d data bytes are there", len(data), int64(count)*size)
	}
	return data, int(count), expectEOF(r)
}
