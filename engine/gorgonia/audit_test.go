package gorgonia

import (
	"fmt"
	"math"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"temper/engine/graph"
	"temper/engine/rng"
)

// audited is one operation of gorgonia's, or one way to use it, in float64.
type audited struct {
	name   string
	shapes []tensor.Shape
	build  func(x []*G.Node) (*G.Node, error)
	// wrong says why gorgonia is no oracle for it; "" if its gradient agrees
	// with the differences of its value.
	wrong string
	// meaning computes what the operation should, where gorgonia's value is wrong.
	meaning func(x []float64) []float64
	// positive keeps the operands away from zero and below.
	positive bool
	// refused is what Import says, if it cannot import it.
	refused string
}

var (
	image  = tensor.Shape{2, 3, 6, 5}
	filter = tensor.Shape{4, 3, 3, 3}
	matrix = tensor.Shape{4, 5}
)

// middle is why reductions over axis 2 of four are wrong.
const middle = "tensor reduces the wrong elements of a middle axis"

func sum(x []float64) (total float64) {
	for _, v := range x {
		total += v
	}
	return total
}

// planes applies f to each plane of image.
func planes(f func([]float64) float64) func([]float64) []float64 {
	return func(x []float64) (out []float64) {
		for p := range slices.Chunk(x, image[2]*image[3]) {
			out = append(out, f(p))
		}
		return out
	}
}

// planes2x2 averages the windows of 2×2 of each plane of image, whose last column
// is left over.
func planes2x2(x []float64) (out []float64) {
	for p := range slices.Chunk(x, image[2]*image[3]) {
		for r := 0; r < image[2]-1; r += 2 {
			for c := 0; c < image[3]-1; c += 2 {
				at := r*image[3] + c
				out = append(out, (p[at]+p[at+1]+p[at+image[3]]+p[at+image[3]+1])/4)
			}
		}
	}
	return out
}

