package datasets

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// maxClasses bounds the labels of own data.
const maxClasses = 1 << 16

// NPZ is what own data must be, besides well-formed.
type NPZ struct {
	// SHA256 is the file's, in hexadecimal; "": it may be any.
	SHA256 string
	// Unit has float32 images lie in [0,1].
	Unit bool
	// Like, if not nil, asks for examples to evaluate a network on that was trained
	// on such data: they must have its shape and its classes. Of the images x_adv,
	// as temper attack writes them, come before all others.
	Like *Info
}

// OpenNPZ reads own data from a NumPy .npz file. The training set is x_train
// and y_train, the test set x_test and y_test; a file with x and y only is a
// test set. x is uint8 or float32, (N,C,H,W) or (N,H,W), and finite; y is an
// integer type, (N), with labels from 0. The number of classes is the largest
// label of all y arrays in the file plus one, unless want.Like says it.
func OpenNPZ(path string, split Split, want NPZ) (*Set, error) {
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
	if err := want.check(f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	z, err := zip.NewReader(f, fi.Size())
	if err != nil {
		return nil, fmt.Errorf("%s is no .npz file, as numpy.savez writes one: %w", path, err)
	}
	set, err := decodeNPZ(z, filepath.Base(path), split, want)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return set, nil
}

// check holds a file against the SHA-256 that it must have.
func (n NPZ) check(f io.Reader) error {
	if n.SHA256 == "" {
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != n.SHA256 {
		return fmt.Errorf("its SHA-256 is %s, not %s: it has changed, or is another file; put the right one back", sum, n.SHA256)
	}
	return nil
}

// decodeNPZ reads one split of own data.
func decodeNPZ(z *zip.Reader, name string, split Split, want NPZ) (*Set, error) {
	files := map[string]*zip.File{}
	for _, f := range z.File {
		if files[f.Name] != nil {
			return nil, fmt.Errorf("array %s comes twice", f.Name)
		}
		files[f.Name] = f
	}
	xName, yName, err := want.arrays(files, split)
	if err != nil {
		return nil, err
	}
	labels, classes, err := want.labels(files, yName)
	if err != nil {
		return nil, err
	}
	x, err := readEntry(files[xName+".npy"])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", xName, err)
	}
	info := Info{Name: name, Split: split, Classes: classes}
	if want.Like != nil {
		info.Name += " (" + xName + ")"
	}
	values, err := want.images(x, &info)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", xName, err)
	}
	if x.Shape[0] != len(labels) {
		return nil, fmt.Errorf("%s has %d examples but %s %d", xName, x.Shape[0], yName, len(labels))
	}
	return NewSet(info, values, labels)
}

// arrays names the two arrays of a split.
func (n NPZ) arrays(files map[string]*zip.File, split Split) (x, y string, err error) {
	there := func(name string) bool { return files[name+".npy"] != nil }
	x, y = "x_"+string(split), "y_"+string(split)
	if split == Test && !there(x) && !there(y) {
		x, y = "x", "y"
	}
	if n.Like != nil && there("x_adv") {
		x = "x_adv"
	}
	switch {
	case there(x) && there(y):
		return x, y, nil
	case n.Like != nil:
		return "", "", errors.New("no images to evaluate: want the arrays x_adv, x_test or x, with y_test or y")
	default:
		return "", "", fmt.Errorf("no arrays %s and %s; own data are x_train, y_train, x_test and y_test, or x and y for a test set alone",
			"x_"+string(split), "y_"+string(split))
	}
}

// labels reads the labels of a split, and what the classes are.
func (n NPZ) labels(files map[string]*zip.File, name string) (labels []int32, classes []string, err error) {
	if n.Like != nil {
		if labels, err = readLabels(files[name+".npy"]); err == nil {
			err = checkLabels(labels, len(n.Like.Classes))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		return labels, n.Like.Classes, nil
	}
	most := 0
	for _, array := range []string{"y_train", "y_test", "y"} {
		if files[array+".npy"] == nil {
			continue
		}
		y, err := readLabels(files[array+".npy"])
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", array, err)
		}
		for _, c := range y {
			most = max(most, int(c)+1)
		}
		if array == name {
			labels = y
		}
	}
	if most < 2 {
		return nil, nil, fmt.Errorf("%s: every label is 0; at least two classes are needed", name)
	}
	return labels, numbered(most), nil
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

// images checks that x holds images and notes their shape and type in info.
func (n NPZ) images(x Array, info *Info) (Values, error) {
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
	if l := n.Like; l != nil && (info.Channels != l.Channels || info.Height != l.Height || info.Width != l.Width) {
		return Values{}, fmt.Errorf("shape %d: the network takes images of (%d,%d,%d)", x.Shape, l.Channels, l.Height, l.Width)
	}
	switch d := x.Data.(type) {
	case []uint8:
		return Values{U8: d}, nil
	case []float32:
		info.DType = Float32
		return Values{F32: d}, n.domain(d, x.Shape)
	default:
		return Values{}, fmt.Errorf("elements of type %T, want uint8 or float32", x.Data)
	}
}

// domain reports the first of the values of a shape that no image has.
func (n NPZ) domain(values []float32, shape []int) error {
	for i, v := range values {
		switch {
		case math.IsNaN(float64(v)) || math.IsInf(float64(v), 0):
			return fmt.Errorf("element %d is %v, and no number", indices(i, shape), v)
		case n.Unit && !(v >= 0 && v <= 1):
			return fmt.Errorf("element %d is %v: float32 images lie in [0,1]; scale or clip them, save them as uint8, or set threat.domain to unbounded", indices(i, shape), v)
		}
	}
	return nil
}

// indices are those of the i-th element of an array, as NumPy counts.
func indices(i int, shape []int) []int {
	at := make([]int, len(shape))
	for k := len(shape) - 1; k >= 0; k-- {
		at[k], i = i%shape[k], i/shape[k]
	}
	return at
}
