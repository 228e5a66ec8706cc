package optest

import (
	"temper/engine/graph"
)

var exact = Tolerance{SignedZero: true} // the operation is defined to the bit

func op1(f func(*graph.Node) *graph.Node) func(nodes) nodes {
	return func(x nodes) nodes { return nodes{f(x[0])} }
}

func op2(f func(a, b *graph.Node) *graph.Node) func(nodes) nodes {
	return func(x nodes) nodes { return nodes{f(x[0], x[1])} }
}

func elementwise() []Case {
	cases := floatFunctions()
	cases = append(cases, binaries()...)
	cases = append(cases, conversions()...)
	return append(cases, selections()...)
}

// floatFunctions has each function of one floating-point operand over its
// ordinary range, a wide one, and the special values.
func floatFunctions() []Case {
	var cases []Case
	for _, c := range []struct {
		name           string
		f              func(*graph.Node) *graph.Node
		rel            float64
		exact          bool
		ordinary, wide gen
		smooth         bool
	}{
		{"neg", (*graph.Node).Neg, 0, true, uniform(-2, 2), nil, true},
		{"abs", (*graph.Node).Abs, 0, true, away(3, -2, 2), nil, true},
		{"sign", (*graph.Node).Sign, 0, false, away(3, -2, 2), nil, true},
		{"exp", (*graph.Node).Exp, 4, false, uniform(-3, 3), uniform(-86, 88), true},
		{"expm1", (*graph.Node).Expm1, 4, false, uniform(-1, 1), uniform(-0.01, 0.01), true},
		{"log", (*graph.Node).Log, 4, false, uniform(0.1, 4), uniform(0.99, 1.01), true},
		{"log1p", (*graph.Node).Log1p, 4, false, uniform(-0.5, 3), uniform(-0.01, 0.01), true},
		{"sqrt", (*graph.Node).Sqrt, 0, true, uniform(0.1, 4), uniform(0, 1e30), true},
		{"tanh", (*graph.Node).Tanh, 6, false, uniform(-2, 2), uniform(-20, 20), true},
		{"sigmoid", (*graph.Node).Sigmoid, 6, false, uniform(-4, 4), uniform(-85, 85), true},
		{"floor", (*graph.Node).Floor, 0, true, away(1, -3, 3), uniform(-1e9, 1e9), true},
		{"relu", (*graph.Node).ReLU, 0, false, away(3, -2, 2), nil, true},
	} {
		tol := Tolerance{Rel: c.rel, SignedZero: c.exact}
		add := func(name string, in operand, diff bool) {
			cases = append(cases, Case{Name: c.name + name, Types: floatTypes, Tol: tol, in: []operand{in}, build: op1(c.f), diff: diff, smooth: c.smooth})
		}
		add("", of(c.ordinary, 5, 7), true)
		if c.wide != nil {
			add("/wide", of(c.wide, 301), false)
		}
		add("/special", of(special(), nSpecial), false)
	}
	for _, s := range []graph.Shape{{}, {1}, {8}, {1, 1, 3, 1}, {3, 2, 1, 5, 7}, {4099}, {3, 70001}} {
		cases = append(cases, Case{Name: "exp/shape" + s.String(), Types: wideTypes, Tol: Tolerance{Rel: 4}, in: []operand{of(uniform(-3, 3), s...)}, build: op1((*graph.Node).Exp)})
	}
	cases = append(cases,
		Case{Name: "stop-gradient", Types: allTypes, Tol: exact, in: []operand{of(special(), nSpecial)}, build: op1((*graph.Node).StopGradient)},
		Case{Name: "not", Types: boolOnly, in: []operand{of(values(), 37)}, build: op1((*graph.Node).Not)},
		Case{Name: "neg/integer", Types: intTypes, in: []operand{of(special(), nSpecial)}, build: op1((*graph.Node).Neg)},
		Case{Name: "abs/integer", Types: intTypes, in: []operand{of(special(), nSpecial)}, build: op1((*graph.Node).Abs)},
	)
	return cases
}

