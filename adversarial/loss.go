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

// losses are those that an attack can name, of logits (N,k). One that drives
// away from the label y is made to drive towards a target by its negative
// there, unless it has a form for that.
var losses = map[string]struct {
	away   func(logits, y *graph.Node) *graph.Node
	toward func(logits, y, target *graph.Node) *graph.Node
}{
	"ce":         {away: nn.CrossEntropy},
	"cw":         {away: nn.CWMargin},
	"dlr":        {away: nn.DLR, toward: nn.TargetedDLR},
	"lse-margin": {away: nn.LSEMargin},
}

// LossNames lists the losses that an attack can name:
//
//	ce          cross-entropy
//	cw          margin of Carlini and Wagner (S&P 2017), without its clamp
//	dlr         difference of logits ratio (Croce and Hein, ICML 2020), in its
//	            targeted form for a targeted attack
//	lse-margin  log-sum-exp margin: cross-entropy's direction without its
//	            vanishing gradient
func LossNames() []string { return slices.Sorted(maps.Keys(losses)) }

func checkLoss(name string) error {
	if _, ok := losses[name]; !ok {
		return unknown("attack loss", name, LossNames())
	}
	return nil
}

// objective is what an attack drives up, per sample: its own loss, or the one
// it names. Towards targets an own loss is driven down.
func objective(name string, own Loss, out nn.Output, y, target *graph.Node) *graph.Node {
	away, toward := losses[name].away, losses[name].toward
	if own == nil {
		own = func(out nn.Output, y *graph.Node) *graph.Node { return away(out.Logits, y) }
	} else {
		toward = nil
	}
	switch {
	case target == nil:
		return own(out, y)
	case toward != nil:
		return toward(out.Logits, y, target)
	}
	return own(out, target).Neg()
}
