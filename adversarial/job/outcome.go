package job

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Outcome is what an evaluation counted.
type Outcome struct {
	N      int `json:"n"`
	Clean  int `json:"clean"`  // right without an attack
	Robust int `json:"robust"` // right without and under the attack
	// LargestNorm is that of the largest perturbation, in the threat model's
	// norm.
	LargestNorm float64        `json:"largest_norm"`
	Classes     []ClassOutcome `json:"classes"`
	// Confusion counts the predictions: rows are labels, columns predictions.
	Confusion *Confusion `json:"confusion,omitempty"`
}

// Confusion is (classes, classes) counts without and under the attack; under
// several, an example counts where the first that fools the network puts it.
type Confusion struct {
	Clean    [][]int `json:"clean"`
	Attacked [][]int `json:"attacked"`
}

// confuse counts an example's predictions.
func (o *Outcome) confuse(label, clean, attacked int32) {
	if o.Confusion == nil {
		square := func() [][]int {
			m := make([][]int, len(o.Classes))
			for i := range m {
				m[i] = make([]int, len(o.Classes))
			}
			return m
		}
		o.Confusion = &Confusion{square(), square()}
	}
	o.Confusion.Clean[label][clean]++
	o.Confusion.Attacked[label][attacked]++
}

// ClassOutcome is the part of an Outcome that one class makes up.
type ClassOutcome struct {
	Class  string `json:"class"`
	N      int    `json:"n"`
	Clean  int    `json:"clean"`
	Robust int    `json:"robust"`
}

// Accuracy is a proportion with its 95 % interval of Clopper and Pearson
// (Biometrika, 1934).
type Accuracy struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// accuracy is k right of n.
func accuracy(k, n int) Accuracy {
	a := Accuracy{Value: float64(k) / float64(n), Low: 0, High: 1}
	const tail = 0.025
	if k > 0 {
		a.Low = mathext.InvRegIncBeta(float64(k), float64(n-k+1), tail)
	}
	if k < n {
		a.High = mathext.InvRegIncBeta(float64(k+1), float64(n-k), 1-tail)
	}
	return a
}

// clean and robust are the accuracies.
func (o *Outcome) clean() float64  { return float64(o.Clean) / float64(o.N) }
func (o *Outcome) robust() float64 { return float64(o.Robust) / float64(o.N) }

func (o *Outcome) add(label int32, clean, robust bool, norm float64) {
	c := &o.Classes[label]
	o.N++
	c.N++
	if clean {
		o.Clean++
		c.Clean++
	}
	if robust {
		o.Robust++
		c.Robust++
	}
	o.LargestNorm = math.Max(o.LargestNorm, norm)
}
