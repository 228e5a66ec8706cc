package engine_test

import (
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"gorgonia.org/tensor"

	"temper/engine"
	"temper/engine/graph"
)

// through compiles a program that passes an input on, and also copies it into
// a state, so that both ways out of the engine can be tried.
func through(t *testing.T, dt graph.DType, shape ...int) (*engine.Executable, *engine.State) {
	t.Helper()
	d := openCPU(t, 1)
	g := graph.New("through")
	x := g.Input("x", dt, shape...)
	g.Output("y", x)
	g.Assign(g.State("s", dt, shape...), x)
	st := d.NewState()
	e, err := d.Compile(g, st, engine.Options{})
	must(t, err)
	t.Cleanup(e.Close)
	return e, st
}

// dense is a tensor over a slice, which it does not copy.
func dense(backing any, shape ...int) *tensor.Dense {
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(backing))
}

// view is a slice of a tensor, sharing its memory.
func view(t *testing.T, d *tensor.Dense, s ...tensor.Slice) *tensor.Dense {
	t.Helper()
	v, err := d.Slice(s...)
	must(t, err)
	return v.(*tensor.Dense)
}

// address is where a tensor's first element lies.
func address(d *tensor.Dense) unsafe.Pointer { return reflect.ValueOf(d.Data()).UnsafePointer() }

// Every element type goes in and comes out as it was, by way of an input, of an
// output, and of a state; and what goes in and comes out is not copied.
func TestDenseEveryType(t *testing.T) {
	for _, c := range []struct {
		dtype   graph.DType
		backing any
	}{
		{graph.F32, []float32{1.5, -2, 0, 4, 5, 1e-30}},
		{graph.F64, []float64{1.5, -2, 0, 4, 5, 1e-300}},
		{graph.I32, []int32{1, -2, 0, 4, 5, -1 << 31}},
		{graph.U32, []uint32{1, 2, 0, 4, 5, 1<<32 - 1}},
		{graph.U8, []uint8{1, 2, 0, 4, 5, 255}},
		{graph.Bool, []bool{true, false, true, true, false, false}},
	} {
		t.Run(c.dtype.String(), func(t *testing.T) {
			e, st := through(t, c.dtype, 2, 3)
			in := dense(c.backing, 2, 3)
			must(t, e.Feed("x", in))
			must(t, e.Run())
			y, err := e.Fetch("y")
			must(t, err)
			same(t, y, c.backing, 2, 3)
			if address(y) != address(in) {
				t.Error("an input that is an output was copied on the way")
			}
			s, err := st.Read("s")
			must(t, err)
			same(t, s, c.backing, 2, 3)
			zeros := dense(reflect.MakeSlice(reflect.TypeOf(c.backing), 6, 6).Interface(), 2, 3)
			must(t, st.Write("s", zeros))
			s, err = st.Read("s")
			must(t, err)
			same(t, s, zeros.Data(), 2, 3)
		})
	}
}

func same(t *testing.T, got *tensor.Dense, backing any, shape ...int) {
	t.Helper()
	if !reflect.DeepEqual(got.Data(), backing) || !graph.Shape(got.Shape()).Equal(shape) {
		t.Errorf("got %v of shape %v, want %v of shape %v", got.Data(), got.Shape(), backing, shape)
	}
}

// Two fetches of one output are views of the same memory, which is where the
// program computes it.
func TestFetchCopiesNothing(t *testing.T) {
	d := openCPU(t, 1)
	g := graph.New("double")
	g.Output("y", g.Input("x", graph.F32, 3).MulC(2))
	e, err := d.Compile(g, d.NewState(), engine.Options{})
	must(t, err)
	in := dense([]float32{1, 2, 3}, 3)
	must(t, e.Feed("x", in))
	must(t, e.Run())
	first, err := e.Fetch("y")
	must(t, err)
	in.Data().([]float32)[0] = 10 // the feed is the caller's memory
	must(t, e.Run())
	second, err := e.Fetch("y")
	must(t, err)
	same(t, second, []float32{20, 4, 6}, 3)
	if address(first) != address(second) {
		t.Error("two fetches give two copies")
	}
}

func TestDenseScalar(t *testing.T) {
	for _, c := range []struct {
		dtype graph.DType
		value any
	}{
		{graph.F32, float32(1.5)}, {graph.F64, 2.5}, {graph.I32, int32(-3)},
		{graph.U32, uint32(4)}, {graph.U8, uint8(5)}, {graph.Bool, true},
	} {
		e, st := through(t, c.dtype)
		must(t, e.Feed("x", tensor.New(tensor.FromScalar(c.value))))
		must(t, e.Run())
		y, err := e.Fetch("y")
		must(t, err)
		s, err := st.Read("s")
		must(t, err)
		if y.Data() != c.value || s.Data() != c.value || y.Dims() != 0 {
			t.Errorf("%v: %v became %v and %v", c.dtype, c.value, y.Data(), s.Data())
		}
	}
}

