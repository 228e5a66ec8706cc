package nn

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"temper/engine/graph"
)

// Rates are the optimiser's scalars of one step, of type f32 and usually of the
// step block.
type Rates struct {
	LR       *graph.Node
	Decay    *graph.Node // weight decay; nil is none
	Momentum *graph.Node // of an optimiser that is Cycled: others do not look at it
}

// factor is μ or β of an optimiser: a constant, or a scalar of the step.
type factor struct {
	constant float64
	scalar   *graph.Node // nil: the constant
}

func newFactor(constant float64, cycled bool, r Rates) factor {
	if cycled {
		return factor{scalar: r.Momentum}
	}
	return factor{constant: constant}
}

// times is β·x.
func (f factor) times(x *graph.Node) *graph.Node {
	if f.scalar != nil {
		return x.Mul(f.scalar)
	}
	return x.MulC(f.constant)
}

// mix is β·old + (1−β)·value.
func (f factor) mix(old, value *graph.Node) *graph.Node {
	if f.scalar != nil {
		return f.times(old).Add(value.Mul(f.scalar.Neg().AddC(1)))
	}
	return f.times(old).Add(value.MulC(1 - f.constant))
}

// bias is 1−βᵗ, by expm1: in float32, 1 − 0.999 alone would lose five digits.
func (f factor) bias(t *graph.Node) *graph.Node {
	if f.scalar != nil {
		return t.Mul(f.scalar.Log()).Expm1().Neg()
	}
	return t.MulC(math.Log(f.constant)).Expm1().Neg()
}

// Optimizer is a rule that improves parameters by gradients. It is a pure
// function of them and of its slots (momentum and the like), so that a step
// may apply it several times, or inside a loop.
type Optimizer interface {
	// Declare declares the slots for parameters as states of g, named prefix +
	// parameter + "/" + PyTorch's name of the slot. All of them start at zero.
	Declare(g *graph.Graph, prefix string, params Tree) (slots Tree)

	// Step gives the parameters and slots after one step. The gradients are in
	// the order of the parameters.
	Step(params, grads, slots Tree, r Rates) (newParams, newSlots Tree)
}

// Decay says how weight decay acts.
type Decay struct {
	// Decoupled shrinks the weights by lr·decay (Loshchilov and Hutter, ICLR
	// 2019) instead of adding decay·w to the gradient.
	Decoupled bool
	// SkipVectors spares parameters of one axis: biases and batch norm.
	// PyTorch's optimisers decay all parameters that they are given.
	SkipVectors bool
}

// apply gives the parameter and the gradient that the rule proper sees.
func (d Decay) apply(w, grad *graph.Node, r Rates) (*graph.Node, *graph.Node) {
	switch {
	case r.Decay == nil, d.SkipVectors && w.Rank() < 2:
		return w, grad
	case d.Decoupled:
		return w.Sub(w.Mul(r.LR.Mul(r.Decay))), grad
	}
	return w, grad.Add(w.Mul(r.Decay))
}

// OptimizerConfig sets an optimiser by name: sgd or adam, with weight decay as a
// part of the gradient, or sgdw or adamw, with decoupled weight decay. A zero
// setting means PyTorch's default; giving one that the optimiser does not have is
// an error.
type OptimizerConfig struct {
	Name        string
	SkipVectors bool // no weight decay for biases and batch norm

	Momentum float64 `setting:"momentum"` // sgd, sgdw
	Nesterov bool    `setting:"nesterov"` // sgd, sgdw
	Cycled   bool    `setting:"cycled"`   // Rates.Momentum instead of momentum or beta1
	Beta1    float64 `setting:"beta1"`    // adam, adamw; 0 is 0.9
	Beta2    float64 `setting:"beta2"`    // adam, adamw; 0 is 0.999
	Eps      float64 `setting:"eps"`      // adam, adamw; 0 is 1e-8
}

var optimizers = map[string]choice[OptimizerConfig, Optimizer]{
	"sgd":   {[]string{"momentum", "nesterov", "cycled"}, newSGD},
	"sgdw":  {[]string{"momentum", "nesterov", "cycled"}, newSGD},
	"adam":  {[]string{"beta1", "beta2", "eps", "cycled"}, newAdam},
	"adamw": {[]string{"beta1", "beta2", "eps", "cycled"}, newAdam},
}

// OptimizerNames lists the optimisers in alphabetical order.
func OptimizerNames() []string { return slices.Sorted(maps.Keys(optimizers)) }

// Optimizer makes the optimiser that c names.
func (c OptimizerConfig) Optimizer() (Optimizer, error) {
	return choose("optimiser", c.Name, optimizers, c)
}

func newSGD(c OptimizerConfig) (Optimizer, error) {
	if !(c.Momentum >= 0 && c.Momentum < 1) || c.Nesterov && c.Momentum == 0 && !c.Cycled {
		return nil, fmt.Errorf("momentum %v, nesterov %v: want momentum from 0 to below 1, and not 0 for nesterov", c.Momentum, c.Nesterov)
	}
	return SGD{c.Momentum, c.Nesterov, c.Cycled, Decay{Decoupled: c.Name == "sgdw", SkipVectors: c.SkipVectors}}, nil
}