// binaries has each function of two operands: ordinary values, all pairs of
// special values, and, for one of them, the ways to broadcast.
func binaries() []Case {
	var cases []Case
	square := []operand{of(special(), nSpecial, 1), of(special(), 1, nSpecial)}
	for _, c := range []struct {
		name   string
		f      func(a, b *graph.Node) *graph.Node
		tol    Tolerance
		a, b   gen
		types  []graph.DType
		smooth bool
	}{
		{"add", (*graph.Node).Add, exact, uniform(-2, 2), uniform(-2, 2), numTypes, true},
		{"sub", (*graph.Node).Sub, exact, uniform(-2, 2), uniform(-2, 2), numTypes, true},
		{"mul", (*graph.Node).Mul, exact, uniform(-2, 2), uniform(-2, 2), numTypes, true},
		{"div", (*graph.Node).Div, exact, uniform(-2, 2), uniform(0.3, 2), numTypes, true},
		{"pow", (*graph.Node).Pow, Tolerance{Rel: 16}, uniform(0.2, 3), uniform(-2, 2), floatTypes, true},
		{"max", (*graph.Node).Max, Tolerance{}, apart(0.25, 0), apart(0.25, 0.5), numTypes, true},
		{"min", (*graph.Node).Min, Tolerance{}, apart(0.25, 0), apart(0.25, 0.5), numTypes, true},
		{"eq", (*graph.Node).Eq, Tolerance{}, nil, nil, allTypes, false},
		{"ne", (*graph.Node).Ne, Tolerance{}, nil, nil, allTypes, false},
		{"lt", (*graph.Node).Lt, Tolerance{}, nil, nil, allTypes, false},
		{"le", (*graph.Node).Le, Tolerance{}, nil, nil, allTypes, false},
		{"gt", (*graph.Node).Gt, Tolerance{}, nil, nil, allTypes, false},
		{"ge", (*graph.Node).Ge, Tolerance{}, nil, nil, allTypes, false},
		{"and", (*graph.Node).And, Tolerance{}, nil, nil, logicTypes, false},
		{"or", (*graph.Node).Or, Tolerance{}, nil, nil, logicTypes, false},
		{"xor", (*graph.Node).Xor, Tolerance{}, nil, nil, logicTypes, false},
		{"shl", (*graph.Node).Shl, Tolerance{}, nil, nil, intTypes, false},
		{"shr", (*graph.Node).Shr, Tolerance{}, nil, nil, intTypes, false},
	} {
		if c.a != nil {
			cases = append(cases, Case{Name: c.name, Types: floatTypes, Tol: c.tol, in: []operand{of(c.a, 5, 7), of(c.b, 5, 7)}, build: op2(c.f), diff: true, smooth: c.smooth})
		}
		cases = append(cases, Case{Name: c.name + "/special", Types: c.types, Tol: c.tol, in: square, build: op2(c.f)})
	}
	for _, s := range [][2]graph.Shape{
		{{}, {}}, {{}, {3, 4}}, {{1}, {1}}, {{7}, {1}}, {{3, 1}, {1, 5}},
		{{2, 3, 4, 5}, {5}}, {{2, 3, 4, 5}, {4, 1}}, {{2, 3, 4, 5}, {1, 3, 1, 1}}, {{2, 3, 4, 5}, {2, 1, 1, 5}},
		{{2, 1, 4, 1}, {3, 1, 5}}, {{1, 3, 1, 5}, {2, 1, 4, 1}}, {{2, 3, 1, 1}, {2, 3, 17, 33}},
	} {
		cases = append(cases, Case{
			Name: "mul/broadcast" + s[0].String() + s[1].String(), Types: floatTypes, Tol: exact,
			in: []operand{of(uniform(-2, 2), s[0]...), of(uniform(-2, 2), s[1]...)}, build: op2((*graph.Node).Mul), diff: true, smooth: true,
		})
	}
	return append(cases,
		Case{Name: "mul/self", Types: wideTypes, Tol: exact, in: []operand{of(uniform(-2, 2), 9)}, build: op1((*graph.Node).Square), diff: true, smooth: true},
		Case{Name: "add/large", Types: f32Only, Tol: exact, in: []operand{of(uniform(-2, 2), 3, 70001), of(uniform(-2, 2), 70001)}, build: op2((*graph.Node).Add)},
		Case{Name: "add/constant", Types: numTypes, Tol: exact, in: []operand{of(values(), 3, 5)}, build: func(x nodes) nodes {
			row := x[0].Graph().Const(x[0].DType(), []float64{1, 0, 2, 3, 5}, 5)
			return nodes{x[0].Add(row), x[0].MulC(3), row.MulC(2)}
		}},
		Case{Name: "pow/whole", Types: floatTypes, Tol: Tolerance{Rel: 16}, in: []operand{of(away(3, -2, 2), 9), of(list(0, 1, 2, 3, -1, -2), 9)}, build: func(x nodes) nodes {
			return nodes{x[0].Pow(x[1].StopGradient()), x[0].PowC(2), x[0].PowC(3), x[0].PowC(0), x[0].PowC(-1)}
		}},
		Case{Name: "iota", Types: numTypes, in: []operand{of(list(1), 3, 1, 5)}, build: op1(func(x *graph.Node) *graph.Node {
			return x.Graph().Iota(x.DType(), 0, 3, 4, 5).Add(x).Add(x.Graph().Iota(x.DType(), 2, 3, 4, 5))
		})},
		Case{Name: "scalar", Types: f32Only, Tol: Tolerance{Rel: 2}, in: []operand{
			of(uniform(-2, 2), 3, 5),
			typed(graph.F32, uniform(0, 1)).as(graph.OpScalar),
			typed(graph.I32, ints(-9, 9)).as(graph.OpScalar),
			typed(graph.U32, ints(0, 9)).as(graph.OpScalar),
		}, build: func(x nodes) nodes {
			return nodes{x[0].Mul(x[1]), x[0].Add(x[2].Convert(graph.F32)).Sub(x[3].Convert(graph.F32))}
		}},
	)
}

