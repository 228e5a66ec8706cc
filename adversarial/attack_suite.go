package adversarial

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// MixedSuite is the name of AutoAttack's standard version with the search in
// reduced precision. What the search finds counts where the float32 network is
// wrong about it. A search that rounds may miss what float32's finds, so the
// number is an upper bound on robust accuracy, and not AutoAttack's.
const MixedSuite = "autoattack-mixed"

// suites are AutoAttack's versions (Croce and Hein, ICML 2020): attacks run one
// after the other, each on the samples that the ones before left standing.
var suites = map[string][]Attack{
	"autoattack": suiteStandard,
	MixedSuite:   suiteStandard,
	"autoattack-plus": {
		{Name: "apgd-ce", Restarts: 5}, {Name: "apgd-dlr", Restarts: 5}, {Name: "fab", Restarts: 5},
		{Name: "square"}, {Name: "apgd-t"}, {Name: "fab-t"},
	},
	// The published version averages 20 gradients of a network that draws random
	// numbers. Those of package nn draw none, and one gradient is the average.
	"autoattack-rand": {{Name: "apgd-ce"}, {Name: "apgd-dlr"}},
}

// suiteStandard is the standard version in L∞ and L2.
var suiteStandard = []Attack{{Name: "apgd-ce"}, {Name: "apgd-t"}, {Name: "fab-t"}, {Name: "square"}}

// suiteL1 is the standard version in L1 (Croce and Hein, ICML 2021).
var suiteL1 = []Attack{{Name: "apgd-ce", Restarts: 5}, {Name: "apgd-t", Targets: 5}, {Name: "fab-t"}, {Name: "square"}}

// SuiteNames lists the suites.
func SuiteNames() []string { return slices.Sorted(maps.Keys(suites)) }

// LookupSuite is the attacks of a suite in their published settings, resolved
// for a threat model. ok says whether there is a suite of that name.
func LookupSuite(name string, t ThreatModel) (attacks []Attack, ok bool, err error) {
	list, ok := suites[name]
	switch {
	case !ok:
		return nil, false, nil
	case (name == "autoattack" || name == MixedSuite) && t.Norm == L1:
		list = suiteL1
	case t.Norm != Linf && t.Norm != L2:
		return nil, true, fmt.Errorf("%s is not defined in %s: name attacks instead, such as pgd,square", name, t.Norm.symbol())
	}
	for _, a := range list {
		known, err := LookupAttack(a.Name)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		known.Restarts, known.Targets = a.Restarts, cmp.Or(a.Targets, known.Targets)
		attacks = append(attacks, known.Resolve(t))
	}
	return attacks, true, nil
}
