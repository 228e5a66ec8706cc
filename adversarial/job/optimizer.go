package job

import (
	"fmt"
	"slices"
	"strings"

	"temper/adversarial/run"
	"temper/nn"
)

// defaultOptimizer is what an optimiser's name stands for: PyTorch's defaults, but
// for the learning rate of sgd, which must be given there as well.
func defaultOptimizer(name string) Optimizer {
	o := Optimizer{Name: name, LR: 0.1, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
	if o.isAdam() {
		o.LR = 1e-3
	}
	if name == "adamw" {
		o.WeightDecay = 0.01
	}
	return o
}

// named goes over to an optimiser of another name, whose settings start afresh.
// Which parameters decay is no optimiser's own setting, and stays.
func (o *Optimizer) named(name string) {
	if name != "" && name != o.Name {
		skip := o.SkipVectors
		*o = defaultOptimizer(name)
		o.SkipVectors = skip
	}
}

func (o Optimizer) isAdam() bool { return o.Name == "adam" || o.Name == "adamw" }

func (o Optimizer) decoupled() bool { return o.Name == "sgdw" || o.Name == "adamw" }

// build makes the optimiser, of which a schedule may move the momentum, or says why
// there is none.
func (o Optimizer) build(cycled bool) (nn.Optimizer, error) {
	known := nn.OptimizerNames()
	decay, def := nn.Decay{Decoupled: o.decoupled(), SkipVectors: o.SkipVectors}, defaultOptimizer(o.Name)
	switch {
	case !slices.Contains(known, o.Name):
		return nil, fmt.Errorf("unknown optimizer %q: want one of %s%s", o.Name, strings.Join(known, ", "), run.DidYouMean(o.Name, known))
	case !(o.WeightDecay >= 0):
		return nil, fmt.Errorf("optimizer.weight_decay is %v: want at least 0", o.WeightDecay)
	case !(o.Momentum >= 0 && o.Momentum < 1):
		return nil, fmt.Errorf("optimizer.momentum is %v: want at least 0 and less than 1", o.Momentum)
	case o.isAdam() && (o.Momentum != 0 || o.Nesterov):
		return nil, fmt.Errorf("optimizer.momentum and nesterov belong to sgd and sgdw: leave them out, %s has beta1", o.Name)
	case o.Nesterov && o.Momentum == 0 && !cycled:
		return nil, fmt.Errorf("optimizer.nesterov without momentum is plain %s: set optimizer.momentum, 0.9 for example", o.Name)
	case !(o.Beta1 >= 0 && o.Beta1 < 1 && o.Beta2 >= 0 && o.Beta2 < 1 && o.Eps > 0):
		return nil, fmt.Errorf("optimizer.beta1, beta2 and eps are %v, %v and %v: want betas in [0,1) and a positive eps", o.Beta1, o.Beta2, o.Eps)
	case o.isAdam():
		return nn.Adam{Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, Cycled: cycled, Decay: decay}, nil
	case o.Beta1 != def.Beta1 || o.Beta2 != def.Beta2 || o.Eps != def.Eps:
		return nil, fmt.Errorf("optimizer.beta1, beta2 and eps belong to adam and adamw: leave them out, %s has momentum", o.Name)
	}
	return nn.SGD{Momentum: o.Momentum, Nesterov: o.Nesterov, Cycled: cycled, Decay: decay}, nil
}

// describe is the optimiser in a line.
func (o Optimizer) describe(schedule Schedule) string {
	text, momentum := fmt.Sprintf("%s, lr %v %s, ", o.Name, o.LR, schedule.Name), fmt.Sprint(o.Momentum)
	if o.isAdam() {
		momentum = fmt.Sprint(o.Beta1)
	}
	if schedule.CycleMomentum { // where it starts, and what it is at the peak of the rate
		momentum = fmt.Sprintf("%v to %v and back", schedule.MaxMomentum, schedule.BaseMomentum)
	}
	switch {
	case o.isAdam():
		text += fmt.Sprintf("betas %s %v, eps %v", momentum, o.Beta2, o.Eps)
	case o.Nesterov:
		text += "nesterov momentum " + momentum
	default:
		text += "momentum " + momentum
	}
	text += fmt.Sprintf(", weight_decay %v", o.WeightDecay)
	if o.WeightDecay > 0 && o.decoupled() {
		text += " decoupled"
	}
	if o.WeightDecay > 0 && o.SkipVectors {
		text += " but of vectors"
	}
	return text
}