// audit is what gorgonia v0.9.18 can do that networks are made of.
var audit = []audited{
	{name: "add", shapes: []tensor.Shape{matrix, matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Add(x[0], x[1]) }},
	{name: "add a scalar", shapes: []tensor.Shape{matrix, nil}, build: func(x []*G.Node) (*G.Node, error) { return G.Add(x[0], x[1]) }},
	{name: "sub", shapes: []tensor.Shape{matrix, matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Sub(x[0], x[1]) }},
	{name: "sub from a constant", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Sub(G.NewConstant(2.0), x[0]) }},
	{name: "mul", shapes: []tensor.Shape{matrix, matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.HadamardProd(x[0], x[1]) }},
	{name: "mul by itself", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.HadamardProd(x[0], x[0]) }},
	{name: "mul by a constant", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) {
		c := tensor.New(tensor.WithShape(4, 5), tensor.WithBacking(draws(20, "constant")))
		return G.HadamardProd(x[0], G.NewConstant(c))
	}},
	{name: "div", shapes: []tensor.Shape{matrix, matrix}, positive: true, build: func(x []*G.Node) (*G.Node, error) { return G.HadamardDiv(x[0], x[1]) }},
	{name: "pow", shapes: []tensor.Shape{matrix}, positive: true, build: func(x []*G.Node) (*G.Node, error) { return G.Pow(x[0], G.NewConstant(1.5)) }},
	{name: "min", shapes: []tensor.Shape{matrix, matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.MinBetween(x[0], x[1]) }},
	{name: "max of two", shapes: []tensor.Shape{matrix, matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.MaxBetween(x[0], x[1]) }},

	{name: "abs", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Abs(x[0]) }},
	{name: "neg", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Neg(x[0]) }},
	{name: "square", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Square(x[0]) }},
	{name: "cube", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Cube(x[0]) }},
	{name: "sqrt", shapes: []tensor.Shape{matrix}, positive: true, build: func(x []*G.Node) (*G.Node, error) { return G.Sqrt(x[0]) }},
	{name: "inverse", shapes: []tensor.Shape{matrix}, positive: true, build: func(x []*G.Node) (*G.Node, error) { return G.Inverse(x[0]) }},
	{name: "inverse square root", wrong: "its derivative divides by the cube of the result instead of multiplying", shapes: []tensor.Shape{matrix}, positive: true, build: func(x []*G.Node) (*G.Node, error) { return G.InverseSqrt(x[0]) }},
	{name: "exp", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Exp(x[0]) }},
	{name: "expm1", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Expm1(x[0]) }},
	{name: "log", shapes: []tensor.Shape{matrix}, positive: true, build: func(x []*G.Node) (*G.Node, error) { return G.Log(x[0]) }},
	{name: "log2", wrong: "its derivative multiplies by ln 2 instead of dividing", shapes: []tensor.Shape{matrix}, positive: true, build: func(x []*G.Node) (*G.Node, error) { return G.Log2(x[0]) }},
	{name: "log1p", shapes: []tensor.Shape{matrix}, positive: true, build: func(x []*G.Node) (*G.Node, error) { return G.Log1p(x[0]) }},
	{name: "tanh", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Tanh(x[0]) }},
	{name: "sigmoid", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Sigmoid(x[0]) }},
	{name: "softplus", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Softplus(x[0]) }},
	{name: "rectify", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Rectify(x[0]) }},
	{name: "leaky rectify", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.LeakyRelu(x[0], 0.1) }},
	{name: "sin", shapes: []tensor.Shape{matrix}, refused: "operation sin", build: func(x []*G.Node) (*G.Node, error) { return G.Sin(x[0]) }},

	{name: "matrix product", shapes: []tensor.Shape{{4, 5}, {5, 3}}, build: func(x []*G.Node) (*G.Node, error) { return G.Mul(x[0], x[1]) }},
	{name: "matrix by vector", shapes: []tensor.Shape{{4, 5}, {5}}, build: func(x []*G.Node) (*G.Node, error) { return G.Mul(x[0], x[1]) }},
	{name: "vector by matrix", shapes: []tensor.Shape{{4}, {4, 5}}, build: func(x []*G.Node) (*G.Node, error) { return G.Mul(x[0], x[1]) }},
	{name: "dot", shapes: []tensor.Shape{{5}, {5}}, build: func(x []*G.Node) (*G.Node, error) { return G.Mul(x[0], x[1]) }},
	{name: "outer", wrong: "its gradient multiplies each operand by its own derivative and fails", shapes: []tensor.Shape{{4}, {5}}, build: func(x []*G.Node) (*G.Node, error) { return G.OuterProd(x[0], x[1]) }},
	{name: "batched product", shapes: []tensor.Shape{{2, 4, 5}, {2, 5, 3}}, build: func(x []*G.Node) (*G.Node, error) { return G.BatchedMatMul(x[0], x[1]) }},
	{name: "batched product, transposed", shapes: []tensor.Shape{{2, 5, 4}, {2, 3, 5}}, build: func(x []*G.Node) (*G.Node, error) { return G.BatchedMatMul(x[0], x[1], true, true) }},
	{name: "batched product of rank 4", shapes: []tensor.Shape{{2, 2, 4, 5}, {2, 2, 5, 3}}, build: func(x []*G.Node) (*G.Node, error) { return G.BatchedMatMul(x[0], x[1]) }},

	{name: "bias of a row", shapes: []tensor.Shape{matrix, {1, 5}}, build: func(x []*G.Node) (*G.Node, error) { return G.BroadcastAdd(x[0], x[1], nil, []byte{0}) }},
	{name: "bias of a vector", shapes: []tensor.Shape{matrix, {5}}, build: func(x []*G.Node) (*G.Node, error) { return G.BroadcastAdd(x[0], x[1], nil, []byte{0}) }},
	{name: "bias of channels", shapes: []tensor.Shape{image, {1, 3, 1, 1}}, build: func(x []*G.Node) (*G.Node, error) {
		return G.BroadcastAdd(x[0], x[1], nil, []byte{0, 2, 3})
	}},
	{name: "scale of channels", shapes: []tensor.Shape{image, {1, 3, 1, 1}}, build: func(x []*G.Node) (*G.Node, error) {
		return G.BroadcastHadamardProd(x[0], x[1], nil, []byte{0, 2, 3})
	}},
	{name: "sum", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) { return G.Sum(x[0]) }},
	{name: "sum of rows", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Sum(x[0], 1) }},
	{name: "sum of columns", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Sum(x[0], 0) }},
	{name: "sum of channels", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) { return G.Sum(x[0], 1) }},
	{name: "mean", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) { return G.Mean(x[0]) }},
	{name: "mean of rows", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Mean(x[0], 1) }},
	{name: "sum of all but channels", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) { return G.Sum(x[0], 0, 2, 3) }},
	{name: "sum of planes", shapes: []tensor.Shape{image}, wrong: middle, meaning: planes(sum), build: func(x []*G.Node) (*G.Node, error) { return G.Sum(x[0], 2, 3) }},
	{name: "mean of planes", shapes: []tensor.Shape{image}, wrong: middle, meaning: planes(func(x []float64) float64 { return sum(x) / float64(len(x)) }),
		build: func(x []*G.Node) (*G.Node, error) { return G.Mean(x[0], 2, 3) }},
	{name: "max of planes", shapes: []tensor.Shape{image}, wrong: middle, meaning: planes(slices.Max[[]float64]), build: func(x []*G.Node) (*G.Node, error) { return G.Max(x[0], 2, 3) }},
	{name: "max of rows", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Max(x[0], 1) }},
	{name: "softmax", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.SoftMax(x[0]) }},
	{name: "softmax of columns", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.SoftMax(x[0], 0) }},
	{name: "softmax of a vector", shapes: []tensor.Shape{{5}}, build: func(x []*G.Node) (*G.Node, error) { return G.SoftMax(x[0]) }},
	{name: "softmax of a column", wrong: "its derivative goes along the last axis, its value along the first", shapes: []tensor.Shape{{5, 1}}, build: func(x []*G.Node) (*G.Node, error) { return G.SoftMax(x[0]) }},
	{name: "log-softmax", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.LogSoftMax(x[0]) }},
	{name: "log of softmax", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return logOf(G.SoftMax(x[0])) }},

	{name: "reshape", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) { return G.Reshape(x[0], tensor.Shape{2, 90}) }},
	{name: "transpose", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Transpose(x[0], 1, 0) }},
	{name: "transpose of images", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) { return G.Transpose(x[0], 0, 2, 3, 1) }},
	{name: "x plus its transpose", shapes: []tensor.Shape{{4, 4}}, build: func(x []*G.Node) (*G.Node, error) {
		xt, err := G.Transpose(x[0], 1, 0)
		if err != nil {
			return nil, err
		}
		return G.Add(x[0], xt)
	}},
	{name: "slice", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Slice(x[0], nil, G.S(1, 3)) }},
	{name: "slice of one", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Slice(x[0], G.S(2)) }},
	{name: "slice by steps", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) { return G.Slice(x[0], G.S(0, 4, 2)) }},
	{name: "slice of two axes", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) { return G.Slice(x[0], G.S(1), nil, G.S(2, 5)) }},
	{name: "repeat of each row", wrong: "its derivative adds up all repeats of all rows and fails", shapes: []tensor.Shape{matrix}, build: func(x []*G.Node) (*G.Node, error) {
		y, _, err := G.Broadcast(x[0], x[0], G.NewBroadcastPattern([]byte{0}, nil))
		return y, err
	}},
	{name: "concat", shapes: []tensor.Shape{matrix, {3, 5}}, build: func(x []*G.Node) (*G.Node, error) { return G.Concat(0, x[0], x[1]) }},
	{name: "concat of columns", shapes: []tensor.Shape{matrix, {4, 2}}, build: func(x []*G.Node) (*G.Node, error) { return G.Concat(1, x[0], x[1]) }},

	{name: "convolution", shapes: []tensor.Shape{image, filter}, build: conv(1, 1, 1)},
	{name: "convolution, stride 2", shapes: []tensor.Shape{image, filter}, build: conv(1, 2, 1)},
	{name: "convolution, dilation 2", shapes: []tensor.Shape{image, filter}, build: conv(2, 1, 2)},
	{name: "convolution 1×1", shapes: []tensor.Shape{image, {4, 3, 1, 1}}, build: conv(0, 1, 1)},
	{name: "convolution of one image", shapes: []tensor.Shape{{1, 3, 6, 5}, filter}, build: conv(1, 1, 1)},
	{name: "convolution 1D", shapes: []tensor.Shape{{2, 3, 1, 8}, {4, 3, 1, 3}}, build: func(x []*G.Node) (*G.Node, error) { return G.Conv1d(x[0], x[1], 3, 1, 2, 1) }},
	{name: "im2col", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) {
		return G.Im2Col(x[0], tensor.Shape{3, 2}, tensor.Shape{1, 0}, tensor.Shape{2, 1}, tensor.Shape{1, 2})
	}},
	{name: "max-pool", shapes: []tensor.Shape{{2, 3, 6, 6}}, build: func(x []*G.Node) (*G.Node, error) {
		return G.MaxPool2D(x[0], tensor.Shape{2, 2}, []int{0, 0}, []int{2, 2})
	}},
	{name: "max-pool, overlapping", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) {
		return G.MaxPool2D(x[0], tensor.Shape{3, 2}, []int{1, 0}, []int{2, 1})
	}},
	{name: "max-pool, one-sided padding", shapes: []tensor.Shape{image}, refused: "different padding on opposite sides", build: func(x []*G.Node) (*G.Node, error) {
		return G.MaxPool2D(x[0], tensor.Shape{2, 2}, []int{0, 1, 0, 1}, []int{2, 2})
	}},
	{name: "average pool", wrong: "its value divides by the image's width", shapes: []tensor.Shape{image}, meaning: planes2x2, build: func(x []*G.Node) (*G.Node, error) {
		return G.AveragePool2D(x[0], tensor.Shape{2, 2}, []int{0, 0}, []int{2, 2})
	}},
	{name: "average pool, padded", wrong: "its value divides by the image's width", shapes: []tensor.Shape{image}, refused: "average-pooling with padding", build: func(x []*G.Node) (*G.Node, error) {
		return G.AveragePool2D(x[0], tensor.Shape{2, 2}, []int{1, 1}, []int{2, 2})
	}},
	{name: "global average pool", wrong: "it has no derivative, and Grad panics", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) { return G.GlobalAveragePool2D(x[0]) }},
	{name: "batch norm", shapes: []tensor.Shape{image, image, image}, refused: "operation batchnorm", build: func(x []*G.Node) (*G.Node, error) {
		y, _, _, _, err := G.BatchNorm(x[0], x[1], x[2], 0.9, 1e-5)
		return y, err
	}},
	{name: "upsample", shapes: []tensor.Shape{image}, build: func(x []*G.Node) (*G.Node, error) { return G.Upsample2D(x[0], 2) }},
}

