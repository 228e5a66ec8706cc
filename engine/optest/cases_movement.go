package optest

import (
	"temper/engine/graph"
)

func move(name string, f func(*graph.Node) *graph.Node, shape ...int) Case {
	return Case{Name: name, Types: allTypes, Tol: exact, in: []operand{of(values(), shape...)}, build: op1(f), diff: true, smooth: true}
}

// movement has the operations that only move elements, at odd extents and
// steps.
func movement() []Case {
	var cases []Case
	for _, c := range []struct{ from, to graph.Shape }{
		{graph.Shape{}, graph.Shape{3}}, {graph.Shape{1}, graph.Shape{2, 3}}, {graph.Shape{3, 1}, graph.Shape{3, 4}}, {graph.Shape{1, 4}, graph.Shape{3, 4}},
		{graph.Shape{2, 1, 3, 1}, graph.Shape{2, 4, 3, 5}}, {graph.Shape{1, 3, 1, 1}, graph.Shape{2, 3, 17, 33}}, {graph.Shape{5}, graph.Shape{2, 3, 4, 5}},
	} {
		cases = append(cases, move("broadcast/"+c.from.String()+c.to.String(), func(x *graph.Node) *graph.Node { return x.BroadcastTo(c.to...) }, c.from...))
	}
	for _, c := range []struct{ from, to graph.Shape }{
		{graph.Shape{}, graph.Shape{1, 1}}, {graph.Shape{1, 1}, graph.Shape{}}, {graph.Shape{6}, graph.Shape{2, 3}}, {graph.Shape{2, 3, 5}, graph.Shape{5, 6}}, {graph.Shape{2, 3, 4, 5}, graph.Shape{6, 20}},
	} {
		cases = append(cases, move("reshape/"+c.from.String()+c.to.String(), func(x *graph.Node) *graph.Node { return x.Reshape(c.to...) }, c.from...))
	}
	for _, c := range []struct {
		shape graph.Shape
		axes  []int
	}{
		{graph.Shape{5}, []int{0}}, {graph.Shape{3, 5}, []int{1, 0}}, {graph.Shape{3, 4, 5}, []int{2, 0, 1}}, {graph.Shape{3, 4, 5}, []int{0, 2, 1}},
		{graph.Shape{2, 3, 4, 5}, []int{0, 2, 3, 1}}, {graph.Shape{2, 3, 4, 5}, []int{0, 3, 1, 2}}, {graph.Shape{2, 3, 4, 5}, []int{3, 2, 1, 0}}, {graph.Shape{2, 3, 4, 5}, []int{1, 0, 2, 3}},
		{graph.Shape{33, 65}, []int{1, 0}}, {graph.Shape{2, 3, 1, 2, 3}, []int{4, 1, 3, 0, 2}},
	} {
		cases = append(cases, move("transpose/"+c.shape.String()+graph.Shape(c.axes).String(), func(x *graph.Node) *graph.Node { return x.Transpose(c.axes...) }, c.shape...))
	}
	for _, c := range []struct {
		name         string
		shape        graph.Shape
		lo, hi, step []int
	}{
		{"all", graph.Shape{5}, []int{0}, []int{5}, []int{1}}, {"one", graph.Shape{5}, []int{3}, []int{4}, []int{1}},
		{"step", graph.Shape{11}, []int{1}, []int{10}, []int{3}}, {"remainder", graph.Shape{11}, []int{1}, []int{9}, []int{3}}, {"beyond", graph.Shape{4}, []int{1}, []int{4}, []int{7}},
		{"rows", graph.Shape{5, 7}, []int{1, 0}, []int{4, 7}, []int{1, 1}}, {"columns", graph.Shape{5, 7}, []int{0, 2}, []int{5, 7}, []int{1, 2}},
		{"4d", graph.Shape{2, 3, 9, 8}, []int{0, 1, 1, 0}, []int{2, 3, 9, 7}, []int{1, 2, 3, 2}},
	} {
		cases = append(cases, move("slice/"+c.name, func(x *graph.Node) *graph.Node { return x.SliceND(c.lo, c.hi, c.step) }, c.shape...))
	}
	for _, c := range []struct {
		name         string
		shape        graph.Shape
		lo, hi, step []int
	}{
		{"none", graph.Shape{3}, []int{0}, []int{0}, []int{1}}, {"both", graph.Shape{3}, []int{2}, []int{1}, []int{1}}, {"between", graph.Shape{4}, []int{0}, []int{2}, []int{3}},
		{"image", graph.Shape{2, 3, 5, 4}, []int{0, 0, 4, 4}, []int{0, 0, 4, 4}, []int{1, 1, 1, 1}},
		{"4d", graph.Shape{2, 3, 3, 2}, []int{1, 0, 0, 2}, []int{0, 2, 1, 0}, []int{1, 2, 2, 3}},
	} {
		cases = append(cases, move("pad/"+c.name, func(x *graph.Node) *graph.Node { return x.PadND(c.lo, c.hi, c.step) }, c.shape...))
	}
	for _, a := range [][]int{{0}, {1}, {3}, {0, 2}, {2, 3}, {0, 1, 2, 3}} {
		cases = append(cases, move("reverse/"+graph.Shape(a).String(), func(x *graph.Node) *graph.Node { return x.Reverse(a...) }, 2, 3, 4, 5))
	}
	for axis := range 3 {
		s := graph.Shape{3, 4, 5}
		three := []operand{of(values(), s...), of(values(), s.With(axis, 1)...), of(values(), s.With(axis, 7)...)}
		cases = append(cases, Case{Name: "concat/" + graph.Shape{axis}.String(), Types: allTypes, Tol: exact, in: three,
			build: func(x nodes) nodes { return nodes{graph.Concat(axis, x[0], x[1], x[2], x[1])} }, diff: true, smooth: true})
	}
	return append(append(cases, indexed()...),
		move("concat/one", func(x *graph.Node) *graph.Node { return graph.Concat(0, x) }, 3, 4),
		move("movement/chain", func(x *graph.Node) *graph.Node {
			return x.Transpose(1, 0, 2).Reverse(2).SliceND([]int{0, 1, 0}, []int{4, 3, 5}, []int{3, 1, 2}).PadND([]int{0, 1, 0}, []int{1, 0, 1}, []int{1, 1, 2}).Reshape(-1)
		}, 3, 4, 5),
	)
}

