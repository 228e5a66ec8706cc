package cache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestEntry(t *testing.T) {
	t.Setenv("TEMPER_CACHE", t.TempDir())
	built := 0
	get := func() (string, string) {
		t.Helper()
		content, file, unsaved, err := Entry("a.bin", func() ([]byte, error) { built++; return []byte("made"), nil })
		if err != nil || unsaved != nil || string(content) != "made" {
			t.Fatalf("%q, unsaved %v, error %v", content, unsaved, err)
		}
		return string(content), file
	}
	_, file := get()
	get()
	if built != 1 {
		t.Errorf("built %d times, want once", built)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the entry is not for everyone to read: %v, %v", info.Mode(), err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range [][]byte{{}, whole[:len(whole)-1], append([]byte("M"), whole[1:]...), bytes.Repeat([]byte{0}, 100)} {
		if err := os.WriteFile(file, damage, 0o644); err != nil {
			t.Fatal(err)
		}
		built = 0
		get()
		if again, _ := os.ReadFile(file); built != 1 || !bytes.Equal(again, whole) {
			t.Errorf("a damaged entry of %d bytes was built %d times and is now %q", len(damage), built, again)
		}
	}
}

func TestEntryBuildFails(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TEMPER_CACHE", dir)
	boom := errors.New("boom")
	if _, _, _, err := Entry("b", func() ([]byte, error) { return nil, boom }); err != boom {
		t.Errorf("error %v, want boom", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v was left behind", left)
	}
}

// A folder that cannot be written gives the content all the same.
func TestEntryUnsaved(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEMPER_CACHE", filepath.Join(file, "below"))
	content, name, unsaved, err := Entry("c", func() ([]byte, error) { return []byte("made"), nil })
	if string(content) != "made" || name != "" || unsaved == nil || err != nil {
		t.Errorf("%q, file %q, unsaved %v, error %v", content, name, unsaved, err)
	}
}

func TestEntryConcurrent(t *testing.T) {
	t.Setenv("TEMPER_CACHE", t.TempDir())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if content, _, _, err := Entry("d", func() ([]byte, error) { return []byte("made"), nil }); err != nil || string(content) != "made" {
				t.Errorf("%q, %v", content, err)
			}
		})
	}
	wg.Wait()
}

func TestKey(t *testing.T) {
	if Key("ab", "c") == Key("a", "bc") {
		t.Error("a key does not tell its parts apart")
	}
}
