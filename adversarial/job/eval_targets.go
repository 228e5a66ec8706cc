package job

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"temper/datasets"
)

// readTargets reads the classes that a targeted attack goes towards: a number a
// line for each of the examples, which is not its label.
func readTargets(path string, examples datasets.Source) ([]int32, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--target-labels: %w", err)
	}
	lines := strings.Fields(string(b))
	if len(lines) != examples.Len() {
		return nil, fmt.Errorf("--target-labels %s has %d numbers: want one for each of %d examples", path, len(lines), examples.Len())
	}
	classes := len(examples.Info().Classes)
	targets := make([]int32, len(lines))
	for i, text := range lines {
		k, err := strconv.Atoi(text)
		switch {
		case err != nil || k < 0 || k >= classes:
			return nil, fmt.Errorf("--target-labels %s: number %d is %q: want a class from 0 to %d", path, i+1, text, classes-1)
		case int32(k) == examples.Label(i):
			return nil, fmt.Errorf("--target-labels %s: number %d is %d, which is the example's own label: give another class", path, i+1, k)
		}
		targets[i] = int32(k)
	}
	return targets, nil
}
