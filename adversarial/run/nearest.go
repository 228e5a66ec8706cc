package run

import (
	"fmt"
	"slices"
	"strings"
)

// Nearest returns the at most three candidates that name was most likely meant
// to be, the likeliest first: those that contain it, and those at most three
// single edits away (insert, delete, replace, or swap two neighbours), fewer
// for names below eight letters. Case does not count.
func Nearest(name string, candidates []string) []string {
	type match struct {
		name     string
		distance int
	}
	wanted := strings.ToLower(name)
	limit := min(3, max(1, (len(name)+1)/3))
	var matches []match
	for _, c := range candidates {
		have := strings.ToLower(c)
		d := editDistance(wanted, have)
		if len(wanted) >= 2 && strings.Contains(have, wanted) {
			d = min(d, limit)
		}
		if d <= limit {
			matches = append(matches, match{c, d})
		}
	}
	slices.SortStableFunc(matches, func(a, b match) int { return a.distance - b.distance })
	var names []string
	for _, m := range matches[:min(3, len(matches))] {
		names = append(names, m.name)
	}
	return names
}

// DidYouMean is the tail of an error about an unknown name: ` (did you mean
// "a" or "b"?)`, or "" if nothing is near.
func DidYouMean(name string, candidates []string) string {
	near := Nearest(name, candidates)
	if len(near) == 0 {
		return ""
	}
	for i, n := range near {
		near[i] = fmt.Sprintf("%q", n)
	}
	return " (did you mean " + strings.Join(near, " or ") + "?)"
}

// editDistance is the Damerau–Levenshtein distance in its optimal string
// alignment form: no substring is edited twice. It counts bytes.
func editDistance(a, b string) int {
	// Rows i-2, i-1 and i of the table d[i][j] = distance(a[:i], b[:j]).
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
