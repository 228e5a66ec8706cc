package adversarial

import (
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// Epsilon is a distance in the units of the input, as its user wrote it:
// "8/255", "0.3". The radius ε of a threat model is one, and so is an attack's
// step size. The zero value is unset.
type Epsilon struct {
	text  string
	value float64 // nearest to what text says
}

// decimal is bounded, so that no text makes exact arithmetic slow.
var decimal = regexp.MustCompile(`^([0-9]{1,40}\.?|[0-9]{0,40}\.[0-9]{1,40})([eE][-+]?([0-9]{1,2}|[12][0-9]{2}))?$`)

// ParseEpsilon reads a decimal number or a quotient of two. The value is
// exact until it is rounded, once, to a float64.
func ParseEpsilon(s string) (Epsilon, error) {
	text := strings.TrimSpace(s)
	fail := func(why string) (Epsilon, error) {
		return Epsilon{}, fmt.Errorf("%q %s: write a number or a quotient, such as 0.3 or 8/255", s, why)
	}
	num, den, quotient := strings.Cut(text, "/")
	if !quotient {
		den = "1"
	}
	num, den = strings.TrimSpace(num), strings.TrimSpace(den)
	switch {
	case text == "":
		return fail("is no distance")
	case strings.HasPrefix(num, "-") || strings.HasPrefix(den, "-"):
		return fail("is negative")
	case !decimal.MatchString(num) || !decimal.MatchString(den):
		return fail("is no number")
	}
	n, _ := new(big.Rat).SetString(num)
	d, _ := new(big.Rat).SetString(den)
	if d.Sign() == 0 {
		return fail("divides by zero")
	}
	if quotient {
		text = num + "/" + den
	}
	v, _ := n.Quo(n, d).Float64()
	return Epsilon{text, v}, nil
}

// MustEpsilon is ParseEpsilon of a constant; it panics where that fails.
func MustEpsilon(s string) Epsilon {
	e, err := ParseEpsilon(s)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return e
}

// IsSet reports whether e has a value; 0 is one.
func (e Epsilon) IsSet() bool { return e.text != "" }

// Float64 is the value, 0 if unset.
func (e Epsilon) Float64() float64 { return e.value }

// String is the value as it was written, "" if unset.
func (e Epsilon) String() string { return e.text }

// Times is e·num/den, exactly, written in e's manner: 8/255 times 5/4 is
// 10/255. Where that takes more digits than ParseEpsilon reads, it is the
// nearest float64.
func (e Epsilon) Times(num, den int64) Epsilon {
	if !e.IsSet() {
		return e
	}
	top, bottom, quotient := strings.Cut(e.text, "/")
	if !quotient {
		bottom = "1"
	}
	r, _ := new(big.Rat).SetString(top)
	b, _ := new(big.Rat).SetString(bottom)
	r.Mul(r, big.NewRat(num, den))
	exact := new(big.Rat).Quo(r, b)
	text := exact.RatString()
	if digits, finite := r.FloatPrec(); finite {
		if text = r.FloatString(digits); quotient {
			text += "/" + bottom
		}
	}
	v, _ := exact.Float64()
	if _, err := ParseEpsilon(text); err != nil {
		text = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return Epsilon{text, v}
}

// MarshalText writes what String returns.
func (e Epsilon) MarshalText() ([]byte, error) { return []byte(e.text), nil }

// UnmarshalText is ParseEpsilon, but for the empty text, which is unset.
func (e *Epsilon) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*e = Epsilon{}
		return nil
	}
	v, err := ParseEpsilon(string(b))
	if err != nil {
		return err
	}
	*e = v
	return nil
}
