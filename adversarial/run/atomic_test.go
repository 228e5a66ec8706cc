package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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

// TestDiskFull fills a real, tiny file system.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mounting a tmpfs: %v (TestWriteFileAtomicErrorLeavesTheOldFile injects the error instead)", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	r, err := Create(dir)
	must(t, err)
	defer r.Close()
	must(t, WriteConfig(dir, &settings{}))
	must(t, SaveCheckpoint(dir, checkpoint(1), DefaultKeep))
	m, err := OpenMetrics(dir)
	must(t, err)
	defer m.Close()

	big := checkpoint(2)
	big.Tensors = []Tensor{{Name: "w", DType: "U8", Shape: []int{1 << 17}, Data: make([]byte, 1<<17)}}
	full := ": no space left on device; free some space: what was there before is unchanged"
	wantError(t, SaveCheckpoint(dir, big, DefaultKeep), "write "+checkpointPath(dir, "step-00000002")+full)
	wantNames(t, filepath.Join(dir, checkpointDir), "step-00000001.safetensors")

	var records int
	for err == nil {
		err = m.Write(Record{Step: int64(records), Fields: []Field{{strings.Repeat("x", 1000), 1}}})
		records++
	}
	wantError(t, err, "write "+filepath.Join(dir, MetricsFile)+full)
	got, err := ReadMetrics(dir)
	must(t, err)
	if len(got) != records-1 || len(got) == 0 {
		t.Errorf("%d records, want %d", len(got), records-1)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, MetricsFile)); !bytes.HasSuffix(b, []byte("}\n")) {
		t.Error("metrics.jsonl ends with half a line")
	}
	ck, err := LatestCheckpoint(dir)
	must(t, err)
	if ck.Step != 1 {
		t.Errorf("latest is step %d", ck.Step)
	}
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
