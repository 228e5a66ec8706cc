package passes

import (
	"math"

	"temper/engine/graph"
)

// fold computes element-wise operations whose operands are all constants, as
// long as the result's bits are the same on every machine: the four rules of
// arithmetic, square roots, comparisons, selections. Transcendental functions
// are left to the back end, whose last bit is its own.
func fold(g *graph.Graph) (*graph.Graph, error) { return graph.Rewrite(g, foldNode) }

// maxFolded bounds the constants that folding may create, in elements.
const maxFolded = 4096

func foldNode(c *graph.Copier, n *graph.Node, ins []*graph.Node) *graph.Node {
	if len(ins) == 0 {
		return nil
	}
	all := true // all operands have one value for all elements
	for _, in := range ins {
		if in.Op() != graph.OpConst {
			return nil
		}
		all = all && len(in.Attrs().Values) == 1
	}
	switch n.Op() {
	case graph.OpBroadcast, graph.OpReshape:
		if all || n.Op() == graph.OpReshape {
			return c.Dst.Const(n.DType(), ins[0].Attrs().Values, n.Shape()...)
		}
		return nil
	}
	f := scalarFuncs[n.Op()]
	if n.Op() == graph.OpConvert && !exactConvert(n.DType(), ins[0].Attrs().Values) {
		return nil
	}
	if f == nil || !all && n.Size() > maxFolded {
		return nil
	}
	count := 1
	if !all {
		count = n.Size()
	}
	values := make([]float64, count)
	args := make([]float64, len(ins))
	for i := range values {
		for k, in := range ins {
			v := in.Attrs().Values
			args[k] = v[min(i, len(v)-1)]
		}
		values[i] = roundTo(n.DType(), f(args))
	}
	return c.Dst.Const(n.DType(), values, n.Shape()...)
}

// scalarFuncs are the foldable operations, in float64. Rounding the float64
// result of + - × ÷ √ of float32 operands to float32 is the correctly rounded
// float32 result (53 ≥ 2·24 + 2 bits).
var scalarFuncs = map[graph.Op]func(a []float64) float64{
	graph.OpNeg:  func(a []float64) float64 { return -a[0] },
	graph.OpAbs:  func(a []float64) float64 { return math.Abs(a[0]) },
	graph.OpSqrt: func(a []float64) float64 { return math.Sqrt(a[0]) },
	graph.OpReLU: func(a []float64) float64 {
		if a[0] > 0 {
			return a[0]
		}
		return 0
	},
	graph.OpFloor:   func(a []float64) float64 { return math.Floor(a[0]) },
	graph.OpConvert: func(a []float64) float64 { return a[0] },
	graph.OpAdd:     func(a []float64) float64 { return a[0] + a[1] },
	graph.OpSub:     func(a []float64) float64 { return a[0] - a[1] },
	graph.OpMul:     func(a []float64) float64 { return a[0] * a[1] },
	graph.OpDiv:     func(a []float64) float64 { return a[0] / a[1] },
	graph.OpMax:     func(a []float64) float64 { return math.Max(a[0], a[1]) },
	graph.OpMin:     func(a []float64) float64 { return math.Min(a[0], a[1]) },
	graph.OpEq:      func(a []float64) float64 { return truth(a[0] == a[1]) },
	graph.OpNe:      func(a []float64) float64 { return truth(a[0] != a[1]) },
	graph.OpLt:      func(a []float64) float64 { return truth(a[0] < a[1]) },
	graph.OpLe:      func(a []float64) float64 { return truth(a[0] <= a[1]) },
	graph.OpGt:      func(a []float64) float64 { return truth(a[0] > a[1]) },
	graph.OpGe:      func(a []float64) float64 { return truth(a[0] >= a[1]) },
	graph.OpNot:     func(a []float64) float64 { return 1 - a[0] },
	graph.OpSelect: func(a []float64) float64 {
		if a[0] != 0 {
			return a[1]
		}
		return a[2]
	},
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// roundTo rounds to the element type; integers wrap as the machine's do.
func roundTo(t graph.DType, v float64) float64 {
	switch t {
	case graph.F32:
		return float64(float32(v))
	case graph.I32:
		return float64(int32(int64(v)))
	case graph.U32:
		return float64(uint32(int64(v)))
	case graph.U8:
		return float64(uint8(int64(v)))
	}
	return v
}

// exactConvert refuses conversions that round or saturate to integers, and any
// to bf16 or bool: those are the back end's affair.
func exactConvert(to graph.DType, values []float64) bool {
	lo, hi := 0.0, float64(math.MaxUint32)
	switch {
	case to == graph.BF16 || to == graph.Bool:
		return false
	case to == graph.I32:
		lo, hi = math.MinInt32, math.MaxInt32
	case to == graph.U8:
		hi = math.MaxUint8
	}
	for _, v := range values {
		if to.Int() && (v != math.Trunc(v) || v < lo || v > hi) {
			return false
		}
	}
	return true
}
