package adversarial

import (
	"fmt"
	"maps"
	"slices"
)

// suites are AutoAttack's versions (Croce and Hein, ICML 2020): attacks run one
// after the other, each on the samples that the ones before left standing.
var suites = map[string][]Attack{
	"autoattack": {{Name: "apgd-ce"}, {Name: "apgd-t"}, {Name: "fab-t"}, {Name: "square"}},
	"autoattack-plus": {
		{Name: "apgd-ce", Restarts: 5}, {Name: "apgd-dlr", Restarts: 5}, {Name: "fab", Restarts: 5},
		{Name: "square"}, {Name: "apgd-t"}, {Name: "fab-t"},
	},
	// The published version averages 20 gradients of a network that draws random
	// numbers. Those of package nn draw none, and one gradient is the average.
	"autoattack-rand": {{Name: "apgd-ce"}, {Name: "apgd-dlr"}},
}

// SuiteNames lists the suites.
func SuiteNames() []string { return slices.Sorted(maps.Keys(suites)) }

// LookupSuite is the attacks of a suite in their published settings, resolved
// for a threat model. ok says whether there is a suite of that name.
func LookupSuite(name string, t ThreatModel) (attacks []Attack, ok bool, err error) {
	for _, a := range suites[name] {
		known, err := LookupAttack(a.Name)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		known.Restarts = a.Restarts
		attacks = append(attacks, known.Resolve(t))
	}
	if attacks != nil && t.Norm != Linf && t.Norm != L2 {
		return nil, true, fmt.Errorf("%s is not complete in %s, where temper has no Square: name attacks instead, such as apgd-ce,apgd-t,fab-t", name, t.Norm.symbol())
	}
	return attacks, attacks != nil, nil
}
