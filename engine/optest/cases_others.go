package optest

import (
	"math"

	"temper/engine/autodiff"
	"temper/engine/graph"
)

// others has random numbers, loops and state.
func others() []Case { return append(append(randoms(), loops()...), states()...) }

// draw is the four operands of random numbers for n samples.
func draw(ids gen, n int) []operand {
	return []operand{
		typed(graph.U32, words()).as(graph.OpScalar), typed(graph.U32, ids, n),
		typed(graph.U32, words()).as(graph.OpScalar), typed(graph.U32, words()).as(graph.OpScalar),
	}
}

func drawOf(x nodes) graph.Draw { return graph.Draw{Seed: x[0], IDs: x[1], Step: x[2], Iter: x[3]} }

// publishedSite is a name whose hash is 0, so that the draw of all zeros has
// the key and counter of the first vector that Philox's authors publish.
const publishedSite = "ppkttia"

func randoms() []Case {
	u32 := []graph.DType{graph.U32}
	zero := typed(graph.U32, list(0)).as(graph.OpScalar)
	return []Case{
		{Name: "random/published", Types: u32, in: []operand{zero, typed(graph.U32, list(0), 1), zero, zero}, build: func(x nodes) nodes {
			return nodes{drawOf(x).Words(publishedSite, 4)}
		}},
		{Name: "random/words", Types: u32, in: draw(words(), 5), build: func(x nodes) nodes {
			return nodes{drawOf(x).Words("a", 3, 5, 7), drawOf(x).Words("b"), drawOf(x).Words("c", 1), drawOf(x).Words("d", 4)}
		}},
		{Name: "random/repeated", Types: u32, in: draw(list(7, math.MaxUint32, 7, 0), 4), build: func(x nodes) nodes {
			return nodes{drawOf(x).Words("a", 9)}
		}},
		{Name: "random/uniform", Types: u32, Tol: exact, in: draw(words(), 3), build: func(x nodes) nodes {
			u := drawOf(x).Uniform("start", 3, 33)
			return nodes{u, u.MulC(2).SubC(1)}
		}},
		{Name: "random/normal", Types: u32, Tol: exact, in: draw(words(), 3), build: func(x nodes) nodes {
			return nodes{drawOf(x).Normal("start", 1001)}
		}},
		{Name: "normal", Types: u32, Tol: exact, build: func(x nodes) nodes { return nodes{x[0].Graph().Make(graph.OpNormal, graph.Attrs{}, x[0])} },
			in: []operand{of(list(0, 0x100, 0x1ff, 0xffffffff, 0xfffffeff, 1<<31, 511, 512, 0x00ffffff, 0x01000000), 10)}},
		{Name: "random/in a loop", Types: u32, Tol: exact, in: draw(words(), 3), build: func(x nodes) nodes {
			g := x[0].Graph()
			zero := g.Const(graph.F32, []float64{0}, 3, 5)
			last, stacks := g.Loop(4, nodes{zero}, nil, func(i *graph.Node, c, _ nodes) (next, stack nodes) {
				d := drawOf(x)
				d.Iter = i.Convert(graph.U32)
				u := d.Uniform("loop", 5)
				return nodes{c[0].Max(u)}, nodes{u}
			})
			return append(last, stacks...)
		}},
	}
}

