package nn

import (
	"math"

	"temper/engine/graph"
)

// LawKind is a family of distributions.
type LawKind uint8

// The families.
const (
	ConstantLaw LawKind = iota // all elements equal Scale
	UniformLaw                 // U(−Scale, Scale)
	NormalLaw                  // N(0, Scale²)
)

// Law is what the elements of a tensor start from, independently.
type Law struct {
	Kind  LawKind
	Scale float64
}

// Init gives a parameter's law, given its shape: (out,in,kh,kw) or (out,in).
// All of PyTorch's names mean here what they mean there.
type Init func(shape graph.Shape) Law

// Fan says which side of a weight the Kaiming initialisers preserve.
type Fan uint8

// The two sides: in keeps the variance of activations, out that of gradients.
const (
	FanIn Fan = iota
	FanOut
)

// Constant is the same value for all elements.
func Constant(v float64) Init { return fixed(ConstantLaw, v) }

// Uniform is U(−bound, bound).
func Uniform(bound float64) Init { return fixed(UniformLaw, bound) }

// Normal is N(0, std²).
func Normal(std float64) Init { return fixed(NormalLaw, std) }

func fixed(k LawKind, scale float64) Init { return func(graph.Shape) Law { return Law{k, scale} } }

// KaimingUniform is PyTorch's kaiming_uniform_ with mode fan_in and
// nonlinearity leaky_relu of slope a (He et al., ICCV 2015).
func KaimingUniform(a float64) Init {
	return func(s graph.Shape) Law {
		in, _ := fans(s)
		return Law{UniformLaw, math.Sqrt(2/(1+a*a)) * math.Sqrt(3/in)}
	}
}

// KaimingNormal is PyTorch's kaiming_normal_ for ReLU (He et al., ICCV 2015).
func KaimingNormal(side Fan) Init {
	return func(s graph.Shape) Law {
		fan, out := fans(s)
		if side == FanOut {
			fan = out
		}
		return Law{NormalLaw, math.Sqrt(2 / fan)}
	}
}

// XavierUniform is PyTorch's xavier_uniform_ with gain 1 (Glorot and Bengio,
// AISTATS 2010).
func XavierUniform(s graph.Shape) Law {
	in, out := fans(s)
	return Law{UniformLaw, math.Sqrt(6 / (in + out))}
}

// XavierNormal is PyTorch's xavier_normal_ with gain 1.
func XavierNormal(s graph.Shape) Law {
	in, out := fans(s)
	return Law{NormalLaw, math.Sqrt(2 / (in + out))}
}

// DefaultWeight is how PyTorch's Conv2d and Linear start: kaiming_uniform_ of
// slope √5, which is U(−1/√fan_in, 1/√fan_in).
func DefaultWeight(s graph.Shape) Law { return KaimingUniform(math.Sqrt(5))(s) }

// DefaultBias is how their bias starts, given the weight's shape.
func DefaultBias(weight ...int) Init {
	in, _ := fans(weight)
	return Uniform(1 / math.Sqrt(in))
}

// fans are the numbers of connections into and out of a unit.
func fans(s graph.Shape) (in, out float64) {
	field := s[2:].Size() // 1 for a linear layer
	return float64(s[1] * field), float64(s[0] * field)
}

// draw builds a tensor of the law. Site names its random numbers; they depend
// on the u32 scalar seed, the site and the element only.
func (l Law) draw(seed *graph.Node, site string, t graph.DType, shape graph.Shape) *graph.Node {
	g := seed.Graph()
	if l.Kind == ConstantLaw {
		return g.Const(t, []float64{l.Scale}, shape...)
	}
	zero := seed.C(0)
	d := graph.Draw{Seed: seed, IDs: zero.Reshape(1), Step: zero, Iter: zero}
	if l.Kind == NormalLaw {
		return d.Normal(site, shape...).Reshape(shape...).MulC(l.Scale)
	}
	// 2u−1 is exact, so the product is the only rounding on every back end.
	return d.Uniform(site, shape...).Reshape(shape...).MulC(2).SubC(1).MulC(l.Scale)
}

// Init builds the values that training starts from, given the u32 scalar seed.
// A parameter's values depend on the seed and its name alone.
func (m *Model) Init(seed *graph.Node) (params, buffers Tree) {
	draw := func(s Spec) *graph.Node { return s.Law.draw(seed, s.Name, s.DType, s.Shape) }
	return m.tree(false, draw), m.tree(true, draw)
}

// InitGraph is the program that sets the model's state to its initial values.
// It has one scalar, "seed" (u32).
func (m *Model) InitGraph() *graph.Graph {
	g := graph.New("init " + m.Name)
	params, buffers := m.Declare(g, "")
	p, b := m.Init(g.Scalar("seed", graph.U32))
	Assign(params, p)
	Assign(buffers, b)
	return g
}