// indexed has gather and its kin, with indices that repeat and that lie
// outside and are clamped.
func indexed() []Case {
	var cases []Case
	for axis := range 3 {
		s := graph.Shape{3, 4, 5}
		idx := typed(graph.I32, ints(-2, 6), s.With(axis, 6)...)
		name := graph.Shape{axis}.String()
		scatter := func(x nodes) nodes { return nodes{x[0].ScatterAdd(axis, x[1], s[axis])} }
		cases = append(cases,
			Case{Name: "gather/" + name, Types: allTypes, Tol: exact, in: []operand{of(values(), s...), idx},
				build: func(x nodes) nodes { return nodes{x[0].Gather(axis, x[1])} }, diff: true, smooth: true},
			Case{Name: "scatter-add/" + name, Types: floatTypes, Tol: Tolerance{Rel: 4, Abs: 4}, in: []operand{of(values(), idx.shape...), idx}, build: scatter, diff: true, smooth: true},
			Case{Name: "scatter-add/integer" + name, Types: intTypes, in: []operand{of(values(), idx.shape...), idx}, build: scatter},
		)
	}
	starts := func(n, r int) operand { return typed(graph.I32, ints(-3, 7), n, r) }
	return append(cases,
		Case{Name: "gather/labels", Types: floatTypes, Tol: exact, in: []operand{of(values(), 9, 10), typed(graph.I32, ints(0, 9), 9, 1)},
			build: func(x nodes) nodes { return nodes{x[0].Gather(1, x[1])} }, diff: true, smooth: true},
		Case{Name: "dyn-slice", Types: allTypes, Tol: exact, in: []operand{of(values(), 5, 9), starts(5, 1)},
			build: func(x nodes) nodes { return nodes{x[0].DynSlice(x[1], 4)} }, diff: true, smooth: true},
		Case{Name: "dyn-slice/crop", Types: allTypes, Tol: exact, in: []operand{of(values(), 4, 3, 9, 8), starts(4, 3)},
			build: func(x nodes) nodes { return nodes{x[0].DynSlice(x[1], 3, 5, 4)} }, diff: true, smooth: true},
		Case{Name: "dyn-slice/whole", Types: allTypes, Tol: exact, in: []operand{of(values(), 2, 3, 4), starts(2, 2)},
			build: func(x nodes) nodes { return nodes{x[0].DynSlice(x[1], 3, 4)} }, diff: true, smooth: true},
		Case{Name: "dyn-pad", Types: allTypes, Tol: exact, in: []operand{of(values(), 5, 4), starts(5, 1)},
			build: func(x nodes) nodes { return nodes{x[0].DynPad(x[1], 9)} }, diff: true, smooth: true},
		Case{Name: "dyn-pad/patch", Types: allTypes, Tol: exact, in: []operand{of(values(), 4, 2, 3, 2), starts(4, 3)},
			build: func(x nodes) nodes { return nodes{x[0].DynPad(x[1], 3, 8, 7)} }, diff: true, smooth: true},
	)
}