// loops has what an executor that plans memory can get wrong: swaps, values
// that are read after their update, captured and passed-through values.
func loops() []Case {
	tol := Tolerance{Rel: 16, Abs: 16}
	vec := func() operand { return of(uniform(-1, 1), 3, 5) }
	loop := func(name string, in []operand, build func(g *graph.Graph, x nodes) nodes) Case {
		return Case{Name: "loop/" + name, Types: wideTypes, Tol: tol, in: in, build: func(x nodes) nodes { return build(x[0].Graph(), x) }}
	}
	type ns = nodes
	return []Case{
		loop("carry", []operand{vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(5, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) { return ns{c[0].Tanh().MulC(1.5)}, nil })
			return last
		}),
		loop("once", []operand{vec()}, func(g *graph.Graph, x ns) ns {
			last, stacks := g.Loop(1, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) { return ns{c[0].Neg()}, c })
			return append(last, stacks...)
		}),
		loop("index", []operand{vec()}, func(g *graph.Graph, x ns) ns {
			last, stacks := g.Loop(6, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				return ns{c[0].Add(i.Convert(c[0].DType()))}, ns{i, i.Mul(i)}
			})
			return append(last, stacks...)
		}),
		loop("operand lives on", []operand{vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(3, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) { return ns{c[0].Exp().MulC(0.25)}, nil })
			return ns{last[0], last[0].Sub(x[0])}
		}),
		loop("one operand twice", []operand{vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(3, ns{x[0], x[0]}, nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				return ns{c[0].AddC(1), c[1].MulC(2)}, nil
			})
			return last
		}),
		loop("swap", []operand{vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(5, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) { return ns{c[1], c[0]}, nil })
			return last
		}),
		loop("swap and use", []operand{vec(), vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(4, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				return ns{c[1], c[2].Add(c[0]).MulC(0.5), c[0]}, nil
			})
			return last
		}),
		loop("read after update", []operand{vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, stacks := g.Loop(4, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				a := c[0].MulC(0.5)
				return ns{a, c[1].Add(c[0]).Sub(a)}, ns{c[0], a.Sub(c[0])}
			})
			return append(last, stacks...)
		}),
		loop("reduced while updated", []operand{of(uniform(-1, 1), 5), vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, stacks := g.Loop(2, x[:2], nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				return ns{c[0].Add(c[1].Sum()).Tanh(), c[1].MulC(0.5).Add(x[2].Tanh())}, ns{c[1].Mean(0)}
			})
			return append(last, stacks...)
		}),
		loop("reduced while updated, unused", []operand{of(uniform(-1, 1), 5), vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(1, x[:2], nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				return ns{c[0].MulC(0.5).Add(c[0].Add(c[1].Sum()).Tanh()), c[1].MulC(0.5).Add(x[2].Tanh())}, nil
			})
			return last[:1]
		}),
		loop("multiplied while updated", []operand{of(uniform(-1, 1), 3, 3), vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(3, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				return ns{c[0].Add(graph.MatMul(c[1], c[1], false, true)).Tanh(), c[0].MatMul(c[1]).Tanh()}, nil
			})
			return last
		}),
		loop("moved while updated", []operand{vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(3, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				return ns{c[1].Reverse(0, 1).Add(c[0]), c[0].Reverse(1).Sub(c[1])}, nil
			})
			return last
		}),
		loop("constant carry", []operand{vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(4, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) { return ns{c[0], c[1].Add(c[0])}, nil })
			return last
		}),
		loop("carried on by a loop inside, unchanged", []operand{vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(3, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				begin := c[1].Tanh().Add(i.Convert(x[0].DType())).Reverse(0)
				inner, _ := g.Loop(2, ns{begin, c[1]}, nil, func(_ *graph.Node, c, _ ns) (next, stack ns) {
					return ns{c[0], c[1].Add(c[0]).MulC(0.5)}, nil
				})
				return ns{inner[0], inner[1]}, nil
			})
			return last
		}),
		loop("one value for two, read of the first behind it", []operand{vec(), vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, stacks := g.Loop(3, x[:2], nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				y := x[2].AddC(1).Mul(i.Convert(x[2].DType())).Reverse(0)
				return ns{y, y}, ns{c[0].Reverse(1)}
			})
			return append(last, stacks...)
		}),
		loop("yield from outside", []operand{vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, stacks := g.Loop(3, x[:1], nil, func(i *graph.Node, c, _ ns) (next, stack ns) { return x[1:2], ns{c[0], x[0]} })
			return append(last, stacks...)
		}),
		loop("one value yielded twice", []operand{vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, stacks := g.Loop(3, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				y := c[0].Add(c[1]).MulC(0.5)
				return ns{y, y}, ns{y, y}
			})
			return append(last, stacks...)
		}),
		loop("unused result", []operand{vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(3, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				return ns{c[0].AddC(1), c[1].Neg()}, ns{c[1].Exp()}
			})
			return last[:1]
		}),
		loop("scan", []operand{vec(), of(uniform(-1, 1), 4, 3, 5), typed(graph.I32, ints(-9, 9), 4)}, func(g *graph.Graph, x ns) ns {
			last, stacks := g.Loop(4, x[:1], x[1:], func(i *graph.Node, c, s ns) (next, stack ns) {
				return ns{c[0].MulC(0.5).Add(s[0])}, ns{s[1].Add(i), s[0].Sum(1)}
			})
			return append(last, stacks...)
		}),
		loop("stack", []operand{vec(), of(values(), 7)}, func(g *graph.Graph, x ns) ns {
			_, stacks := g.Loop(3, x[:1], nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				y := c[0].Tanh()
				return ns{y}, ns{y.Mul(c[0]), y.Sum(), x[1], x[1].Gt(i.Convert(x[1].DType()))}
			})
			return stacks
		}),
		loop("capture", []operand{vec(), of(uniform(-1, 1), 5, 5)}, func(g *graph.Graph, x ns) ns {
			w := x[1].MulC(0.3)
			last, _ := g.Loop(4, x[:1], nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				return ns{c[0].MatMul(w).Add(x[0])}, nil
			})
			return ns{last[0].MatMul(w)}
		}),
		loop("nested", []operand{vec(), vec()}, func(g *graph.Graph, x ns) ns {
			last, stacks := g.Loop(3, x[:1], nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				inner, trace := g.Loop(2, ns{c[0], x[1]}, nil, func(j *graph.Node, d, _ ns) (next, stack ns) {
					w := i.Add(j).Convert(d[0].DType()).MulC(0.125)
					return ns{d[0].Mul(w).Add(d[1]), c[0].MulC(0.5)}, ns{d[0].Sum(0)}
				})
				return inner[:1], ns{inner[1], trace[0]}
			})
			return append(last, stacks...)
		}),
		loop("one after the other", []operand{vec()}, func(g *graph.Graph, x ns) ns {
			half := func(i *graph.Node, c, _ ns) (next, stack ns) { return ns{c[0].MulC(0.5).AddC(1)}, c }
			a, as := g.Loop(3, x, nil, half)
			b, _ := g.Loop(3, ns{a[0].Neg()}, as, func(i *graph.Node, c, s ns) (next, stack ns) { return ns{c[0].Add(s[0])}, nil })
			return ns{b[0], a[0]}
		}),
		loop("gradient inside", []operand{vec(), of(uniform(-1, 1), 5, 2)}, func(g *graph.Graph, x ns) ns {
			last, stacks := g.Loop(4, x[:1], nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				loss := c[0].MatMul(x[1]).Tanh().Square().Sum()
				d := autodiff.Grad(loss, c[0])[0]
				return ns{c[0].Add(d.MulC(0.1))}, ns{loss}
			})
			return append(last, stacks...)
		}),
		loop("many carried", []operand{vec(), vec(), typed(graph.I32, ints(-99, 99), 3), typed(graph.Bool, ints(0, 1), 3, 5), typed(graph.U32, words())}, func(g *graph.Graph, x ns) ns {
			last, _ := g.Loop(5, x, nil, func(i *graph.Node, c, _ ns) (next, stack ns) {
				return ns{graph.Select(c[3], c[0], c[1]), c[1].MulC(0.5), c[2].Add(i).Mul(c[2]), c[3].Xor(c[0].Gt(c[1])), c[4].Mul(c[4].C(1664525)).AddC(1013904223)}, nil
			})
			return last
		}),
	}
}

