package optest

import (
	"math"

	"temper/engine/graph"
)

// axes has the operations along axes: reductions, argmax, sorting, running
// sums.
func axes() []Case {
	var cases []Case
	sum := Tolerance{Rel: 4, Abs: 4}
	for _, c := range []struct {
		shape graph.Shape
		axes  []int
	}{
		{graph.Shape{1}, []int{0}}, {graph.Shape{7}, []int{0}}, {graph.Shape{1000}, []int{0}},
		{graph.Shape{3, 5}, []int{0}}, {graph.Shape{3, 5}, []int{1}}, {graph.Shape{3, 5}, []int{0, 1}},
		{graph.Shape{17, 33}, []int{0}}, {graph.Shape{17, 33}, []int{1}}, {graph.Shape{1, 9, 1}, []int{0, 2}},
		{graph.Shape{2, 3, 4, 5}, []int{0, 2, 3}}, {graph.Shape{2, 3, 4, 5}, []int{1}}, {graph.Shape{2, 3, 4, 5}, []int{1, 2}},
		{graph.Shape{2, 3, 4, 5}, []int{0, 3}}, {graph.Shape{2, 3, 4, 5}, []int{2, 3}}, {graph.Shape{2, 3, 4, 5}, []int{0, 1, 2, 3}},
	} {
		name := c.shape.String() + graph.Shape(c.axes).String()
		cases = append(cases,
			Case{Name: "reduce-sum/" + name, Types: floatTypes, Tol: sum, in: []operand{of(uniform(-1, 2), c.shape...)},
				build: op1(func(x *graph.Node) *graph.Node { return x.Sum(c.axes...) }), diff: true, smooth: true},
			Case{Name: "reduce-max/" + name, Types: floatTypes, in: []operand{of(apart(0.125, 0), c.shape...)},
				build: op1(func(x *graph.Node) *graph.Node { return x.ReduceMax(c.axes...) }), diff: c.shape.Size() < 100, smooth: true},
		)
	}
	for _, s := range []graph.Shape{{7}, {33, 3}, {3, 4, 5}} {
		for axis := range s {
			name := s.String() + graph.Shape{axis}.String()
			cases = append(cases,
				Case{Name: "argmax/" + name, Types: numTypes, in: []operand{of(values(), s...)},
					build: op1(func(x *graph.Node) *graph.Node { return x.ArgMax(axis) })},
				Case{Name: "argsort/" + name, Types: numTypes, in: []operand{of(values(), s...)},
					build: func(x nodes) nodes { return nodes{x[0].ArgSort(axis, false), x[0].ArgSort(axis, true)} }},
				Case{Name: "cumsum/" + name, Types: floatTypes, Tol: sum, in: []operand{of(uniform(-1, 2), s...)},
					build: op1(func(x *graph.Node) *graph.Node { return x.CumSum(axis) }), diff: true, smooth: true},
				Case{Name: "cumsum/integer" + name, Types: intTypes, in: []operand{of(values(), s...)},
					build: op1(func(x *graph.Node) *graph.Node { return x.CumSum(axis) })},
				Case{Name: "sort/" + name, Types: floatTypes, in: []operand{of(apart(0.25, 0), s...)},
					build: op1(func(x *graph.Node) *graph.Node { return x.Gather(axis, x.ArgSort(axis, true)) }), diff: true, smooth: true},
			)
		}
	}
	inf, nan := math.Inf(1), math.NaN()
	odd := of(list(1, 3, 3, -1, nan, inf, nan, 0, -inf, -inf, -inf, -inf, 0, math.Copysign(0, -1), 0, -1, nan, -inf, -inf, 3), 5, 4)
	wide := []graph.DType{graph.I32, graph.U32}
	return append(cases,
		Case{Name: "reduce-max/special", Types: floatTypes, in: []operand{odd}, build: func(x nodes) nodes { return nodes{x[0].ReduceMax(0), x[0].ReduceMax(1), x[0].ReduceMax()} }},
		Case{Name: "argmax/special", Types: floatTypes, in: []operand{odd}, build: func(x nodes) nodes { return nodes{x[0].ArgMax(0), x[0].ArgMax(1)} }},
		Case{Name: "argsort/special", Types: floatTypes, in: []operand{odd}, build: func(x nodes) nodes {
			return nodes{x[0].ArgSort(0, false), x[0].ArgSort(1, false), x[0].ArgSort(0, true), x[0].ArgSort(1, true)}
		}},
		Case{Name: "argmax/ties", Types: numTypes, in: []operand{of(ints(0, 2), 4, 37)}, build: func(x nodes) nodes { return nodes{x[0].ArgMax(0), x[0].ArgMax(1)} }},
		Case{Name: "argsort/ties", Types: numTypes, in: []operand{of(ints(0, 3), 3, 67)}, build: func(x nodes) nodes { return nodes{x[0].ArgSort(1, false), x[0].ArgSort(1, true)} }},
		Case{Name: "argsort/long", Types: f32Only, in: []operand{of(uniform(-1, 1), 2, 3072)}, build: func(x nodes) nodes { return nodes{x[0].ArgSort(1, true)} }},
		Case{Name: "reduce-sum/integer", Types: wide, in: []operand{of(values(), 5, 7)}, build: func(x nodes) nodes { return nodes{x[0].Sum(0), x[0].Sum(1), x[0].Sum()} }},
		Case{Name: "reduce-max/integer", Types: wide, in: []operand{of(values(), 5, 7)}, build: func(x nodes) nodes { return nodes{x[0].ReduceMax(0), x[0].ReduceMax(1)} }},
		Case{Name: "reduce-sum/long", Types: f32Only, Tol: Tolerance{Abs: 64}, in: []operand{of(uniform(-1, 2), 3, 70001)}, build: func(x nodes) nodes { return nodes{x[0].Sum(1), x[0].Sum(), x[0].Sum(0)} }},
		Case{Name: "reduce-sum/special", Types: floatTypes, in: []operand{of(list(1, inf, -inf, nan, inf, 1, 2, 3, -inf, 0, 0, 0), 4, 3)}, build: func(x nodes) nodes { return nodes{x[0].Sum(0), x[0].Sum(1)} }},
		Case{Name: "mean", Types: floatTypes, Tol: sum, in: []operand{of(uniform(-1, 2), 4, 3, 5)}, build: func(x nodes) nodes { return nodes{x[0].Mean(), x[0].MeanKeep(0, 2)} }, diff: true, smooth: true},
	)
}
