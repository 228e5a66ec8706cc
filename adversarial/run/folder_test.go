package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestFolderFollowsMetrics reads a file that grows, line by line and torn, and
// notices that it was cut.
func TestFolderFollowsMetrics(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, MetricsFile)
	add := func(s string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
		must(t, err)
		_, err = f.WriteString(s)
		must(t, err)
		must(t, f.Close())
	}
	f, err := OpenFolder(dir)
	must(t, err)
	defer f.Close()
	next := int64(0)
	for _, c := range []struct {
		add  string
		want []int64
	}{
		{"{\"step\":1,\"epoch\":0,\"a\":1}\n{\"step\":2,\"ep", []int64{1}},
		{"", nil},
		{"och\":0,\"a\":2}\n", []int64{2}},
		{"{\"step\":3,\"epoch\":0}\n{\"step\":4,\"epoch\":0}\n{", []int64{3, 4}},
	} {
		add(c.add)
		var got []int64
		next, err = f.Metrics(next, func(r Record) { got = append(got, r.Step) })
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("after %q: %v %s", c.add, err, diff)
		}
	}
	must(t, os.Truncate(path, 10))
	if _, err := f.Metrics(next, func(Record) {}); !errors.Is(err, ErrRewound) {
		t.Errorf("error %v, want %v", err, ErrRewound)
	}
	must(t, os.WriteFile(path, []byte(strings.Repeat("x", 2*maxRecord)), 0o666))
	_, err = f.Metrics(0, func(Record) {})
	wantError(t, err, fmt.Sprintf("read %s: line 1: longer than 65536 bytes", path))
}

// TestFolderStaysInside refuses links that lead out, pipes, and what is too
// large to be temper's.
func TestFolderStaysInside(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "run")
	must(t, os.Mkdir(dir, 0o777))
	must(t, os.WriteFile(filepath.Join(top, "secret"), []byte("x"), 0o666))
	must(t, os.Symlink("../secret", filepath.Join(dir, ConfigFile)))
	must(t, os.Symlink("..", filepath.Join(dir, "out")))
	must(t, unix.Mkfifo(filepath.Join(dir, FactsFile), 0o666))
	must(t, os.WriteFile(filepath.Join(dir, "large"), nil, 0o666))
	must(t, os.Truncate(filepath.Join(dir, "large"), maxSmall+1))
	f, err := OpenFolder(dir)
	must(t, err)
	defer f.Close()
	for _, name := range []string{ConfigFile, "../secret", "out/secret", FactsFile, "large", "/etc/hostname", "."} {
		if b, err := f.Read(name); err == nil {
			t.Errorf("%s: read %q", name, b)
		}
	}
	if _, err := f.Folder("out"); err == nil {
		t.Error("a link out of the folder was followed")
	}
}

func TestFolderFacts(t *testing.T) {
	dir := t.TempDir()
	want := Facts{Steps: 30, PerEpoch: 10, Classes: []string{"<b>", "cat"}, Shape: [3]int{3, 32, 32}}
	must(t, WriteFacts(dir, want))
	f, err := OpenFolder(dir)
	must(t, err)
	defer f.Close()
	got, err := f.Facts()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if f.Active() {
		t.Error("active without a lock")
	}
	r, err := Create(filepath.Join(dir, "run"))
	must(t, err)
	in, err := f.Folder("run")
	must(t, err)
	defer in.Close()
	if !in.Active() {
		t.Error("not active while locked")
	}
	r.Close()
	if in.Active() {
		t.Error("active after Close")
	}
}
