package optest

import (
	"temper/engine/autodiff"
	"temper/engine/graph"
)

// composites has the small programs that temper is for, as its layers and
// attacks build them: what passes recognise and fuse.
func composites() []Case {
	tol := Tolerance{Rel: 32, Abs: 32}
	labels := func(n, classes int) operand { return typed(graph.I32, ints(0, classes-1), n) }
	return []Case{
		{Name: "cross-entropy", Types: wideTypes, Tol: tol, in: []operand{of(uniform(-4, 4), 6, 10), labels(6, 10)},
			build: func(x nodes) nodes { return nodes{crossEntropy(x[0], x[1]).Mean()} }, diff: true, smooth: true},
		{Name: "cross-entropy/large logits", Types: wideTypes, Tol: tol, in: []operand{of(uniform(-400, 400), 6, 10), labels(6, 10)},
			build: func(x nodes) nodes {
				l := crossEntropy(x[0], x[1])
				return nodes{l, autodiff.Grad(l.Sum(), x[0])[0]}
			}},
		{Name: "softmax", Types: wideTypes, Tol: tol, in: []operand{of(uniform(-4, 4), 5, 7)}, build: op1(func(x *graph.Node) *graph.Node {
			e := x.Sub(x.ReduceMaxKeep(1).StopGradient()).Exp()
			return e.Div(e.SumKeep(1))
		}), diff: true, smooth: true},
		{Name: "batch-norm/train", Types: wideTypes, Tol: Tolerance{Rel: 64, Abs: 64}, in: []operand{
			of(uniform(-1, 2), 4, 3, 5, 5), of(uniform(0.5, 1.5), 3), of(uniform(-1, 1), 3),
		}, build: func(x nodes) nodes {
			mean := x[0].MeanKeep(0, 2, 3)
			centred := x[0].Sub(mean)
			variance := centred.Square().MeanKeep(0, 2, 3)
			y := centred.Div(variance.AddC(1e-5).Sqrt())
			return nodes{y.Mul(x[1].Reshape(1, 3, 1, 1)).Add(x[2].Reshape(1, 3, 1, 1)), mean, variance}
		}, diff: true, smooth: true},
		{Name: "batch-norm/eval", Types: wideTypes, Tol: tol, in: []operand{
			of(uniform(-1, 1), 2, 3, 5, 5), of(uniform(-1, 1), 4, 3, 3, 3), of(uniform(-1, 1), 4, 1, 1), of(uniform(0.5, 2), 4, 1, 1),
		}, build: func(x nodes) nodes {
			y := x[0].Conv2D(x[1], graph.Square(1, 1))
			return nodes{y.Sub(x[2]).Div(x[3].AddC(1e-5).Sqrt())}
		}, diff: true, smooth: true},
		{Name: "linear-relu", Types: wideTypes, Tol: tol, in: []operand{of(uniform(0.1, 1), 4, 7), of(uniform(0.1, 1), 5, 7), of(uniform(-9, -6), 5), of(uniform(-1, 1), 3, 5)},
			build: func(x nodes) nodes {
				h := graph.MatMul(x[0], x[1], false, true).Add(x[2].MulC(0.01)).ReLU()
				return nodes{graph.MatMul(h, x[3], false, true)}
			}, diff: true, smooth: true},
		{Name: "residual", Types: wideTypes, Tol: Tolerance{Abs: 256}, in: []operand{of(uniform(-1, 1), 2, 4, 6, 6), of(uniform(-1, 1), 4, 4, 3, 3), of(uniform(-1, 1), 8, 4, 1, 1), of(uniform(-1, 1), 8, 4, 3, 3)},
			build: func(x nodes) nodes {
				smooth := func(x *graph.Node) *graph.Node { return x.Mul(x.Sigmoid()) }
				h := smooth(x[0]).Conv2D(x[1], graph.Square(1, 1))
				return nodes{smooth(h).Conv2D(x[3], graph.Square(2, 1)).Add(x[0].Conv2D(x[2], graph.Square(2, 0))).Mean(2, 3)}
			}, diff: true},
		{Name: "pgd/linf", Types: wideTypes, Tol: Tolerance{Rel: 64, Abs: 64}, in: attackOperands(), build: func(x nodes) nodes {
			return pgd(x, 0.03, func(adv, d, clean *graph.Node) *graph.Node {
				return adv.Add(d.Sign().MulC(0.01)).Clamp(clean.SubC(0.03), clean.AddC(0.03)).ClampC(0, 1)
			})
		}},
		{Name: "pgd/l2", Types: wideTypes, Tol: Tolerance{Rel: 256, Abs: 256}, in: attackOperands(), build: func(x nodes) nodes {
			norm := func(x *graph.Node) *graph.Node { return x.Square().SumKeep(1, 2, 3).AddC(1e-12).Sqrt() }
			return pgd(x, 0.05, func(adv, d, clean *graph.Node) *graph.Node {
				delta := adv.Add(d.Div(norm(d)).MulC(0.1)).Sub(clean)
				return clean.Add(delta.Mul(delta.C(0.25).Div(norm(delta)).MinC(1))).ClampC(0, 1)
			})
		}},
		{Name: "l1 projection", Types: wideTypes, Tol: tol, in: []operand{of(uniform(-1, 1), 3, 21)}, build: op1(l1Projection), diff: true},
		{Name: "dlr", Types: wideTypes, Tol: tol, in: []operand{of(apart(0.125, 0), 5, 10), labels(5, 10)}, build: func(x nodes) nodes { return nodes{dlr(x[0], x[1])} }, diff: true, smooth: true},
		{Name: "decode and crop", Types: f32Only, Tol: tol, in: append([]operand{typed(graph.U8, ints(0, 255), 4, 3, 8, 8)}, draw(words(), 4)...), build: func(x nodes) nodes {
			d := drawOf(x[1:])
			img := x[0].Convert(graph.F32).DivC(255).PadND([]int{0, 0, 2, 2}, []int{0, 0, 2, 2}, []int{1, 1, 1, 1})
			at := d.Uniform("crop", 3).Mul(x[0].Graph().Const(graph.F32, []float64{0, 5, 5}, 3)).Convert(graph.I32)
			crop := img.DynSlice(at, 3, 8, 8)
			flip := d.Uniform("flip", 1, 1, 1).Lt(img.C(0.5))
			return nodes{graph.Select(flip, crop.Reverse(3), crop)}
		}},
		{Name: "random start", Types: f32Only, Tol: exact, in: append([]operand{of(uniform(0, 1), 3, 2, 4, 4)}, draw(words(), 3)...), build: func(x nodes) nodes {
			return nodes{x[0].Add(drawOf(x[1:]).Uniform("start", 2, 4, 4).MulC(0.0625).SubC(0.03125)).ClampC(0, 1)}
		}},
		{Name: "gradient penalty", Types: wideTypes, Tol: Tolerance{Rel: 64, Abs: 64}, in: []operand{of(uniform(-1, 1), 4, 5), of(uniform(-1, 1), 5, 3), labels(4, 3)}, build: func(x nodes) nodes {
			loss := crossEntropy(x[0].MatMul(x[1]).Tanh(), x[2]).Sum()
			d := autodiff.Grad(loss, x[0])[0]
			return nodes{loss.Add(d.Square().Sum())}
		}, diff: true, smooth: true},
	}
}

