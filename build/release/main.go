// Command release builds temper for the systems that it is released for, and
// writes beside the binaries a CycloneDX bill of materials for each and their
// SHA-256 checksums.
//
//	go run ./build/release [-out DIR]
//
// The binaries are static, and made without cgo: they have no CUDA back end. One
// more, for Linux on amd64, has it: it needs glibc, and finds the driver and NVRTC
// when it runs. Paths of the machine are not in them; the version is the
// repository's, as go build stamps it: it must be a Git clone. Equal sources, Go and
// C compiler give equal bytes.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// target is a system, and whether the binary has cgo.
type target struct {
	os, arch string
	cgo      bool
}

var targets = []target{
	{"linux", "amd64", false},
	{"linux", "amd64", true},
	{"linux", "arm64", false},
	{"darwin", "arm64", false},
}

// name is the binary's: "temper-linux-amd64", "temper-linux-amd64-cuda".
func (t target) name() string {
	n := "temper-" + t.os + "-" + t.arch
	if t.cgo {
		n += "-cuda"
	}
	return n
}

func main() {
	out := flag.String("out", "dist", "folder for the release")
	flag.Parse()
	if err := release(*out); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func release(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	var sums []byte
	for _, t := range targets {
		if err := t.build(dir); err != nil {
			return err
		}
		sum, err := fileSum(filepath.Join(dir, t.name()))
		if err != nil {
			return err
		}
		bill, err := billOf(filepath.Join(dir, t.name()), sum)
		if err != nil {
			return err
		}
		if err := bill.named(); err != nil {
			return err
		}
		b, err := json.MarshalIndent(bill, "", "  ")
		if err != nil {
			return err
		}
		b = append(b, '\n')
		if err := os.WriteFile(filepath.Join(dir, t.name()+".cdx.json"), b, 0o666); err != nil {
			return err
		}
		sums = fmt.Appendf(sums, "%s  %s\n%x  %s.cdx.json\n", sum, t.name(), sha256.Sum256(b), t.name())
		fmt.Println(filepath.Join(dir, t.name()))
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), sums, 0o666)
}

func (t target) build(dir string) error {
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", filepath.Join(dir, t.name()), "temper/cmd/temper")
	cgo := "0"
	if t.cgo {
		cgo = "1"
	}
	c.Env = append(os.Environ(), "GOOS="+t.os, "GOARCH="+t.arch, "CGO_ENABLED="+cgo)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", t.name(), err)
	}
	return nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
