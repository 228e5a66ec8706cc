package adversarial

import (
	"fmt"
	"math"

	"temper/engine/graph"
	"temper/nn"
)

// The features of the structured data of Li and Li (arXiv 2410.08503) are known,
// so what a network has learned can be measured: the alignment of its filters
// with them, and its answer to inputs moved along them.

// OracleNames lists the perturbations of FeatureGraph that are written down with
// the features in hand, without asking the network. On the patches that carry
// v (J_N) or u (J_R), b being the smaller of β and ε:
//
//	minus_v    −ε·v_y on J_N
//	swap_v     −b·v_y + √(ε²−b²)·v_y' on J_N
//	minus_vu   −ε·v_y on J_N and −ε·u_y on J_R
//	inject_u   +ε·u_y' on J_N
//	random     a random direction of length ε on every patch
func OracleNames() []string {
	return []string{"minus_v", "swap_v", "minus_vu", "inject_u", "random"}
}

// FeatureProbe describes what FeatureGraph measures.
type FeatureProbe struct {
	Model   *nn.Model   // a patch CNN on structured data, x (N,d,1,P)
	Threat  ThreatModel // what every attack keeps to
	Trained Attack      // the attack that training ascends with; measured with loss lse-margin
	Search  Attack      // a stronger one; its step size is scalar search_alpha
}

// FeatureGraph builds the measurement of a batch of N as one graph. It shares
// the model's state with training and changes nothing.
//
//	inputs   x (N,d,1,P) of f32; y (N) of i32; ids (N) of u32; u, v (k,d) of
//	         f32: the features; robust (N,P) of bool: the patches that carry u
//	scalars  seed (u32); eps, alpha, search_alpha, beta (f32)
//	outputs  u_max, u_mean, v_max, v_mean (k): of ⟨w_{i,r}, u_i⟩ over the
//	         filters r of class i, and likewise v; f32 scalars, means over the
//	         batch: acc, margin (F_y − max_{j≠y} F_j), the same on robust-only
//	         inputs (acc_u, margin_u: v is projected away where u is not) and
//	         on non-robust-only ones (acc_v, margin_v); cos_minus_v,
//	         cos_plus_v, cos_minus_u, cos_plus_u: of the trained attack's
//	         perturbation with −v_y and the nearest +v_y' on J_N, with −u_y on
//	         J_R and the nearest +u_y' on J_N; robust_trained, robust_search
//	         and robust_NAME for every oracle: accuracy under attack; size: of
//	         the largest perturbation, for ThreatModel.Allows
//
// A sample counts as right where its own logit is strictly the largest. The
// class y' that an oracle aims at is drawn by seed and sample, evenly among
// the others. All attacks are projected to the threat model. In a norm that is
// not per patch an oracle's ε is what a patch gets if J_N shares the whole:
// ε/√|J_N| in ℓ₂; ε·√d in ℓ∞, where it is clipped.
func FeatureGraph(p FeatureProbe, batch int) (*graph.Graph, error) {
	g := graph.New(p.Model.Name + " features")
	f, err := newFeatures(g, p, batch)
	if err != nil {
		return nil, err
	}
	filters := f.params.Get("conv.weight").Reshape(f.k, -1, f.d)
	f.align("u", filters, f.u)
	f.align("v", filters, f.v)
	f.judge("", f.x)
	f.judge("_u", graph.Select(f.robust, f.x, f.without(f.v)))
	f.judge("_v", graph.Select(f.robust, f.without(f.u), f.x))
	f.attacks(p)
	return g, g.Err()
}

