package adversarial

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"temper/engine/graph"
	"temper/nn"
)

// AveragePrefix stands before the names of the averaged weights and their
// running statistics among the states.
const AveragePrefix = "average/"

// Average says which average of the weights a run keeps beside those that it
// trains. Where there is one, it is what counts: it is what evaluations measure.
type Average struct {
	// Name is the average:
	//
	//	none
	//	ema  decay·average + (1−decay)·weights after every step
	//	swa  the mean of the weights at the ends of epochs (Izmailov et al., UAI
	//	     2018)
	Name  string  `toml:"name"`
	Decay float64 `toml:"decay"` // ema; default 0.999
	Start float64 `toml:"start"` // epochs before it begins; until then the average is the weights

	// BN is what becomes of batch norm's running statistics:
	//
	//	average    averaged as the weights are, PyTorch's AveragedModel with
	//	           use_buffers; the default of ema
	//	recompute  measured before every evaluation, in one pass of the averaged
	//	           network over the training examples, clean and unaugmented:
	//	           PyTorch's update_bn; the default of swa
	BN string `toml:"bn"`
}

const (
	bnAverage   = "average"
	bnRecompute = "recompute"
)

// averages are the known names, each with what becomes of batch norm.
var averages = map[string]string{"none": "", "ema": bnAverage, "swa": bnRecompute}

// On reports whether there is an average.
func (a Average) On() bool { return a.Name != "" && a.Name != "none" }

// Recomputes reports whether running statistics are recomputed.
func (a Average) Recomputes() bool { return a.resolve().BN == bnRecompute }

func (a Average) resolve() Average {
	a.Name = cmp.Or(a.Name, "none")
	a.BN = cmp.Or(a.BN, averages[a.Name])
	if a.Name == "ema" {
		a.Decay = cmp.Or(a.Decay, 0.999)
	}
	return a
}

func (a Average) validate() error {
	known := []string{"none", "ema", "swa"}
	switch {
	case a.Name != "" && !slices.Contains(known, a.Name):
		return unknown("average", a.Name, known)
	case !a.On() && (a.Decay != 0 || a.Start != 0 || a.BN != ""):
		return fmt.Errorf("average: decay, start and bn belong to ema and swa: set average.name to one of them")
	case a.Name == "swa" && a.Decay != 0:
		return fmt.Errorf("average: swa weighs all epochs alike: decay belongs to ema")
	case a.Decay < 0 || a.Decay >= 1:
		return fmt.Errorf("average: decay %v: want at least 0 and less than 1", a.Decay)
	case a.Start < 0:
		return fmt.Errorf("average: start %v: want a number of epochs, at least 0", a.Start)
	case a.BN != "" && a.BN != bnAverage && a.BN != bnRecompute:
		return unknown("average.bn", a.BN, []string{bnAverage, bnRecompute})
	}
	return nil
}

// Weight is what the weights that a step leaves weigh in the average, the scalar
// "average": 1 makes them the average, 0 leaves it alone. p stands before the
// step.
func (a Average) Weight(p nn.Progress) float64 {
	a = a.resolve()
	done := p.Step + 1
	switch a.Name {
	case "ema":
		if float64(p.Step) <= a.Start*float64(p.PerEpoch) {
			return 1
		}
		return 1 - a.Decay
	case "swa":
		first := max(int(math.Ceil(a.Start)), 1) // the epoch whose end is the first to count
		switch epoch := done / p.PerEpoch; {
		case done <= first*p.PerEpoch:
			return 1
		case done%p.PerEpoch == 0:
			return 1 / float64(epoch-first+1)
		}
	}
	return 0
}

// Describe is the average in a line.
func (a Average) Describe() string {
	switch a = a.resolve(); a.Name {
	case "ema":
		return fmt.Sprintf("ema, decay %v, start %v, bn %s", a.Decay, a.Start, a.BN)
	case "swa":
		return fmt.Sprintf("swa, start %v, bn %s", a.Start, a.BN)
	}
	return a.Name
}

// average assigns the averaged states.
func (s *step) average(end outcome) {
	weight := s.weight
	params, buffers := s.model.At(AveragePrefix).Declare(s.x.Graph(), "")
	nn.Assign(params, nn.Average(params, end.params, weight))
	if s.training.Average.BN == bnAverage {
		nn.Assign(buffers, nn.Average(buffers, end.buffers, weight))
	}
}

// StatisticsGraph builds one batch of a pass that measures a network's running
// statistics anew, as the mean of what the batches have, each batch alike.
//
//	inputs   x, y, ids: those of StepGraph
//	scalars  weight (f32): 1/k for the k-th batch, from 1 on
//	states   the model's: the parameters are read, the buffers assigned
func StatisticsGraph(m *nn.Model, batch int, input graph.DType) (*graph.Graph, error) {
	g := graph.New(m.Name + " statistics")
	in, err := declare(g, m, ThreatModel{}, batch, input)
	if err != nil {
		return nil, err
	}
	weight := g.Scalar("weight", graph.F32)
	before := in.buffers.Map(func(_ int, l nn.Leaf) *graph.Node {
		if l.Node.DType().Float() {
			return l.Node
		}
		return graph.Select(weight.Eq(weight.C(1)), l.Node.C(0), l.Node) // counters count from the first batch
	})
	own := m.Statistics(in.params, before, decode(in.x))
	nn.Assign(in.buffers, nn.Average(in.buffers, own, weight))
	return g, g.Err()
}
