package adversarial

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"temper/engine/graph"
)

// Norm is the shape of the set that a perturbation may come from.
type Norm string

// The norms. Inputs are (N,C,H,W); a patch is one position's column of C
// values, as in the structured data (N,d,1,P).
const (
	Linf    Norm = "linf"
	L2      Norm = "l2"       // of a sample's whole perturbation
	L1      Norm = "l1"       // of a sample's whole perturbation
	PatchL2 Norm = "patch-l2" // of each patch's own perturbation: P balls of radius ε
)

// Norms lists the norms.
func Norms() []Norm { return []Norm{Linf, L2, L1, PatchL2} }

func (n Norm) symbol() string {
	return map[Norm]string{Linf: "L∞", L2: "L2", L1: "L1", PatchL2: "L2 per patch"}[n]
}

// axes are those that one ball of an ℓ₂ norm spans.
func (n Norm) axes() []int {
	if n == PatchL2 {
		return []int{1}
	}
	return []int{1, 2, 3}
}

// Domain is where inputs live.
type Domain string

// The domains.
const (
	Unit      Domain = "unit"      // [0,1]: images
	Unbounded Domain = "unbounded" // structured data
)

// Domains lists the domains.
func Domains() []Domain { return []Domain{Unit, Unbounded} }

// ThreatModel says how far an adversary may move an input: by a perturbation
// whose norm is at most ε, and not out of the domain. It is one value for
// training, attacks, evaluation and reports.
type ThreatModel struct {
	Norm    Norm    `toml:"norm"`
	Epsilon Epsilon `toml:"eps"`
	Domain  Domain  `toml:"domain"`
}

// String is the threat model in the field's notation: "L∞ 8/255".
func (t ThreatModel) String() string { return t.Norm.symbol() + " " + t.Epsilon.String() }

// Validate reports the first setting that makes no sense.
func (t ThreatModel) Validate() error {
	if err := t.validateShape(); err != nil {
		return err
	}
	switch {
	case !t.Epsilon.IsSet():
		return fmt.Errorf("eps is not set: give one such as 8/255")
	case t.Epsilon.Float64() == 0:
		return fmt.Errorf("eps is 0, which allows no perturbation: give a larger one, or no attack")
	case !inRange(t.Epsilon):
		return fmt.Errorf("eps %v is no number of float32, in which attacks compute", t.Epsilon)
	case t.Domain == Unit && t.Norm == Linf && t.Epsilon.Float64() > 1:
		return fmt.Errorf("eps %v is larger than the inputs' range [0,1]: 8 grey levels are 8/255", t.Epsilon)
	}
	return nil
}

// inRange is whether float32 has e as a positive, finite number.
func inRange(e Epsilon) bool {
	v := float32(e.Float64())
	return v > 0 && v <= math.MaxFloat32
}

// validateShape is Validate without ε.
func (t ThreatModel) validateShape() error {
	switch {
	case !slices.Contains(Norms(), t.Norm):
		return unknown("norm", t.Norm, Norms())
	case !slices.Contains(Domains(), t.Domain):
		return unknown("domain", t.Domain, Domains())
	}
	return nil
}

// unknown is the error for a name that is not among the known ones.
func unknown[T ~string](kind string, name T, known []T) error {
	return fmt.Errorf("unknown %s %q: want one of %s", kind, name, strings.Join(names(known), ", "))
}

func names[T ~string](known []T) []string {
	var names []string
	for _, k := range known {
		names = append(names, string(k))
	}
	return names
}

// Allows reports whether a perturbation of that size, measured in float32, is
// within ε. The slack, 10⁻⁵ of ε and 10⁻⁶, is what rounding of x' and of the
// measurement may add.
func (t ThreatModel) Allows(size float64) bool {
	return size <= t.Epsilon.Float64()*(1+1e-5)+1e-6
}

// Check holds an attacked input against the threat model: the size of its
// perturbation, measured in float32, and its elements, where they are at hand.
// Every example that a number comes from passes here: an attack that breaks the
// rules must not make numbers.
func (t ThreatModel) Check(size float64, x []float32) error {
	if !t.Allows(size) {
		return fmt.Errorf("the attack's perturbation has size %v, beyond %v: no result is given", size, t)
	}
	lo, hi := float32(-math.MaxFloat32), float32(math.MaxFloat32)
	if t.Domain == Unit {
		lo, hi = 0, 1
	}
	for _, v := range x {
		if !(v >= lo && v <= hi) { // NaN is not
			return fmt.Errorf("the attack's result has an element %v outside the domain %v: no result is given", v, t.Domain)
		}
	}
	return nil
}

// Share is the threat model with a share of ε, as while ε warms up.
func (t ThreatModel) Share(share float64) ThreatModel {
	if share != 1 {
		v := share * t.Epsilon.value
		t.Epsilon = Epsilon{strconv.FormatFloat(v, 'g', -1, 64), v}
	}
	return t
}

// Size measures perturbations (N,C,H,W) in the threat model's norm: (N). For
// PatchL2 it is the largest of the patches' norms.
func (t ThreatModel) Size(delta *graph.Node) *graph.Node {
	switch t.Norm {
	case Linf:
		return delta.Abs().ReduceMax(1, 2, 3)
	case L1:
		return delta.Abs().Sum(1, 2, 3)
	case PatchL2:
		return length(delta, 1).ReduceMax(1, 2, 3)
	}
	return length(delta, t.Norm.axes()...).Reshape(delta.Dim(0))
}

