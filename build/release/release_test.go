package main

import (
	"debug/buildinfo"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestBill makes the bill of this very test binary.
func TestBill(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := fileSum(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := billOf(path, sum)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"bomFormat":"CycloneDX"`, `"specVersion":"1.5"`, `"alg":"SHA-256","content":"` + sum} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the bill lacks %s: %s", want, text)
		}
	}
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(b.Serial) {
		t.Errorf("serial number %s", b.Serial)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Parts) != len(info.Deps)+1 || !slices.ContainsFunc(b.Parts, func(c component) bool { return c.Name == "std" && c.Version != "" }) {
		t.Errorf("%d parts of %d modules: %+v", len(b.Parts), len(info.Deps), b.Parts)
	}
	for i, c := range b.Parts {
		if b.Depends[0].On[i] != c.Ref || c.Version == "" {
			t.Errorf("part %+v", c)
		}
	}
	if err := b.named(); err == nil { // tests have no stamp
		t.Error("a binary without a commit is released")
	}
	b.Metadata.Component.Properties = append(b.Metadata.Component.Properties, property{"go:vcs.revision", "0123"})
	if err := b.named(); err != nil {
		t.Error(err)
	}
	if _, err := billOf("main.go", sum); err == nil {
		t.Error("a text has a bill")
	}
}

func TestNames(t *testing.T) {
	var names []string
	for _, x := range targets {
		names = append(names, x.name())
	}
	if len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("names repeat: %v", names)
	}
}