func logOf(n *G.Node, err error) (*G.Node, error) {
	if err != nil {
		return nil, err
	}
	return G.Log(n)
}

func conv(pad, stride, dilation int) func(x []*G.Node) (*G.Node, error) {
	return func(x []*G.Node) (*G.Node, error) {
		w := x[1].Shape()
		return G.Conv2d(x[0], x[1], tensor.Shape{w[2], w[3]}, []int{pad, pad}, []int{stride, stride}, []int{dilation, dilation})
	}
}

// draws are n normal numbers.
func draws(n int, site string) []float64 {
	out := make([]float64, n)
	stream := rng.NewStream(1, site, 0)
	for i := range out {
		out[i] = float64(stream.Normal())
	}
	return out
}

// values are the operands of a case: no two elements of a tensor are equal, and
// none is near a kink.
func (a *audited) values() []*tensor.Dense {
	var out []*tensor.Dense
	for k, s := range a.shapes {
		v := draws(graph.Shape(s).Size(), fmt.Sprint("operand ", k))
		for i := range v {
			v[i] += math.Copysign(0.05, v[i])
			if a.positive {
				v[i] = math.Abs(v[i]) + 0.2
			}
		}
		out = append(out, denseOf(s, v))
	}
	return out
}

func denseOf(s tensor.Shape, v []float64) *tensor.Dense {
	if len(s) == 0 {
		return tensor.New(tensor.FromScalar(v[0]))
	}
	return tensor.New(tensor.WithShape(s...), tensor.WithBacking(v))
}