// crossEntropy of logits (N,C) and labels (N) is (N).
func crossEntropy(logits, labels *graph.Node) *graph.Node {
	top := logits.ReduceMaxKeep(1).StopGradient()
	z := logits.Sub(top)
	return z.Exp().SumKeep(1).Log().Sub(z.Gather(1, labels.Expand(1))).Reshape(-1)
}

// attackOperands are images (N,C,H,W), filters, a linear layer and labels.
func attackOperands() []operand {
	return []operand{
		of(uniform(0, 1), 3, 2, 5, 5), of(uniform(-1, 1), 4, 2, 3, 3), of(uniform(-1, 1), 100, 6), typed(graph.I32, ints(0, 5), 3),
	}
}

// pgd runs four ascent steps from the clean images and returns the last
// iterate and the losses on the way.
func pgd(x nodes, start float64, step func(adv, d, clean *graph.Node) *graph.Node) nodes {
	clean, filters, fc, labels := x[0], x[1], x[2], x[3]
	g := clean.Graph()
	last, losses := g.Loop(4, nodes{clean.AddC(start).ClampC(0, 1)}, nil, func(_ *graph.Node, c, _ nodes) (next, stack nodes) {
		h := c[0].Conv2D(filters, graph.Square(1, 1))
		logits := h.Mul(h.Sigmoid()).Flatten(1).MatMul(fc)
		loss := crossEntropy(logits, labels)
		return nodes{step(c[0], autodiff.Grad(loss.Sum(), c[0])[0], clean)}, nodes{loss}
	})
	return append(last, losses...)
}

// l1Projection projects rows (N,D) onto the ball of ℓ₁ radius 1, by sorting
// (Duchi et al., "Efficient projections onto the l1-ball", ICML 2008).
func l1Projection(x *graph.Node) *graph.Node {
	a := x.Abs()
	sorted := a.Gather(1, a.ArgSort(1, true))
	rank := x.Graph().Iota(x.DType(), 1, x.Shape()...).AddC(1)
	excess := sorted.CumSum(1).SubC(1)
	keep := sorted.Mul(rank).Gt(excess)
	count := keep.Convert(graph.I32).SumKeep(1)
	theta := excess.Gather(1, count.SubC(1)).Div(count.Convert(x.DType()))
	return x.Sign().Mul(a.Sub(theta.MaxC(0)).ReLU())
}

// dlr is the difference-of-logits ratio of logits (N,C) and labels (N), (N)
// (Croce and Hein, "Reliable evaluation of adversarial robustness", ICML 2020).
func dlr(z, labels *graph.Node) *graph.Node {
	order := z.ArgSort(1, true)
	sorted := z.Gather(1, order)
	own := z.Gather(1, labels.Expand(1))
	first := order.Slice(1, 0, 1).Eq(labels.Expand(1))
	rival := graph.Select(first, sorted.Slice(1, 1, 2), sorted.Slice(1, 0, 1))
	return own.Sub(rival).Div(sorted.Slice(1, 0, 1).Sub(sorted.Slice(1, 2, 3)).AddC(1e-12)).Neg().Reshape(-1)
}
