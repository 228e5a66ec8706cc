package adversarial

import (
	"maps"
	"slices"

	"temper/engine/graph"
	"temper/nn"
)

// Loss is what an attack drives up: one value per sample (N), of a network's
// output and labels y (N) of type i32.
type Loss func(out nn.Output, y *graph.Node) *graph.Node

func ofLogits(f func(logits, y *graph.Node) *graph.Node) Loss {
	return func(out nn.Output, y *graph.Node) *graph.Node { return f(out.Logits, y) }
}

var losses = map[string]Loss{
	"ce":         ofLogits(nn.CrossEntropy),
	"cw":         ofLogits(nn.CWMargin),
	"dlr":        ofLogits(nn.DLR),
	"lse-margin": ofLogits(nn.LSEMargin),
}

// LossNames lists the losses that an attack can name.
func LossNames() []string { return slices.Sorted(maps.Keys(losses)) }

// LookupLoss is the loss of that name.
func LookupLoss(name string) (Loss, error) {
	if l, ok := losses[name]; ok {
		return l, nil
	}
	return nil, unknown("attack loss", name, LossNames())
}