// weights are what the elements of a result are multiplied by before they are
// added up, so that errors do not cancel.
func weights(n int) []float64 { return draws(n, "weights") }

// theirs is a case in a graph of theirs: the operands, and the weighted sum of
// the result.
func (a *audited) theirs(values []*tensor.Dense) (loss *G.Node, operands G.Nodes, err error) {
	g := G.NewGraph()
	for k, v := range values {
		operands = append(operands, G.NewTensor(g, tensor.Float64, v.Dims(), G.WithShape(v.Shape()...), G.WithName(fmt.Sprintf("x%d", k)), G.WithValue(v)))
	}
	y, err := a.build(operands)
	if err != nil || y.IsScalar() {
		return y, operands, err
	}
	w := G.NewConstant(denseOf(y.Shape(), weights(y.Shape().TotalSize())))
	weighted, err := G.HadamardProd(y, w)
	if err != nil {
		return nil, nil, err
	}
	loss, err = G.Sum(weighted)
	return loss, operands, err
}

// runTheirs runs a graph of theirs on their machine.
func runTheirs(g *G.ExprGraph) error {
	m := G.NewTapeMachine(g)
	defer m.Close()
	return m.RunAll()
}

// theirValue is the case's scalar by gorgonia.
func (a *audited) theirValue(values []*tensor.Dense) (float64, error) {
	loss, _, err := a.theirs(values)
	if err != nil {
		return 0, err
	}
	if err := runTheirs(loss.Graph()); err != nil {
		return 0, err
	}
	return loss.Value().Data().(float64), nil
}

