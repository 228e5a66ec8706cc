package datasets

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
)

const cifarPixels = 3 * 32 * 32

// DecodeCIFAR10 reads the binary version of CIFAR-10 (Krizhevsky, 2009) from
// one or more files, in order: records of 3073 bytes, the label and then the
// image (3,32,32).
func DecodeCIFAR10(split Split, files ...io.Reader) (*Set, error) {
	return decodeCIFAR(cifar10Info(split), 1, files)
}

// DecodeCIFAR100 reads the binary version of CIFAR-100: records of 3074 bytes,
// the coarse label, the fine label and then the image (3,32,32). The set's
// labels are the fine ones; a coarse label outside 0..19 is refused.
func DecodeCIFAR100(split Split, files ...io.Reader) (*Set, error) {
	return decodeCIFAR(cifar100Info(split), 2, files)
}

// remaining returns how many bytes r is known to have left, 0 if it cannot say.
func remaining(r io.Reader) int64 {
	switch r := r.(type) {
	case *bytes.Reader:
		return int64(r.Len())
	case *os.File:
		if fi, err := r.Stat(); err == nil && fi.Mode().IsRegular() {
			return fi.Size()
		}
	}
	return 0
}

// decodeCIFAR reads records that have some label bytes before the image and
// keeps the last label.
func decodeCIFAR(info Info, labelBytes int, files []io.Reader) (*Set, error) {
	record := make([]byte, labelBytes+cifarPixels)
	var size int64
	for _, f := range files {
		size += remaining(f)
	}
	records := int(size) / len(record)
	pixels := make([]byte, 0, records*cifarPixels)
	labels := make([]int32, 0, records)
	for k, f := range files {
		r := bufio.NewReaderSize(f, 1<<18)
		for i := 0; ; i++ {
			n, err := io.ReadFull(r, record)
			if err == io.EOF {
				break
			}
			if err == nil {
				err = checkCIFAR(record[:labelBytes], len(info.Classes))
			}
			if err != nil {
				return nil, fmt.Errorf("file %d of %d, record %d: %w", k+1, len(files), i, truncated(err, "%d of %d bytes are there", n, len(record)))
			}
			if len(labels) == maxExamples {
				return nil, fmt.Errorf("more than %d records", maxExamples)
			}
			labels = append(labels, int32(record[labelBytes-1]))
			pixels = append(pixels, record[labelBytes:]...)
		}
	}
	return NewSet(info, Values{U8: pixels}, labels)
}

// checkCIFAR checks the labels of a record: the last is the set's, one before
// it is CIFAR-100's coarse one.
func checkCIFAR(labels []byte, classes int) error {
	if y := labels[len(labels)-1]; int(y) >= classes {
		return fmt.Errorf("label %d is outside 0..%d", y, classes-1)
	}
	if len(labels) == 2 && labels[0] > 19 {
		return fmt.Errorf("coarse label %d is outside 0..19", labels[0])
	}
	return nil
}