// states has assignments, whose values must be those of before the step.
func states() []Case {
	state := func() operand { return of(uniform(-1, 1), 3, 5).as(graph.OpState) }
	assign := func(pairs ...*graph.Node) {
		for i := 0; i < len(pairs); i += 2 {
			pairs[i].Graph().Assign(pairs[i], pairs[i+1])
		}
	}
	tol := Tolerance{Rel: 4, Abs: 4}
	return []Case{
		{Name: "assign/momentum", Types: wideTypes, Tol: tol, build: func(x nodes) nodes {
			w, m, lr := x[0], x[1], x[3].Convert(x[0].DType())
			g := autodiff.Grad(w.Mul(x[2]).Square().Sum(), w)[0]
			next := m.MulC(0.9).Add(g)
			assign(w, w.Sub(next.Mul(lr)), m, next)
			return nodes{g}
		}, in: []operand{state(), state(), of(uniform(-1, 1), 3, 5), typed(graph.F32, uniform(0.1, 0.2)).as(graph.OpScalar)}},
		{Name: "assign/swap", Types: wideTypes, Tol: tol, build: func(x nodes) nodes {
			assign(x[0], x[1], x[1], x[0])
			return nil
		}, in: []operand{state(), state()}},
		{Name: "assign/rotate", Types: wideTypes, Tol: tol, build: func(x nodes) nodes {
			assign(x[0], x[1].AddC(1), x[1], x[2], x[2], x[0])
			return nodes{x[0], x[1].Mul(x[0])}
		}, in: []operand{state(), state(), state()}},
		{Name: "assign/old value is an output", Types: wideTypes, Tol: tol, build: func(x nodes) nodes {
			assign(x[0], x[1])
			return nodes{x[0], x[1], x[0].Sum()}
		}, in: []operand{state(), of(values(), 3, 5)}},
		{Name: "assign/itself", Types: wideTypes, Tol: tol, build: func(x nodes) nodes {
			assign(x[0], x[0])
			return nodes{x[0].AddC(1)}
		}, in: []operand{state()}},
		{Name: "assign/one value twice", Types: wideTypes, Tol: tol, build: func(x nodes) nodes {
			y := x[0].Add(x[1])
			assign(x[0], y, x[1], y)
			return nodes{y}
		}, in: []operand{state(), state()}},
		{Name: "assign/one value twice, read of the first behind it", Types: wideTypes, Tol: tol, build: func(x nodes) nodes {
			y := x[2].Reverse(0)
			old := x[0].Reverse(1) // so that only the second state can be written in place
			assign(x[0], y, x[1], y)
			return nodes{old}
		}, in: []operand{state(), state(), of(uniform(-1, 1), 3, 5)}},
		{Name: "assign/what a loop begins with, and goes through", Types: wideTypes, Tol: Tolerance{Rel: 16, Abs: 16}, build: func(x nodes) nodes {
			y, z := x[2].Tanh(), x[3].Exp()
			last, stacks := x[0].Graph().Loop(3, nodes{y}, nodes{z}, func(i *graph.Node, c, s nodes) (next, stack nodes) {
				return nodes{c[0].Add(s[0]).MulC(0.5)}, nodes{c[0].Mul(s[0])}
			})
			assign(x[0], y, x[1], z)
			return append(last, stacks...)
		}, in: []operand{state(), state(), of(uniform(-1, 1), 3, 5), of(uniform(-1, 1), 3, 5)}},
		{Name: "assign/counter", Types: []graph.DType{graph.I32, graph.U32}, build: func(x nodes) nodes {
			assign(x[0], x[0].AddC(1))
			return nil
		}, in: []operand{of(list(41)).as(graph.OpState)}},
		{Name: "assign/loop", Types: wideTypes, Tol: Tolerance{Rel: 16, Abs: 16}, build: func(x nodes) nodes {
			last, _ := x[0].Graph().Loop(3, x[:1], nil, func(i *graph.Node, c, _ nodes) (next, stack nodes) {
				return nodes{c[0].Add(x[0]).Tanh()}, nil
			})
			assign(x[0], last[0])
			return nodes{x[0].Exp()}
		}, in: []operand{state()}},
		{Name: "output/an input", Types: allTypes, Tol: exact, in: []operand{of(values(), 3)}, build: func(x nodes) nodes { return nodes{x[0], x[0]} }},
	}
}
