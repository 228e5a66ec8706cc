package nn

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Progress says where a training run stands before a step.
type Progress struct {
	Step     int // steps done since the start of the run
	PerEpoch int // steps an epoch
	Epochs   int // length of the run
}

// Epoch is the position in epochs.
func (p Progress) Epoch() float64 { return float64(p.Step) / float64(p.PerEpoch) }

// Schedule gives the learning rate of a step. It is a pure function, so that a
// resumed run goes on exactly.
type Schedule func(Progress) float64

// ScheduleConfig sets a schedule by name. A schedule has the settings that say
// so, and LR; giving it another one is an error. Times are in epochs, and the
// rate moves with every step unless a setting is a whole number of epochs.
type ScheduleConfig struct {
	Name string
	LR   float64 // the rate; where it varies, its peak

	Min        float64   `setting:"min"`        // cosine, cyclic: the lowest rate
	Gamma      float64   `setting:"gamma"`      // step, multistep: the factor at each milestone
	Every      int       `setting:"every"`      // step: epochs between milestones
	Milestones []int     `setting:"milestones"` // multistep: epochs, ascending
	Up         float64   `setting:"up"`         // cyclic: length of the rising flank; 0 is half of the run
	Down       float64   `setting:"down"`       // cyclic: length of the falling flank; 0 is Up
	Warm       float64   `setting:"warm"`       // one-cycle: fraction of the run before the peak; 0 is 0.3
	Div        float64   `setting:"div"`        // one-cycle: it starts at LR/Div; 0 is 25
	FinalDiv   float64   `setting:"final-div"`  // one-cycle: and ends at LR/Div/FinalDiv; 0 is 10⁴
	Linear     bool      `setting:"linear"`     // one-cycle: straight flanks instead of cosines
	Knots      []float64 `setting:"knots"`      // piecewise: epochs, ascending
	Factors    []float64 `setting:"factors"`    // piecewise: rate/LR at each knot

	// CycleMomentum, of cyclic and one-cycle, also moves the momentum; see
	// [ScheduleConfig.Momentum].
	CycleMomentum bool    `setting:"cycle-momentum"`
	BaseMomentum  float64 `setting:"base-momentum"` // at the peak of the rate; 0 is 0.8 (one-cycle: 0.85)
	MaxMomentum   float64 `setting:"max-momentum"`  // where the rate is lowest; 0 is 0.9 (one-cycle: 0.95)
}

var schedules = map[string]choice[ScheduleConfig, Schedule]{
	"constant":  {nil, constant},
	"step":      {[]string{"gamma", "every"}, stepwise},
	"multistep": {[]string{"gamma", "milestones"}, multistep},
	"cosine":    {[]string{"min"}, cosine},
	"cyclic":    {[]string{"min", "up", "down", "cycle-momentum", "base-momentum", "max-momentum"}, cyclic},
	"one-cycle": {[]string{"warm", "div", "final-div", "linear", "cycle-momentum", "base-momentum", "max-momentum"}, oneCycle},
	"piecewise": {[]string{"knots", "factors"}, piecewise},
}

// ScheduleNames lists the schedules in alphabetical order.
func ScheduleNames() []string { return slices.Sorted(maps.Keys(schedules)) }

// Complete gives c's zero settings the defaults of its schedule, for a run of so
// many epochs.
func (c ScheduleConfig) Complete(epochs int) ScheduleConfig {
	switch c.Name {
	case "cyclic":
		if c.Up == 0 && c.Down == 0 {
			c.Up = float64(epochs) / 2
		}
		c.Down = orDefault(c.Down, c.Up)
	case "one-cycle":
		c.Warm, c.Div, c.FinalDiv = orDefault(c.Warm, 0.3), orDefault(c.Div, 25), orDefault(c.FinalDiv, 1e4)
	}
	if c.CycleMomentum {
		c.BaseMomentum, c.MaxMomentum = c.Momenta()
	}
	return c
}

// Schedule makes the schedule that c names.
func (c ScheduleConfig) Schedule() (Schedule, error) {
	if !(c.LR > 0) || math.IsInf(c.LR, 1) {
		return nil, fmt.Errorf("schedule %s: learning rate %v: want a positive number", c.Name, c.LR)
	}
	return choose("schedule", c.Name, schedules, c)
}

// Momentum makes the schedule of the momentum: PyTorch's cycle_momentum, which is
// off here unless asked for. It falls from MaxMomentum to BaseMomentum while the
// rate rises, and comes back as the rate falls. Without CycleMomentum it is nil. An
// optimiser takes it by its setting Cycled.
func (c ScheduleConfig) Momentum() (Schedule, error) {
	if _, err := c.Schedule(); err != nil || !c.CycleMomentum {
		return nil, err
	}
	c.BaseMomentum, c.MaxMomentum = c.Momenta()
	none := math.Inf(1) // from 0 to 0
	height, err := schedules[c.Name].define(ScheduleConfig{Name: c.Name, LR: 1, Up: c.Up, Down: c.Down, Warm: c.Warm, Div: none, FinalDiv: none, Linear: c.Linear})
	return func(p Progress) float64 { return c.MaxMomentum - (c.MaxMomentum-c.BaseMomentum)*height(p) }, err
}

// Momenta are BaseMomentum and MaxMomentum, PyTorch's defaults where they are 0.
func (c ScheduleConfig) Momenta() (base, top float64) {
	base, top = 0.8, 0.9
	if c.Name == "one-cycle" {
		base, top = 0.85, 0.95
	}
	return orDefault(c.BaseMomentum, base), orDefault(c.MaxMomentum, top)
}

