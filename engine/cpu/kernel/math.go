package kernel

import "math"

// The functions of this file are our own, so that every machine and level
// gives the same bits: conversions keep the compiler from fusing a product
// with a sum, and the AVX2 kernels do the same operations in the same order.
// The polynomials are minimax fits, made with the Remez algorithm, to less
// than 0.1 ulp of the results.

const (
	log2e = 1.44269504
	// ln 2 in two parts: the first has 9 bits, so that its product with an
	// exponent is exact.
	ln2hi = 0.693359375
	ln2lo = -2.12194440e-4

	// roundMagic makes a sum round to an integer, which the low bits of the
	// sum then hold.
	roundMagic = 0x1.8p23

	// Beyond these, e^x rounds to 0 and to infinity.
	expLow, expHigh = -105, 89

	// logOffset is the representation of √½: subtracted from that of a
	// number, it leaves the exponent to which the mantissa is in [√½, √2).
	logOffset   = 0x3f3504f3
	mantissa    = 0x7fffff
	smallest    = 0x1p-126 // normal number
	logScale    = 25       // binary places by which smaller ones are moved
	tanhSmall   = 0.625    // below: a polynomial, above: e^2x
	tanhLargest = 10       // from here on the result is 1
)

// (e^r - 1 - r)/r², (ln(1+f) - f + f²/2)/f³ and (tanh(√z)/√z - 1)/z, highest
// power first.
var (
	expPoly  = [...]float32{0.00138143206, 0.00836885069, 0.0416684002, 0.166665196, 0.49999994}
	logPoly  = [...]float32{0.0691554099, -0.117898643, 0.118729256, -0.12384335, 0.142186642, -0.166692525, 0.200022265, -0.249999866, 0.333333105}
	tanhPoly = [...]float32{0.00214753998, -0.00818267744, 0.0217029694, -0.0539472029, 0.133332103, -0.333333313}
)

func poly(c []float32, x float32) float32 {
	s := c[0]
	for _, a := range c[1:] {
		s = float32(s*x) + a
	}
	return s
}

// exp32 is e^x = 2^n·e^r, where x = n·ln 2 + r.
func exp32(x float32) float32 {
	if x != x {
		return x
	}
	x = max(expLow, min(expHigh, x))
	t := float32(x*log2e) + roundMagic
	n := t - roundMagic
	e := int32(math.Float32bits(t)) - int32(math.Float32bits(roundMagic))
	high, low := x-float32(n*ln2hi), float32(n*ln2lo)
	r := high - low
	lost := high - r - low // by rounding r
	y := float32(poly(expPoly[:], r)*float32(r*r)) + lost + r + 1
	half := e >> 1 // in two steps: 2^n itself may be out of range
	return float32(y*power2(half)) * power2(e-half)
}

// power2 is 2^e for e in [-126, 127].
func power2(e int32) float32 { return math.Float32frombits(uint32(e+127) << 23) }

func log32(x float32) float32 {
	switch {
	case x != x || x < 0:
		return float32(math.NaN())
	case x == 0:
		return float32(math.Inf(-1))
	case x > math.MaxFloat32:
		return x
	}
	shift := int32(0)
	if x < smallest {
		x *= 1 << logScale
		shift = logScale
	}
	b := int32(math.Float32bits(x)) - logOffset
	e := float32(b>>23 - shift)
	f := math.Float32frombits(uint32(b&mantissa+logOffset)) - 1
	z := float32(f * f)
	y := float32(poly(logPoly[:], f) * float32(f*z))
	y += float32(e * ln2lo)
	y -= float32(0.5 * z)
	return f + y + float32(e*ln2hi)
}

func tanh32(x float32) float32 {
	a := math.Float32frombits(math.Float32bits(x) &^ (1 << 31))
	var y float32
	if a < tanhSmall {
		z := float32(a * a)
		y = float32(a*float32(z*poly(tanhPoly[:], z))) + a
	} else {
		y = 1 - 2/(exp32(2*min(a, tanhLargest))+1)
	}
	return math.Float32frombits(math.Float32bits(y) | math.Float32bits(x)&(1<<31))
}

// sigmoid32 takes the exponential of a negative number only: it cannot
// overflow, and small results keep their precision.
func sigmoid32(x float32) float32 {
	e := exp32(-math.Float32frombits(math.Float32bits(x) &^ (1 << 31)))
	d := 1 + e
	lost := e - (d - 1) // by rounding d
	y := e / d
	inverse := 1 - y // of d, roughly
	if x >= 0 {
		y = 1 / d
		inverse = y
	}
	return y - float32(y*float32(lost*inverse))
}

// On amd64 math.Log takes subnormal numbers for larger ones, and math.Pow is
// built on it. log64 and Pow scale them by 2⁵² first.

const (
	smallestNormal = 0x1p-1022
	subnormalScale = 52
)

func log64(x float64) float64 {
	if 0 < x && x < smallestNormal {
		return math.Log(math.Ldexp(x, subnormalScale)) - subnormalScale*math.Ln2
	}
	return math.Log(x)
}

// Pow is x to the power of y.
func Pow(x, y float64) float64 {
	if x != 0 && math.Abs(x) < smallestNormal {
		return math.Pow(math.Ldexp(x, subnormalScale), y) * math.Exp2(-subnormalScale*y)
	}
	return math.Pow(x, y)
}

func sigmoid64(x float64) float64 {
	e := math.Exp(-math.Abs(x))
	if x >= 0 {
		return 1 / (1 + e)
	}
	return e / (1 + e)
}
