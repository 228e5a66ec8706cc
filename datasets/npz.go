package datasets

import (
	"archive/zip"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// maxClasses bounds the labels of own data.
const maxClasses = 1 << 16

// OpenNPZ reads own data from a NumPy .npz file. The training set is x_train
// and y_train, the test set x_test and y_test; a file with x and y only is a
// test set. x is uint8 or float32, (N,C,H,W) or (N,H,W); y is an integer type,
// (N), with labels from 0. The number of classes is the largest label of all y
// arrays in the file plus one.
func OpenNPZ(path string, split Split) (*Set, error) {
	if path == "" {
		return nil, errors.New("npz: names no file: write npz:FILE")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	z, err := zip.NewReader(f, fi.Size())
	if err != nil {
		return nil, fmt.Errorf("%s is no .npz file, as numpy.savez writes one: %w", path, err)
	}
	set, err := decodeNPZ(z, filepath.Base(path), split)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return set, nil
}

// decodeNPZ reads one split of own data.
func decodeNPZ(z *zip.Reader, name string, split Split) (*Set, error) {
	files := map[string]*zip.File{}
	for _, f := range z.File {
		if files[f.Name] != nil {
			return nil, fmt.Errorf("array %s comes twice", f.Name)
		}
		files[f.Name] = f
	}
	xName, yName := "x_"+string(split), "y_"+string(split)
	if split == Test && files["x_test.npy"] == nil && files["y_test.npy"] == nil {
		xName, yName = "x", "y"
	}
	if files[xName+".npy"] == nil || files[yName+".npy"] == nil {
		return nil, fmt.Errorf("no arrays %s and %s; own data are x_train, y_train, x_test and y_test, or x and y for a test set alone",
			"x_"+string(split), "y_"+string(split))
	}
	classes := 0
	var labels []int32
	for _, n := range []string{"y_train", "y_test", "y"} {
		if files[n+".npy"] == nil {
			continue
		}
		y, err := readLabels(files[n+".npy"])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n, err)
		}
		for _, c := range y {
			classes = max(classes, int(c)+1)
		}
		if n == yName {
			labels = y
		}
	}
	if classes < 2 {
		return nil, fmt.Errorf("%s: every label is 0; at least two classes are needed", yName)
	}
	x, err := readEntry(files[xName+".npy"])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", xName, err)
	}
	info := Info{Name: name, Split: split, Classes: numbered(classes)}
	values, err := imageArray(x, &info)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", xName, err)
	}
	if x.Shape[0] != len(labels) {
		return nil, fmt.Errorf("%s has %d examples but %s %d", xName, x.Shape[0], yName, len(labels))
	}
	return NewSet(info, values, labels)
}

func readEntry(f *zip.File) (Array, error) {
	r, err := f.Open()
	if err != nil {
		return Array{}, err
	}
	defer r.Close()
	return ReadNPY(r)
}

// readLabels reads a one-dimensional array of labels 0 … maxClasses-1.
func readLabels(f *zip.File) ([]int32, error) {
	a, err := readEntry(f)
	if err != nil {
		return nil, err
	}
	if len(a.Shape) != 1 {
		return nil, fmt.Errorf("shape %d, want [N]", a.Shape)
	}
	var y []int64
	switch d := a.Data.(type) {
	case []uint8:
		return widen(d), nil
	case []int32:
		y = make([]int64, len(d))
		for i, c := range d {
			y[i] = int64(c)
		}
	case []int64:
		y = d
	default:
		return nil, fmt.Errorf("labels of type %T, want integers", a.Data)
	}
	labels := make([]int32, len(y))
	for i, c := range y {
		if c < 0 || c >= maxClasses {
			return nil, fmt.Errorf("label %d of example %d is outside 0..%d", c, i, maxClasses-1)
		}
		labels[i] = int32(c)
	}
	return labels, nil
}

// imageArray checks that x holds images and notes their shape and type in info.
func imageArray(x Array, info *Info) (Values, error) {
	switch s := x.Shape; {
	case len(s) == 3:
		info.Channels, info.Height, info.Width = 1, s[1], s[2]
	case len(s) == 4 && s[3] <= 4 && s[1] > 4 && s[2] > 4:
		return Values{}, fmt.Errorf("shape %d looks like (N,H,W,C), want (N,C,H,W): transpose(0, 3, 1, 2)", s)
	case len(s) == 4:
		info.Channels, info.Height, info.Width = s[1], s[2], s[3]
	default:
		return Values{}, fmt.Errorf("shape %d, want (N,C,H,W) or (N,H,W)", s)
	}
	switch d := x.Data.(type) {
	case []uint8:
		return Values{U8: d}, nil
	case []float32:
		info.DType = Float32
		for i, v := range d {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return Values{}, fmt.Errorf("element %d is %v", i, v)
			}
		}
		return Values{F32: d}, nil
	default:
		return Values{}, fmt.Errorf("elements of type %T, want uint8 or float32", x.Data)
	}
}