// newFeatures checks what a probe is to measure, and declares its inputs.
func newFeatures(g *graph.Graph, p FeatureProbe, batch int) (*features, error) {
	in, err := declare(g, p.Model, p.Threat, batch, graph.F32)
	if err != nil {
		return nil, err
	}
	for _, a := range []Attack{p.Trained, p.Search} {
		if err := evaluable(a, p.Threat); err != nil {
			return nil, err
		}
	}
	weight := in.params.Get("conv.weight")
	k, d := p.Model.Classes, p.Model.Input[0]
	if weight == nil || p.Model.Input[1] != 1 || weight.Dim(1)*weight.Dim(2)*weight.Dim(3) != d {
		return nil, fmt.Errorf("model %s on inputs of %v: features are measured in a patch CNN with patches of one position", p.Model.Name, p.Model.Input)
	}
	in.draw.Step = g.Const(graph.U32, []float64{0})
	f := &features{
		inputs: in, model: p.Model, k: k, d: d,
		u: g.Input("u", graph.F32, k, d), v: g.Input("v", graph.F32, k, d),
		beta: g.Scalar("beta", graph.F32),
	}
	f.robust = g.Input("robust", graph.Bool, batch, p.Model.Input[2]).Reshape(batch, 1, 1, -1)
	return f, g.Err()
}

// features is a probe being built.
type features struct {
	inputs
	model  *nn.Model
	k, d   int
	u, v   *graph.Node // (k,d)
	robust *graph.Node // bool (N,1,1,P)
	beta   *graph.Node
}

// align reports the inner products of each class's filters (k,m,d) with its
// own feature.
func (f *features) align(name string, filters, feature *graph.Node) {
	z := filters.MatMul(feature.Reshape(f.k, f.d, 1)).Reshape(f.k, -1) // (k,m)
	z.Graph().Output(name+"_max", z.ReduceMax(1))
	z.Graph().Output(name+"_mean", z.Mean(1))
}

// judge reports accuracy and mean margin at x.
func (f *features) judge(suffix string, x *graph.Node) {
	margin := nn.CWMargin(f.logits(x), f.y).Neg()
	x.Graph().Output("acc"+suffix, fraction(margin.Gt(margin.C(0))))
	x.Graph().Output("margin"+suffix, margin.Mean())
}

func (f *features) logits(x *graph.Node) *graph.Node {
	return f.model.Apply(f.params, f.buffers, x, nn.Eval).Logits
}

// fraction is the part of a bool (N) that is true.
func fraction(b *graph.Node) *graph.Node { return b.Convert(graph.F32).Mean() }

// along is ⟨x_p, feature_j⟩ at every patch: (N,k,1,P).
func (f *features) along(x, feature *graph.Node) *graph.Node {
	return x.Conv2D(feature.Reshape(f.k, f.d, 1, 1), graph.Square(1, 0))
}

// without is x with the span of a feature's k directions projected away.
func (f *features) without(feature *graph.Node) *graph.Node {
	back := feature.Transpose(1, 0).Reshape(f.d, f.k, 1, 1)
	return f.x.Sub(f.along(f.x, feature).Conv2D(back, graph.Square(1, 0)))
}

// attacks reports the accuracy under each attack, and what the trained one's
// perturbation looks like.
func (f *features) attacks(p FeatureProbe) {
	g, ball := f.x.Graph(), p.Threat.around(f.x, f.eps)
	var largest *graph.Node
	report := func(name string, x *graph.Node) {
		margin := nn.CWMargin(f.logits(x), f.y)
		g.Output("robust_"+name, fraction(margin.Lt(margin.C(0))))
		size := p.Threat.Size(x.Sub(f.x)).ReduceMax()
		if largest != nil {
			size = largest.Max(size)
		}
		largest = size
	}
	trained := p.Trained
	trained.Loss = "lse-margin" // cross-entropy's gradient vanishes as training converges: the attack would go blind
	x := trained.Build(f.problem(f.model)).X
	f.cosines(x.Sub(f.x))
	report("trained", x)

	search := f.problem(f.model)
	search.Alpha = g.Scalar("search_alpha", graph.F32)
	report("search", p.Search.Build(search).X)

	for i, delta := range f.oracles(p.Threat) {
		report(OracleNames()[i], ball.project(f.x.Add(delta)))
	}
	g.Output("size", largest)
}

