package main

import (
	"cmp"
	"debug/buildinfo"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// bill is a software bill of materials: CycloneDX 1.5 in JSON, of what the linker
// wrote into a binary. It has no date, so that equal binaries have equal bills.
type bill struct {
	Format   string       `json:"bomFormat"`
	Spec     string       `json:"specVersion"`
	Serial   string       `json:"serialNumber"`
	Version  int          `json:"version"`
	Metadata metadata     `json:"metadata"`
	Parts    []component  `json:"components"`
	Depends  []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Ref        string     `json:"bom-ref"`
	Type       string     `json:"type"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl,omitempty"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref string   `json:"ref"`
	On  []string `json:"dependsOn"`
}

// billOf is the bill of a Go binary, given its SHA-256.
func billOf(path, sum string) (*bill, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, err
	}
	top := component{Ref: filepath.Base(path), Type: "application", Name: info.Main.Path, Version: cmp.Or(info.Main.Version, "(devel)"),
		Hashes: []hash{{"SHA-256", sum}}}
	for _, s := range info.Settings { // GOOS, GOARCH, CGO_ENABLED, vcs.revision, …
		top.Properties = append(top.Properties, property{"go:" + s.Key, s.Value})
	}
	std := strings.TrimPrefix(strings.Fields(info.GoVersion)[0], "go")
	parts := []component{{Ref: "std", Type: "library", Name: "std", Version: std, PURL: "pkg:golang/std@" + std}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		purl := fmt.Sprintf("pkg:golang/%s@%s", m.Path, m.Version)
		parts = append(parts, component{Ref: purl, Type: "library", Name: m.Path, Version: m.Version, PURL: purl,
			Properties: []property{{"go:sum", m.Sum}}}) // a hash of the module's tree, not of a file
	}
	slices.SortFunc(parts, func(a, b component) int { return cmp.Compare(a.Name, b.Name) })
	all := dependency{Ref: top.Ref}
	for _, p := range parts {
		all.On = append(all.On, p.Ref)
	}
	return &bill{Format: "CycloneDX", Spec: "1.5", Serial: serial(sum), Version: 1, Metadata: metadata{top}, Parts: parts, Depends: []dependency{all}}, nil
}

// named is an error for a binary that does not name its commit.
func (b *bill) named() error {
	top := b.Metadata.Component
	if !slices.ContainsFunc(top.Properties, func(p property) bool { return p.Name == "go:vcs.revision" && p.Value != "" }) {
		return fmt.Errorf("%s: go build did not stamp it with a commit: release from a git clone (a linked worktree is none)", top.Ref)
	}
	return nil
}

// serial is a UUID (version 8, RFC 9562) made of the binary's checksum.
func serial(sum string) string {
	variant := "89ab"[strings.IndexByte("0123456789abcdef", sum[16])%4]
	return fmt.Sprintf("urn:uuid:%s-%s-8%s-%c%s-%s", sum[:8], sum[8:12], sum[13:16], variant, sum[17:20], sum[20:32])
}