// Views that lie row-major in one piece are taken as they are, wherever they
// begin.
func TestDenseContiguousViews(t *testing.T) {
	whole := dense([]float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 4, 3)
	for name, c := range map[string]struct {
		view *tensor.Dense
		want []float32
	}{
		"rows":              {view(t, whole, tensor.S(1, 3)), []float32{3, 4, 5, 6, 7, 8}},
		"one row":           {view(t, whole, tensor.S(2)), []float32{6, 7, 8}},
		"transposed column": {transposed(t, dense([]float32{1, 2, 3}, 3, 1)), []float32{1, 2, 3}},
		"one row by a step": {view(t, whole, tensor.S(1, 4, 3)), []float32{3, 4, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			shape := graph.Shape(c.view.Shape())
			e, st := through(t, graph.F32, shape...)
			must(t, e.Feed("x", c.view))
			must(t, e.Run())
			y, err := e.FetchBytes("y")
			must(t, err)
			s, err := st.Bytes("s")
			must(t, err)
			if want := string(engine.Bytes(c.want)); string(y) != want || string(s) != want {
				t.Errorf("fed %v%v, got %v and %v", shape, c.want, y, s)
			}
			if &y[0] != (*byte)(address(c.view)) {
				t.Error("a view in one piece was copied")
			}
			must(t, st.Write("s", c.view))
		})
	}
}

func transposed(t *testing.T, d *tensor.Dense) *tensor.Dense {
	t.Helper()
	must(t, d.T())
	return d
}

// What does not lie row-major in one piece is refused, and so is what has
// another type or shape, with both; nothing of it reaches the program.
func TestDenseRefused(t *testing.T) {
	square := func() *tensor.Dense { return dense([]float32{0, 1, 2, 3, 4, 5, 6, 7, 8}, 3, 3) }
	for name, c := range map[string]struct {
		d     *tensor.Dense
		shape []int
		want  string
	}{
		"type":           {dense(make([]float64, 9), 3, 3), []int{3, 3}, "got a tensor of float64[3,3], want f32[3,3]"},
		"Go int":         {dense(make([]int, 9), 3, 3), []int{3, 3}, "got a tensor of int[3,3], want f32[3,3]"},
		"shape":          {square(), []int{9}, "got a tensor of float32[3,3], want f32[9]"},
		"rank":           {square(), []int{1, 3, 3}, "want f32[1,3,3]"},
		"scalar":         {tensor.New(tensor.FromScalar(float32(1))), []int{1}, "got a tensor of float32[], want f32[1]"},
		"nil":            {nil, []int{3, 3}, "got no tensor, want f32[3,3]"},
		"transposed":     {transposed(t, square()), []int{3, 3}, "strides [1 3] are not row-major: materialise it first"},
		"columns":        {view(t, square(), nil, tensor.S(0, 2)), []int{3, 2}, "strides [3 1] are not row-major"},
		"column":         {view(t, square(), nil, tensor.S(1)), []int{3}, "strides [3] are not row-major"},
		"every other":    {view(t, dense(make([]float32, 12), 4, 3), tensor.S(0, 4, 2)), []int{2, 3}, "materialise it first"},
		"column-major":   {tensor.New(tensor.WithShape(3, 3), tensor.AsFortran(make([]float32, 9))), []int{3, 3}, "strides [1 3]"},
		"masked":         {masked(square()), []int{3, 3}, "the tensor has a mask: fill the masked elements first"},
		"complex number": {dense(make([]complex64, 9), 3, 3), []int{3, 3}, "got a tensor of complex64[3,3]"},
	} {
		t.Run(name, func(t *testing.T) {
			e, st := through(t, graph.F32, c.shape...)
			for to, err := range map[string]error{`input "x": `: e.Feed("x", c.d), `state "s": `: st.Write("s", c.d)} {
				if err == nil || !strings.HasPrefix(err.Error(), to) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v: want %s… %q", err, to, c.want)
				}
			}
			if err := e.Run(); err == nil || !strings.Contains(err.Error(), "never fed") {
				t.Errorf("a refused tensor was fed: %v", err)
			}
		})
	}
}

func masked(d *tensor.Dense) *tensor.Dense {
	d.ResetMask(true)
	return d
}

// A tensor materialised as the error says is taken.
func TestDenseRemedy(t *testing.T) {
	d := transposed(t, dense([]float32{0, 1, 2, 3, 4, 5}, 2, 3))
	e, _ := through(t, graph.F32, 3, 2)
	must(t, e.Feed("x", d.Materialize().(*tensor.Dense)))
	must(t, e.Run())
	y, err := e.Fetch("y")
	must(t, err)
	same(t, y, []float32{0, 3, 1, 4, 2, 5}, 3, 2)
}

func TestDenseFromBytes(t *testing.T) {
	if _, err := engine.Dense(graph.F32, graph.Shape{2}, make([]byte, 7)); err == nil || err.Error() != "7 bytes for f32[2]" {
		t.Errorf("error %v for seven bytes", err)
	}
	if _, err := engine.Dense(graph.BF16, graph.Shape{2}, make([]byte, 4)); err == nil || !strings.Contains(err.Error(), "convert it in the graph") {
		t.Errorf("error %v for bf16", err)
	}
	want := []float32{1, 2}
	d, err := engine.Dense(graph.F32, graph.Shape{2}, engine.Bytes(want))
	must(t, err)
	same(t, d, want, 2)
	if address(d) != unsafe.Pointer(&want[0]) {
		t.Error("wrapping bytes copies them")
	}
}