// diameter is the norm of the largest perturbation that the domain [0,1] has
// room for, on inputs (C,H,W).
func (t ThreatModel) diameter(dims graph.Shape) float64 {
	switch n := float64(dims.Size()); {
	case t.Norm == L1:
		return n
	case t.Norm == L2:
		return math.Sqrt(n)
	case t.Norm == PatchL2 && len(dims) > 0:
		return math.Sqrt(float64(dims[0]))
	}
	return 1
}

// ball is the set of allowed x': around x, of radius eps (f32 scalar), in the
// threat model's norm and domain. Its bounds are computed once, where it is
// made, so that loops only read them.
type ball struct {
	t      ThreatModel
	x, eps *graph.Node
	lo, hi *graph.Node // L∞: the box that is ball and domain at once
}

func (t ThreatModel) around(x, eps *graph.Node) ball {
	b := ball{t: t, x: x, eps: eps}
	if t.Norm == Linf {
		b.lo, b.hi = t.clip(x.Sub(eps)), t.clip(x.Add(eps))
	}
	return b
}

func (t ThreatModel) clip(x *graph.Node) *graph.Node {
	if t.Domain == Unit {
		return x.ClampC(0, 1)
	}
	return x
}

// project moves v to the ball and into the domain. In L∞ and ℓ₁ that is the
// nearest allowed point; in ℓ₂ it is the usual scaling followed by clipping, which
// cannot leave the ball again, as x is in the domain.
func (b ball) project(v *graph.Node) *graph.Node {
	if b.t.Norm == Linf {
		return v.Clamp(b.lo, b.hi)
	}
	if b.t.Norm == L1 {
		return b.projectL1(v)
	}
	delta := v.Sub(b.x)
	size := length(delta, b.t.Norm.axes()...)
	shrink := graph.Select(size.Gt(b.eps), b.eps.Div(size), size.C(1))
	return b.t.clip(b.x.Add(delta.Mul(shrink)))
}

// start draws a point of the ball, uniformly and without regard to the domain:
// in L∞ every element from U[−ε,ε); in ℓ₂ a direction from the normal law and the
// radius ε·u^(1/d), d being the ball's dimension and u from U[0,1); in ℓ₁ from
// Laplace's law, divided by its norm and one more exponential draw (Barthe et
// al., Annals of Probability, 2005).
func (b ball) start(draw graph.Draw) *graph.Node {
	n, c, h, w := b.x.Dim(0), b.x.Dim(1), b.x.Dim(2), b.x.Dim(3)
	if b.t.Norm == Linf {
		u := draw.Uniform("attack.start", c, h, w)
		return b.x.Add(u.MulC(2).SubC(1).Mul(b.eps))
	}
	if b.t.Norm == L1 {
		exponential := func(site string, size ...int) *graph.Node {
			return draw.Uniform(site, size...).Neg().Log1p().Neg()
		}
		e := exponential("attack.start", c, h, w)
		length := e.SumKeep(1, 2, 3).Add(exponential("attack.radius", 1, 1, 1))
		sign := corner(draw, "attack.sign", c, h, w)
		return b.x.Add(e.Mul(sign).Div(positive(length)).Mul(b.eps))
	}
	balls, d := []int{n, 1, 1, 1}, c*h*w
	if b.t.Norm == PatchL2 {
		balls, d = []int{n, 1, h, w}, c
	}
	u := draw.Uniform("attack.radius", balls[1:]...)
	radius := u.PowC(1 / float64(d)).Mul(b.eps)
	direction := unit(draw.Normal("attack.start", c, h, w), b.t.Norm.axes())
	return b.x.Add(direction.Mul(radius))
}

// corner draws −1 or 1.
func corner(draw graph.Draw, site string, size ...int) *graph.Node {
	w := draw.Words(site, size...)
	return w.Shr(w.C(31)).Convert(graph.F32).MulC(2).SubC(1)
}

// steepest is the direction of steepest ascent of a gradient in the norm: the
// sign in L∞; in ℓ₁ the signs of the largest elements, of which equals share;
// else the unit vector of each ball. 0 stays 0.
func (t ThreatModel) steepest(grad *graph.Node) *graph.Node {
	if t.Norm == Linf {
		return grad.Sign()
	}
	if t.Norm == L1 {
		return sparse(grad, grad.Abs().ReduceMaxKeep(1, 2, 3))
	}
	return unit(grad, t.Norm.axes())
}

// length is the ℓ₂ norm along axes, which stay with extent 1. It is computed
// relative to the largest element, so that no square of a float32 underflows.
func length(v *graph.Node, axes ...int) *graph.Node {
	top := largest(v, axes)
	return v.Div(top).Square().SumKeep(axes...).Sqrt().Mul(top)
}

// unit is v/‖v‖₂ along axes, and 0 where v is.
func unit(v *graph.Node, axes []int) *graph.Node {
	scaled := v.Div(largest(v, axes))
	n := scaled.Square().SumKeep(axes...).Sqrt()
	return scaled.Div(positive(n))
}

// largest is the largest magnitude along axes, 1 where that is 0.
func largest(v *graph.Node, axes []int) *graph.Node {
	return positive(v.Abs().ReduceMaxKeep(axes...))
}

func positive(n *graph.Node) *graph.Node { return graph.Select(n.Gt(n.C(0)), n, n.C(1)) }

// finite is whether a float is neither infinite nor NaN.
func finite(n *graph.Node) *graph.Node { return n.Abs().Le(n.C(math.MaxFloat32)) }