func newAdam(c OptimizerConfig) (Optimizer, error) {
	beta1, beta2, eps := orDefault(c.Beta1, 0.9), orDefault(c.Beta2, 0.999), orDefault(c.Eps, 1e-8)
	if !(beta1 > 0 && beta1 < 1 && beta2 > 0 && beta2 < 1 && eps > 0) {
		return nil, fmt.Errorf("beta1 %v, beta2 %v, eps %v: want betas between 0 and 1 and a positive eps", beta1, beta2, eps)
	}
	return Adam{beta1, beta2, eps, c.Cycled, Decay{Decoupled: c.Name == "adamw", SkipVectors: c.SkipVectors}}, nil
}

// SGD is PyTorch's SGD with dampening 0; with Decay.Decoupled it is SGDW
// (Loshchilov and Hutter, ICLR 2019), which decays as PyTorch's AdamW does.
type SGD struct {
	Momentum float64 // 0: no slots, unless Cycled
	Nesterov bool
	Cycled   bool // the momentum of a step is Rates.Momentum
	Decay    Decay
}

// Declare declares a momentum_buffer for each parameter.
func (o SGD) Declare(g *graph.Graph, prefix string, params Tree) Tree {
	if o.Momentum == 0 && !o.Cycled {
		return nil
	}
	return declareSlots(g, prefix, params, "momentum_buffer")
}

// Step is v ← μv + g, w ← w − lr·v (Nesterov: − lr·(g + μv)).
func (o SGD) Step(params, grads, slots Tree, r Rates) (Tree, Tree) {
	newSlots := slices.Clone(slots)
	mu := newFactor(o.Momentum, o.Cycled, r)
	newParams := params.Map(func(i int, l Leaf) *graph.Node {
		w, g := o.Decay.apply(l.Node, grads[i].Node, r)
		if len(slots) > 0 {
			v := mu.times(slots[i].Node).Add(g)
			newSlots[i].Node = v
			if o.Nesterov {
				v = g.Add(mu.times(v))
			}
			g = v
		}
		return w.Sub(g.Mul(r.LR))
	})
	return newParams, newSlots
}

// Adam is PyTorch's Adam (Kingma and Ba, ICLR 2015); with Decay.Decoupled it
// is AdamW.
type Adam struct {
	Beta1, Beta2, Eps float64
	Cycled            bool // the β₁ of a step is Rates.Momentum
	Decay             Decay
}

// Declare declares step (i32, one for all parameters), then exp_avg and
// exp_avg_sq for each parameter.
func (o Adam) Declare(g *graph.Graph, prefix string, params Tree) Tree {
	slots := Tree{{"step", g.State(prefix+"step", graph.I32)}}
	return append(slots, declareSlots(g, prefix, params, "exp_avg", "exp_avg_sq")...)
}

// Step is m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g²,
// w ← w − lr·m/(1−β₁ᵗ) / (√v/√(1−β₂ᵗ) + ε).
func (o Adam) Step(params, grads, slots Tree, r Rates) (Tree, Tree) {
	newSlots := slices.Clone(slots)
	step := slots[0].Node.AddC(1)
	newSlots[0].Node = step
	t := step.Convert(r.LR.DType())
	beta1, beta2 := newFactor(o.Beta1, o.Cycled, r), factor{constant: o.Beta2}
	rate, root := r.LR.Div(beta1.bias(t)), beta2.bias(t).Sqrt()
	newParams := params.Map(func(i int, l Leaf) *graph.Node {
		w, g := o.Decay.apply(l.Node, grads[i].Node, r)
		m := beta1.mix(slots[1+2*i].Node, g)
		v := beta2.mix(slots[2+2*i].Node, g.Square())
		newSlots[1+2*i].Node, newSlots[2+2*i].Node = m, v
		return w.Sub(m.Mul(rate).Div(v.Sqrt().Div(root).AddC(o.Eps)))
	})
	return newParams, newSlots
}

// declareSlots declares the named slots, parameter by parameter.
func declareSlots(g *graph.Graph, prefix string, params Tree, names ...string) Tree {
	var slots Tree
	for _, p := range params {
		for _, n := range names {
			name := p.Name + "/" + n
			slots = append(slots, Leaf{name, g.State(prefix+name, p.Node.DType(), p.Node.Shape()...)})
		}
	}
	return slots
}

// ClipGradNorm scales the gradients down to a global ℓ₂ norm of at most limit
// (an f32 scalar), as PyTorch's clip_grad_norm_; norm is the norm before.
func ClipGradNorm(grads Tree, limit *graph.Node) (clipped Tree, norm *graph.Node) {
	sum := limit.C(0)
	for _, l := range grads {
		sum = sum.Add(l.Node.Square().Sum())
	}
	norm = sum.Sqrt()
	factor := limit.Div(norm.AddC(1e-6)).MinC(1)
	return grads.Map(func(_ int, l Leaf) *graph.Node { return l.Node.Mul(factor) }), norm
}
