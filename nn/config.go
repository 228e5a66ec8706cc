package nn

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A configuration is a struct whose fields tagged "setting" are choices that a
// user may leave zero. The tag is the name that messages and recipes use.

// choice is one thing that a configuration of type C can name: the settings
// that it has, and how it is made.
type choice[C, T any] struct {
	settings []string
	define   func(C) (T, error)
}

// choose makes what c names.
func choose[C, T any](kind, name string, choices map[string]choice[C, T], c C) (T, error) {
	var none T
	choice, ok := choices[name]
	if !ok {
		return none, unknown(kind, name, slices.Sorted(maps.Keys(choices)))
	}
	err := onlySettings(c, choice.settings)
	if err == nil {
		var made T
		if made, err = choice.define(c); err == nil {
			return made, nil
		}
	}
	return none, fmt.Errorf("%s %s: %w", kind, name, err)
}

// given lists the settings of a configuration that are not zero.
func given(config any) (names []string) {
	v := reflect.ValueOf(config)
	for i := range v.NumField() {
		if name, ok := v.Type().Field(i).Tag.Lookup("setting"); ok && !v.Field(i).IsZero() {
			names = append(names, name)
		}
	}
	return names
}

// onlySettings checks that a configuration gives no setting but the known ones.
func onlySettings(config any, known []string) error {
	for _, name := range given(config) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("it has no setting %q (settings: %s)", name, cmp.Or(strings.Join(known, ", "), "none"))
		}
	}
	return nil
}

// unknown is the error for a name that is not among the known ones: it
// suggests the three nearest.
func unknown(kind, name string, known []string) error {
	near := slices.Clone(known)
	slices.SortStableFunc(near, func(a, b string) int { return distance(name, a) - distance(name, b) })
	return fmt.Errorf("unknown %s %q: did you mean %s?", kind, name, strings.Join(near[:min(3, len(near))], ", "))
}

// distance is Levenshtein's: insertions, deletions and substitutions.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
