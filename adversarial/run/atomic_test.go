package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWriteFileAtomicReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"first", "", strings.Repeat("long", 1<<16)} {
		must(t, WriteFileAtomic(path, func(w io.Writer) error {
			_, err := io.WriteString(w, content)
			return err
		}))
		got, err := os.ReadFile(path)
		must(t, err)
		if string(got) != content {
			t.Errorf("%d bytes read back, want %d", len(got), len(content))
		}
	}
	wantNames(t, filepath.Dir(path), "file")
}

// TestUpdateFile has many append to a file at once: each sees all before it.
func TestUpdateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	const updates = 20
	var group sync.WaitGroup
	for i := range updates {
		group.Go(func() {
			if err := UpdateFile(path, func(old []byte) []byte { return append(slices.Clone(old), byte('a'+i)) }); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	got, err := os.ReadFile(path)
	must(t, err)
	slices.Sort(got)
	if want := "abcdefghijklmnopqrst"; string(got) != want {
		t.Errorf("%q after %d updates, want %q in some order", got, updates, want)
	}
	before, err := os.Stat(path)
	must(t, err)
	must(t, UpdateFile(path, func(old []byte) []byte { return old }))
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("the file was written again, though nothing changed", err)
	}
	if err := UpdateFile(filepath.Join(path, "below"), nil); err == nil || !strings.Contains(err.Error(), "update "+path) {
		t.Errorf("error %v does not name the file", err)
	}
}

func TestWriteFileAtomicErrorLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	must(t, os.WriteFile(path, []byte("old"), 0o644))
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("no such luck"), "write " + path + ": no such luck"},
		{fmt.Errorf("write data: %w", unix.ENOSPC), "write " + path +
			": write data: no space left on device; free some space: what was there before is unchanged"},
	} {
		err := WriteFileAtomic(path, func(w io.Writer) error {
			if _, err := w.Write(bytes.Repeat([]byte("new"), 1<<16)); err != nil {
				return err
			}
			return c.err
		})
		wantError(t, err, c.want)
		if !errors.Is(err, c.err) {
			t.Errorf("%v does not wrap %v", err, c.err)
		}
		got, err := os.ReadFile(path)
		must(t, err)
		if string(got) != "old" {
			t.Errorf("the file now holds %q", got)
		}
		wantNames(t, dir, "file")
	}
}

func TestWriteFileAtomicPanicLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	wantPanic(t, "writer", func() {
		WriteFileAtomic(filepath.Join(dir, "file"), func(io.Writer) error { panic("here") })
	})
	wantNames(t, dir)
}

func TestWriteFileAtomicWithoutFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "file")
	err := WriteFileAtomic(path, func(io.Writer) error { return nil })
	wantError(t, err, "write "+path+": no such file or directory")
}

func TestFileErrorNamesThePath(t *testing.T) {
	err := fileError("write", "a/b", &os.PathError{Op: "write", Path: "a/.tmp-X-b", Err: unix.EACCES})
	wantError(t, err, "write a/b: permission denied; choose a folder you can write to")
}

// wantNames fails unless dir holds exactly these entries, in order.
func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %v, want %v", dir, got, want)
	}
}