// conversions has every pair of types.
func conversions() []Case {
	var cases []Case
	for _, to := range allTypes {
		cases = append(cases, Case{
			Name: "convert/" + to.String(), Types: allTypes, Tol: exact,
			in:    []operand{of(special(), nSpecial), of(values(), 41), of(uniform(0, 255.75), 41)},
			build: func(x nodes) nodes { return nodes{x[0].Convert(to), x[1].Convert(to), x[2].Convert(to)} },
		})
	}
	return append(cases,
		Case{Name: "convert/large", Types: []graph.DType{graph.I32, graph.U32}, Tol: exact, // more bits than a float32 has: to nearest even
			in:    []operand{of(list(16777217, 16777219, 33554434, 2147483583, 2147483584), 5)},
			build: op1(func(x *graph.Node) *graph.Node { return x.Convert(graph.F32) })},
		Case{Name: "convert/far", Types: wideTypes, Tol: exact, // beyond every integer type, and just within
			in: []operand{of(list(4294967040, 4294967296, 2147483520, 2147483648, -2147483648, -2147483904, 255, 256, -0.99, 1e30, -1e30), 11)},
			build: func(x nodes) nodes {
				return nodes{x[0].Convert(graph.I32), x[0].Convert(graph.U32), x[0].Convert(graph.U8)}
			}},
		Case{Name: "convert/chain", Types: []graph.DType{graph.F32, graph.BF16}, Tol: Tolerance{Rel: 2}, in: []operand{of(uniform(-2, 2), 9)}, build: op1(func(x *graph.Node) *graph.Node {
			return x.Convert(graph.F32).Square().Convert(x.DType()).Exp()
		}), diff: true, smooth: true},
	)
}

func selections() []Case {
	mask := func(shape ...int) operand { return typed(graph.Bool, ints(0, 1), shape...) }
	choose := func(x nodes) nodes { return nodes{graph.Select(x[0], x[1], x[2])} }
	return []Case{
		{Name: "select", Types: allTypes, Tol: exact, in: []operand{mask(5, 7), of(values(), 5, 7), of(values(), 5, 7)}, build: choose, diff: true, smooth: true},
		{Name: "select/special", Types: allTypes, Tol: exact, in: []operand{mask(nSpecial, nSpecial), of(special(), nSpecial, 1), of(special(), 1, nSpecial)}, build: choose},
		{Name: "select/row", Types: floatTypes, Tol: exact, in: []operand{mask(4, 1, 1), of(values(), 4, 3, 5), of(values())}, build: choose, diff: true, smooth: true},
		{Name: "select/compare", Types: numTypes, in: []operand{of(values(), 33), of(values(), 33), of(values(), 33)}, build: func(x nodes) nodes {
			return nodes{graph.Select(x[0].Lt(x[1]), x[1], x[2])}
		}},
		{Name: "clamp", Types: floatTypes, in: []operand{of(away(1, -3, 3), 5, 7)}, build: op1(func(x *graph.Node) *graph.Node { return x.ClampC(-1, 2) }), diff: true, smooth: true},
		{Name: "clamp/special", Types: numTypes, in: []operand{of(special(), nSpecial)}, build: op1(func(x *graph.Node) *graph.Node { return x.ClampC(1, 7) })},
		{Name: "clamp/moving", Types: floatTypes, in: []operand{of(uniform(0, 1), 3, 5), of(uniform(-3, -1), 5), of(uniform(2, 3), 3, 1)},
			build: func(x nodes) nodes { return nodes{x[0].Clamp(x[1], x[2])} }, diff: true, smooth: true},
	}
}
