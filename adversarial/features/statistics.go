package features

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Confidence is the level of every interval.
const Confidence = 0.95

// Intervals says what the intervals are, for those who print them.
const Intervals = "95 % t-intervals over seeds, cut to where the quantity can lie: accuracies 0 to 1, cosines -1 to 1"

// limits are where a quantity lies whatever the network does, and so its mean.
type limits struct{ low, high float64 }

var (
	anywhere = limits{-inf, inf}
	share    = limits{0, 1}  // an accuracy
	signed   = limits{-1, 1} // a cosine; one accuracy minus another
	distance = limits{0, inf}
)

// Estimate is a mean over seeds with Student's t-interval, cut to the limits of
// the quantity: the mean cannot lie outside, so the cut interval covers it as
// often as the whole. (A logit scale would take no 0 and no 1, which are common
// here.) With one value there is no interval: Low and High are the value. So they
// are where all values are equal, since nothing is left to estimate a spread from.
type Estimate struct {
	Mean   float64   `json:"mean"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	Values []float64 `json:"values"` // by seed
}

func estimate(values []float64, in limits) Estimate {
	m, n := mean(values), float64(len(values))
	e := Estimate{Mean: m, Low: m, High: m, Values: values}
	if n < 2 {
		return e
	}
	sum := 0.0
	for _, v := range values {
		sum += (v - m) * (v - m)
	}
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Quantile((1 + Confidence) / 2)
	half := t * math.Sqrt(sum/(n-1)/n)
	e.Low, e.High = math.Max(m-half, in.low), math.Min(m+half, in.high)
	return e
}

// mean is 0 of no values.
func mean(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// String is "0.87 [0.85, 0.89]", "1.00 in every seed", or of one seed the value
// alone.
func (e Estimate) String() string {
	switch {
	case len(e.Values) < 2:
		return number(e.Mean)
	case slices.Min(e.Values) == slices.Max(e.Values):
		return number(e.Mean) + " in every seed"
	}
	return fmt.Sprintf("%s [%s, %s]", number(e.Mean), number(e.Low), number(e.High))
}

// seeds is "1 seed" or "5 seeds".
func seeds(n int) string {
	if n == 1 {
		return "1 seed"
	}
	return fmt.Sprintf("%d seeds", n)
}

// number writes two digits behind the point, fewer of larger numbers.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	s := fmt.Sprintf("%.2f", v)
	if s == "-0.00" {
		return "0.00"
	}
	return s
}
