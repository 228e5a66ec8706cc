package features

import "math"

// What the model of docs/paper.md predicts, from the settings alone. These are
// our derivations, not the paper's theorems.

// plateau is w_v*: where one ascent step of size s, ε ≥ β allowing it, takes the
// whole of β·v away, so that adversarial training no longer moves ⟨w, v⟩. It
// solves s·σ′(βw)·w = β: in the curved part of σ w^q = ρ^{q−1}/(s·β^{q−2}), and
// w = β/s where that lies beyond ρ.
func (s Settings) plateau() float64 {
	step := s.attack().Alpha(s.threat()).Float64()
	w := math.Pow(math.Pow(s.Rho, s.Q-1)/(step*math.Pow(s.Beta, s.Q-2)), 1/s.Q)
	if s.Beta*w > s.Rho {
		return s.Beta / step
	}
	return w
}

// plateauApplies is whether the attack is the one that plateau is derived for.
func (s Settings) plateauApplies() bool {
	return s.Attack == "ascent" && s.AttackSteps <= 1 && s.Norm == "patch-l2" && s.AttackLoss == "lse-margin"
}

// rate is r in dw/dt = r·w^{q−1}, the growth of an aligned filter under
// standard training from small weights, of a feature that stands with
// coefficient c on so many patches:
//
//	r = lr · 1/k · (1−1/k) · patches · E[c^q] / ρ^{q−1}
//
// 1/k of the examples are of the class, and 1−1/k is 1−p_y at the start.
func (s Settings) rate(patches int, c float64) float64 {
	k := float64(s.K)
	return s.LR * (1 - 1/k) / k * float64(patches) * math.Pow(c, s.Q) * jitterMoment(s.Jitter, s.Q) / math.Pow(s.Rho, s.Q-1)
}

// jitterMoment is E[a^q] for a ~ U[1−j, 1+j].
func jitterMoment(j, q float64) float64 {
	if j == 0 {
		return 1
	}
	return (math.Pow(1+j, q+1) - math.Pow(1-j, q+1)) / (2 * j * (q + 1))
}

// growth is the rate that two readings, some steps apart, show for a feature:
// dw/dt = r·w^{q−1} integrated, for the best aligned filter of each class, and
// averaged over the classes whose filter points the feature's way.
func (s Settings) growth(from, to Reading, feature string) float64 {
	steps := float64(to.Step - from.Step)
	var rates []float64
	for i, a := range from.Classes[feature+"_max"] {
		b := to.Classes[feature+"_max"][i]
		if a <= 0 || b <= 0 {
			continue
		}
		if s.Q == 2 {
			rates = append(rates, math.Log(b/a)/steps)
			continue
		}
		rates = append(rates, (math.Pow(a, 2-s.Q)-math.Pow(b, 2-s.Q))/(s.Q-2)/steps)
	}
	return mean(rates)
}

// Prediction is a number that the theory gives, beside what was measured.
type Prediction struct {
	Name      string   `json:"name"`
	Predicted float64  `json:"predicted"`
	Measured  Estimate `json:"measured"`
	Note      string   `json:"note"`
}

// predictions compares theory and trials.
func (r *Result) predictions() []Prediction {
	s := r.Settings
	list := []Prediction{
		{"growth rate of v, standard, first step", s.rate(s.N, s.Beta), r.over(anywhere, func(p pair) float64 {
			return s.growth(p.standard.Readings[0], p.standard.Readings[1], "v")
		}), "dw/dt = r·w^(q−1), r = lr·(1/k)(1−1/k)·N·E[β^q]/ρ^(q−1)"},
		{"growth rate of u, standard, first step", s.rate(s.R, s.Alpha), r.over(anywhere, func(p pair) float64 {
			return s.growth(p.standard.Readings[0], p.standard.Readings[1], "u")
		}), "the same with R and α"},
	}
	if !s.plateauApplies() {
		return list
	}
	note := "w_v*: one ascent step of size s cancels β"
	if s.Eps.Float64() < s.Beta {
		note = "w_v* needs ε ≥ β, which is not so here: v is expected to pass it"
	}
	list = append(list, Prediction{"plateau of v, adversarial", s.plateau(),
		r.Final(Adversarial, "v"), note})
	if s.Eps.Float64() >= s.Beta && s.ratio() > 1 {
		list = append(list, Prediction{"accuracy under injection, adversarial", 0,
			r.Final(Adversarial, "robust_inject_u"),
			"with ε ≥ β and Nβ^q > Rα^q, ε·u_y' on all N patches outweighs u_y on R"})
	}
	return list
}
