package rng

import "math"

// The mappings below write float32(…) around every operation: Go may fuse
// x*y+z into one rounding on some processors, and a fused result would differ
// from a back end that does not fuse.

// Uniform maps a word to U[0, 1): its top 24 bits times 2⁻²⁴, exactly.
func Uniform(w uint32) float32 { return float32(float32(w>>8) * 0x1p-24) }

// Normal maps a word to N(0, 1) by the inverse of the normal distribution
// function: bit 8 is the sign and the 23 bits above it the tail probability,
// so |Normal| ≤ 5.42. The rational core is Giles' single-precision erfinv
// ("Approximating the erfinv function", GPU Computing Gems, 2010), with a
// logarithm of our own because a library's differs between machines.
func Normal(w uint32) float32 {
	p := float32(float32(float32(w>>9)+0.5) * 0x1p-24) // in (0, 1/2), exact
	q := float32(4 * float32(p*float32(1-p)))          // 1 - x² of erfinv(x)
	z := float32(1.4142135 * erfinv(float32(1-float32(2*p)), q))
	if w&0x100 != 0 {
		return -z
	}
	return z
}

// giles holds the two polynomials of the approximation, highest power first.
var giles = [2][9]float32{
	{2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164, 0.246640727, 1.50140941},
	{-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047, 1.00167406, 2.83297682},
}

// erfinv takes x and q = 1-x², which the caller knows without cancellation.
func erfinv(x, q float32) float32 {
	t := -log(q)
	c := &giles[0]
	if t < 5 {
		t = float32(t - 2.5)
	} else {
		t = float32(float32(math.Sqrt(float64(t))) - 3)
		c = &giles[1]
	}
	s := c[0]
	for _, a := range c[1:] {
		s = float32(float32(s*t) + a)
	}
	return float32(s * x)
}

// log is the natural logarithm for normal positive x, to about 1 ulp: the
// exponent is split off and log m = 2 artanh((m-1)/(m+1)) summed as a series.
func log(x float32) float32 {
	b := math.Float32bits(x) - 0x3f3504f3 // offset so that m lies in [√½, √2)
	e := float32(int32(b) >> 23)
	m := math.Float32frombits(b&0x7fffff + 0x3f3504f3)
	s := float32(float32(m-1) / float32(m+1))
	z := float32(s * s)
	r := float32(1.0 / 9)
	for _, a := range [...]float32{1.0 / 7, 1.0 / 5, 1.0 / 3, 1} {
		r = float32(float32(r*z) + a)
	}
	r = float32(float32(2*s) * r)
	return float32(float32(e*0.6931472) + r)
}