// value is the case's scalar as it should be: gorgonia's, or by its meaning.
func (a *audited) value(values []*tensor.Dense) (float64, error) {
	if a.meaning == nil {
		return a.theirValue(values)
	}
	total, y := 0.0, a.meaning(values[0].Data().([]float64))
	for i, w := range weights(len(y)) {
		total += w * y[i]
	}
	return total, nil
}

// gradients are gorgonia's derivatives of the case's scalar by its operands. A
// panic of theirs is an error.
func (a *audited) gradients(values []*tensor.Dense) (out [][]float64, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	loss, operands, err := a.theirs(values)
	if err != nil {
		return nil, err
	}
	grads, err := G.Grad(loss, operands...)
	if err != nil {
		return nil, err
	}
	if err := runTheirs(loss.Graph()); err != nil {
		return nil, err
	}
	for k, d := range grads {
		f, err := numbers(d.Value(), values[k].Shape())
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// numbers are a float64 value's elements.
func numbers(v G.Value, s tensor.Shape) ([]float64, error) {
	b, err := contents(v, graph.F64, graph.Shape(s))
	return floats(graph.F64, b), err
}

// disagreement compares derivatives with central differences of the case's
// value along some directions, operand by operand.
func (a *audited) disagreement(grads [][]float64) error {
	const eps = 1e-5
	for k := range grads {
		for try := range 3 {
			dir := draws(len(grads[k]), fmt.Sprint("direction ", try))
			along := func(step float64) (float64, error) {
				values := a.values()
				v := values[k].Data()
				if values[k].Dims() == 0 {
					values[k] = denseOf(nil, []float64{v.(float64) + step*dir[0]})
				} else {
					for i := range dir {
						v.([]float64)[i] += step * dir[i]
					}
				}
				return a.value(values)
			}
			up, err := along(eps)
			if err != nil {
				return err
			}
			down, err := along(-eps)
			if err != nil {
				return err
			}
			want, got := (up-down)/(2*eps), 0.0
			for i, d := range grads[k] {
				got += d * dir[i]
			}
			if math.Abs(got-want) > 1e-6*(1+math.Abs(want)) {
				return fmt.Errorf("derivative by operand %d: %v, differences give %v", k, got, want)
			}
		}
	}
	return nil
}

// check says what is wrong with gorgonia's value or gradient.
func (a *audited) check() error {
	got, err := a.theirValue(a.values())
	if err != nil {
		return err
	}
	if want, err := a.value(a.values()); err != nil || math.Abs(got-want) > 1e-10*(1+math.Abs(want)) {
		return fmt.Errorf("value %v, by its meaning %v: %v", got, want, err)
	}
	grads, err := a.gradients(a.values())
	if err != nil {
		return err
	}
	return a.disagreement(grads)
}

// TestAudit holds the table to what gorgonia does: an entry without a reason
// must pass the check, one with a reason must fail it.
func TestAudit(t *testing.T) {
	for _, a := range audit {
		t.Run(a.name, func(t *testing.T) {
			switch err := a.check(); {
			case a.wrong == "" && err != nil:
				t.Errorf("gorgonia is wrong and the table does not say so: %.300v", err)
			case a.wrong != "" && err == nil:
				t.Errorf("gorgonia is right, the table says %q", a.wrong)
			}
		})
	}
}
