package build_test

import (
	"os"
	"path"
	"strings"
	"testing"
)

// What git ignores, the images' builds do not see either.
func TestDockerIgnore(t *testing.T) {
	lines := func(file string) map[string]bool {
		t.Helper()
		b, err := os.ReadFile(path.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]bool{}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				all[strings.TrimPrefix(line, "**/")] = true
			}
		}
		return all
	}
	git, docker := lines(".gitignore"), lines(".dockerignore")
	for pattern := range git {
		if !docker[pattern] {
			t.Errorf(".dockerignore lacks %s", pattern)
		}
	}
	for pattern := range docker {
		if !git[pattern] {
			t.Errorf(".dockerignore has %s, .gitignore has not", pattern)
		}
	}
}