// oracles are the perturbations of OracleNames, (N,d,1,P) each.
func (f *features) oracles(t ThreatModel) []*graph.Node {
	dense := f.robust.Not()
	zero := f.x.C(0)
	reach := f.reach(t)
	other := f.other()
	u, v := f.feature(f.u, f.y), f.feature(f.v, f.y)
	otherU, otherV := f.feature(f.u, other), f.feature(f.v, other)

	b := f.beta.Min(reach)
	rest := reach.Square().Sub(b.Square()).MaxC(0).Sqrt()
	minusV := graph.Select(dense, v.Mul(reach).Neg(), zero)
	return []*graph.Node{
		minusV,
		graph.Select(dense, otherV.Mul(rest).Sub(v.Mul(b)), zero),
		graph.Select(f.robust, u.Mul(reach).Neg(), minusV),
		graph.Select(dense, otherU.Mul(reach), zero),
		unit(f.draw.Normal("feature.random", f.d, 1, f.x.Dim(3)), []int{1}).Mul(reach),
	}
}

// reach is the length that a patch's part of a perturbation may have, (N,1,1,1)
// or a scalar.
func (f *features) reach(t ThreatModel) *graph.Node {
	switch t.Norm {
	case Linf:
		return f.eps.MulC(math.Sqrt(float64(f.d)))
	case L2:
		return f.eps.Div(count(f.robust.Not()).Sqrt())
	}
	return f.eps
}

// count is the number of marked patches of each sample, at least 1: (N,1,1,1).
func count(mask *graph.Node) *graph.Node { return mask.Convert(graph.F32).SumKeep(3).MaxC(1) }

// other draws a class that is not the sample's own: (N) of i32.
func (f *features) other() *graph.Node {
	shift := f.draw.Uniform("feature.other", 1).MulC(float64(f.k - 1)).Convert(graph.I32).Reshape(f.x.Dim(0)) // 0 … k−2
	j := f.y.Add(shift).AddC(1)
	return graph.Select(j.Ge(j.C(float64(f.k))), j.SubC(float64(f.k)), j)
}

// feature is each sample's feature vector, of the class in y: (N,d,1,1).
func (f *features) feature(all, y *graph.Node) *graph.Node {
	return y.OneHot(f.k, graph.F32).MatMul(all).Reshape(-1, f.d, 1, 1)
}

// cosines reports the mean cosines of perturbations (N,d,1,P) with patterns
// that are one feature on the marked patches and nothing elsewhere.
func (f *features) cosines(delta *graph.Node) {
	whole := positive(length(delta, 1, 2, 3)).Reshape(-1, 1) // (N,1)
	pattern := func(feature, mask *graph.Node) *graph.Node { // (N,k)
		dots := graph.Select(mask, f.along(delta, feature), delta.C(0)).Sum(2, 3)
		return dots.Div(count(mask).Reshape(-1, 1).Sqrt().Mul(whole))
	}
	own := f.y.OneHot(f.k, graph.Bool)
	nearestOther := func(c *graph.Node) *graph.Node {
		return graph.Select(own, c.C(math.Inf(-1)), c).ReduceMax(1).Mean()
	}
	dense := f.robust.Not()
	v, u, written := pattern(f.v, dense), pattern(f.u, f.robust), pattern(f.u, dense)
	g := delta.Graph()
	g.Output("cos_minus_v", nn.Pick(v, f.y).Neg().Mean())
	g.Output("cos_plus_v", nearestOther(v))
	g.Output("cos_minus_u", nn.Pick(u, f.y).Neg().Mean())
	g.Output("cos_plus_u", nearestOther(written))
}

// SearchAttack is the stronger attack that structured data are measured with
// unless somebody names another: PGD-20 on the margin.
func SearchAttack() Attack {
	return Attack{Name: "pgd", Steps: 20, RandomStart: true, Loss: "lse-margin"}
}
