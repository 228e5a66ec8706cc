package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// mainWith runs Main with its standard error in a file.
func mainWith(t *testing.T, command func(context.Context, *Console) error) (code int, stderr string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stderr")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stderr
	os.Stderr = f
	defer func() { os.Stderr = old }()
	code = Main(command)
	f.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return code, string(b)
}

func TestMainExitCodes(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   int
		stderr string
	}{
		{nil, 0, ""},
		{errors.New("no good"), 1, "temper: no good\n"},
		{usage("no %s", "way"), 2, "temper: no way\n"},
		{&InterruptedError{Kept: " after 2 of 3 examples; the same command goes on from there"}, 130, "temper: interrupted after 2 of 3 examples; the same command goes on from there\n"},
		{fmt.Errorf("measure: %w", context.Canceled), 130, "temper: measure: context canceled\n"},
		{&InterruptedError{Dir: "runs/x", Step: 3}, 130, "temper: interrupted at step 3; go on with: temper train --resume runs/x\n"},
	} {
		code, stderr := mainWith(t, func(context.Context, *Console) error { return c.err })
		if code != c.code || stderr != c.stderr {
			t.Errorf("%v: exit code %d, stderr %q", c.err, code, stderr)
		}
	}
}

// TestMainLosesNothing: a result that could not be written is no success.
func TestMainLosesNothing(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil && runtime.GOOS == "linux" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip("no /dev/full")
	}
	defer full.Close()
	old := os.Stdout
	os.Stdout = full
	defer func() { os.Stdout = old }()
	code, stderr := mainWith(t, func(_ context.Context, c *Console) error {
		return c.result(nil, func(w io.Writer) { fmt.Fprintln(w, "12.3 %") })
	})
	if code != 1 || !strings.Contains(stderr, "no space left on device") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
}

// TestMainBug: a panic is one line; its stack lies in a file, or is shown where
// TEMPER_DEBUG asks for it.
func TestMainBug(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("TEMPER_DEBUG", "")
	bug := func(context.Context, *Console) error { panic("BUG: plan: two of one") }
	code, stderr := mainWith(t, bug)
	files, _ := filepath.Glob(filepath.Join(temp, "temper-bug-*.txt"))
	if code != 1 || len(files) != 1 || stderr != "temper: this is a bug of temper, please report it with the file "+files[0]+": plan: two of one\n" {
		t.Fatalf("exit code %d, files %v, stderr %q", code, files, stderr)
	}
	if b, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(b), "main_test.go") {
		t.Errorf("%v: %s", err, b)
	}
	t.Setenv("TEMPER_DEBUG", "1")
	if _, stderr := mainWith(t, bug); !strings.Contains(stderr, "main_test.go") {
		t.Errorf("stderr %q", stderr)
	}
}