// checkMomenta reports momenta that cannot be.
func (c ScheduleConfig) checkMomenta() error {
	if !c.CycleMomentum && (c.BaseMomentum != 0 || c.MaxMomentum != 0) {
		return fmt.Errorf("base_momentum %v, max_momentum %v: they are of cycle_momentum, which is off", c.BaseMomentum, c.MaxMomentum)
	}
	if base, top := c.Momenta(); !(base > 0 && base <= top && top < 1) {
		return fmt.Errorf("base_momentum %v, max_momentum %v: want them above 0 and below 1, the first at most the second", base, top)
	}
	return nil
}

func constant(c ScheduleConfig) (Schedule, error) {
	return func(Progress) float64 { return c.LR }, nil
}

// stepwise is PyTorch's StepLR, stepped once an epoch.
func stepwise(c ScheduleConfig) (Schedule, error) {
	if c.Every < 1 || !(c.Gamma > 0) {
		return nil, fmt.Errorf("every %d, gamma %v: want positive numbers", c.Every, c.Gamma)
	}
	return func(p Progress) float64 {
		return c.LR * math.Pow(c.Gamma, float64(p.Step/p.PerEpoch/c.Every))
	}, nil
}

// multistep is PyTorch's MultiStepLR, stepped once an epoch.
func multistep(c ScheduleConfig) (Schedule, error) {
	if len(c.Milestones) == 0 || !slices.IsSorted(c.Milestones) || !(c.Gamma > 0) {
		return nil, fmt.Errorf("milestones %v, gamma %v: want ascending epochs and a positive factor", c.Milestones, c.Gamma)
	}
	return func(p Progress) float64 {
		passed, _ := slices.BinarySearch(c.Milestones, p.Step/p.PerEpoch+1)
		return c.LR * math.Pow(c.Gamma, float64(passed))
	}, nil
}

// cosine is PyTorch's CosineAnnealingLR over the run (Loshchilov and Hutter,
// ICLR 2017, without restarts).
func cosine(c ScheduleConfig) (Schedule, error) {
	if c.Min < 0 || c.Min > c.LR {
		return nil, fmt.Errorf("min %v: want 0 to %v", c.Min, c.LR)
	}
	return func(p Progress) float64 { return cosineStep(c.LR, c.Min, p.Epoch()/float64(p.Epochs)) }, nil
}

// cyclic is PyTorch's CyclicLR in triangular mode (Smith, WACV 2017). With no
// flanks given it is the one triangle over the run of Wong et al. (ICLR 2020).
func cyclic(c ScheduleConfig) (Schedule, error) {
	if c.Min < 0 || c.Min > c.LR || c.Up < 0 || c.Down < 0 || c.Up == 0 && c.Down > 0 {
		return nil, fmt.Errorf("min %v, up %v, down %v: want min from 0 to %v, and up before down", c.Min, c.Up, c.Down, c.LR)
	}
	if err := c.checkMomenta(); err != nil {
		return nil, err
	}
	return func(p Progress) float64 {
		c := c.Complete(p.Epochs)
		t := math.Mod(p.Epoch(), c.Up+c.Down)
		return c.Min + (c.LR-c.Min)*min(t/c.Up, (c.Up+c.Down-t)/c.Down)
	}, nil
}

// oneCycle is PyTorch's OneCycleLR in two phases (Smith and Topin, 2018). Its
// peak is the step that ends the first phase, and the run's last step has the
// lowest rate.
func oneCycle(c ScheduleConfig) (Schedule, error) {
	c = c.Complete(0)
	if c.Warm < 0 || c.Warm >= 1 || c.Div < 1 || c.FinalDiv < 1 {
		return nil, fmt.Errorf("warm %v, div %v, final-div %v: want a fraction below 1, and divisors of at least 1", c.Warm, c.Div, c.FinalDiv)
	}
	if err := c.checkMomenta(); err != nil {
		return nil, err
	}
	anneal := cosineStep
	if c.Linear {
		anneal = func(from, to, t float64) float64 { return from + (to-from)*t }
	}
	return func(p Progress) float64 {
		total, step := float64(p.Epochs*p.PerEpoch), float64(p.Step)
		peak := max(c.Warm*total-1, 0)
		if step < peak {
			return anneal(c.LR/c.Div, c.LR, step/peak)
		}
		return anneal(c.LR, c.LR/c.Div/c.FinalDiv, min((step-peak)/max(total-1-peak, 1), 1))
	}, nil
}

// piecewise interpolates between knots. As in the reference code of Wong et
// al. (ICLR 2020) and Rice et al. (ICML 2020), a step takes the rate of its
// end, so that a ramp from 0 does not waste the first step.
func piecewise(c ScheduleConfig) (Schedule, error) {
	if len(c.Knots) == 0 || len(c.Knots) != len(c.Factors) || !slices.IsSorted(c.Knots) || slices.Min(c.Factors) < 0 {
		return nil, fmt.Errorf("knots %v, factors %v: want ascending epochs and as many factors", c.Knots, c.Factors)
	}
	return func(p Progress) float64 {
		t := float64(p.Step+1) / float64(p.PerEpoch)
		i, _ := slices.BinarySearch(c.Knots, t)
		switch i {
		case 0:
			return c.LR * c.Factors[0]
		case len(c.Knots):
			return c.LR * c.Factors[i-1]
		}
		part := (t - c.Knots[i-1]) / (c.Knots[i] - c.Knots[i-1])
		return c.LR * (c.Factors[i-1] + part*(c.Factors[i]-c.Factors[i-1]))
	}, nil
}

// cosineStep goes from one value to another along half a cosine, t from 0 to 1.
func cosineStep(from, to, t float64) float64 {
	return to + (from-to)*(1+math.Cos(math.Pi*t))/2
}

func orDefault(v, def float64) float64 {
	if v == 0 {
		return def
	}
	return v
}
