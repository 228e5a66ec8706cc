package features

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Confidence is the level of every interval.
const Confidence = 0.95

// Estimate is a mean over seeds with Student's t-interval. With one value there
// is no interval: Low and High are the value.
type Estimate struct {
	Mean   float64   `json:"mean"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	Values []float64 `json:"values"` // by seed
}

func estimate(values []float64) Estimate {
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
	e.Low, e.High = m-half, m+half
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

// String is "0.87 [0.85, 0.89]", or the value alone if there is no interval.
func (e Estimate) String() string {
	if len(e.Values) < 2 {
		return number(e.Mean)
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
