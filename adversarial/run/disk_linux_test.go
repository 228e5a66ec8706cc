package run

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDiskFull fills a real, tiny file system.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "tmpfs") {
			t.Fatalf("TEMPER_REQUIRE lists tmpfs, but mounting one: %v", err)
		}
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
	written := []string{MetricsFile, filepath.Base(m.events.f.Name())} // whichever has met the end first
	if !slices.ContainsFunc(written, func(name string) bool { return err.Error() == "write "+filepath.Join(dir, name)+full }) {
		t.Errorf("error %q", err)
	}
	got, err := ReadMetrics(dir)
	must(t, err)
	if len(got) != records-1 || len(got) == 0 {
		t.Errorf("%d records, want %d", len(got), records-1)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, MetricsFile)); !bytes.HasSuffix(b, []byte("}\n")) {
		t.Error("metrics.jsonl ends with half a line")
	}
	if b, _ := os.ReadFile(m.events.f.Name()); len(b) != int(m.events.size) {
		t.Error("the event file ends with half a record")
	}
	ck, err := LatestCheckpoint(dir)
	must(t, err)
	if ck.Step != 1 {
		t.Errorf("latest is step %d", ck.Step)
	}
}
