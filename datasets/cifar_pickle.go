package datasets

import (
	"errors"
	"fmt"
	"io"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// decodeCIFARPickles reads the Python version of CIFAR, which torchvision downloads,
// from one or more files, in order: each a pickled dictionary of "data", a NumPy
// array uint8 (N,3072) whose rows are images (3,32,32), and labels (N) under a key.
func decodeCIFARPickles(info Info, labelKey string, files []io.Reader) (*Set, error) {
	var pixels []byte
	var labels []int32
	for k, f := range files {
		x, y, err := cifarPickle(f, labelKey, len(info.Classes))
		if err != nil {
			return nil, fmt.Errorf("file %d of %d: %w", k+1, len(files), err)
		}
		pixels, labels = append(pixels, x...), append(labels, y...)
	}
	return NewSet(info, Values{U8: pixels}, labels)
}

func cifarPickle(r io.Reader, labelKey string, classes int) (pixels string, labels []int32, err error) {
	defer func() {
		if recover() != nil { // the decoder's, of a file that is none of its kind
			err = errors.New("it is no pickle of CIFAR")
		}
	}()
	u := pickle.NewUnpickler(r)
	u.FindClass = numpyClass
	v, err := u.Load()
	if err != nil {
		return "", nil, fmt.Errorf("it is no pickle of CIFAR: %w", truncated(err, "it has no end"))
	}
	d := v.(*types.Dict)
	a := d.MustGet("data").(*pickledArray)
	for _, y := range *d.MustGet(labelKey).(*types.List) {
		if y := y.(int); y >= 0 && y < classes {
			labels = append(labels, int32(y))
			continue
		}
		return "", nil, fmt.Errorf("label %v is outside 0..%d", y, classes-1)
	}
	if len(labels) > maxExamples || a.rows != len(labels) || a.columns != cifarPixels || len(a.data) != a.rows*a.columns {
		return "", nil, fmt.Errorf("%d labels for an array of %d×%d in %d bytes: want rows of %d", len(labels), a.rows, a.columns, len(a.data), cifarPixels)
	}
	return a.data, labels, nil
}

// numpyClass makes what a pickled array is made of; everything else is refused.
func numpyClass(module, name string) (any, error) {
	switch module + "." + name {
	case "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct":
		return maker(func() any { return &pickledArray{} }), nil
	case "numpy.dtype":
		return maker(func() any { return ignored{} }), nil
	case "numpy.ndarray":
		return ignored{}, nil
	}
	return nil, fmt.Errorf("a pickle of CIFAR has no %s.%s", module, name)
}

// maker is a Python function that makes something of its own, whatever it is given.
type maker func() any

// Call implements types.Callable.
func (m maker) Call(...any) (any, error) { return m(), nil }

// ignored is what nothing is read of.
type ignored struct{}

// PySetState implements types.PyStateSettable.
func (ignored) PySetState(any) error { return nil }

// pickledArray is a NumPy array of two axes.
type pickledArray struct {
	rows, columns int
	data          string
}

// PySetState takes NumPy's state: version, shape, dtype, whether the order is
// Fortran's, and the elements.
func (a *pickledArray) PySetState(state any) error {
	s := *state.(*types.Tuple)
	shape := *s[1].(*types.Tuple)
	if len(shape) != 2 || s[3].(bool) {
		return errors.New("its array is not one of rows")
	}
	a.rows, a.columns, a.data = shape[0].(int), shape[1].(int), s[4].(string)
	return nil
}
