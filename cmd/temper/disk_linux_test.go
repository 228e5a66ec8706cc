package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDiskFull trains into a real, tiny file system, and goes on when there is
// room again.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "runs")
	if err := unix.Mkdir(disk, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "tmpfs") {
			t.Fatalf("TEMPER_REQUIRE lists tmpfs, but mounting one: %v", err)
		}
		t.Skipf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	o := temper(t, dir, nil, "train", "--method", "standard")
	last := o.stderr[strings.LastIndex(strings.TrimSuffix(o.stderr, "\n"), "\n")+1:]
	if o.code != 1 || !strings.HasPrefix(last, "temper: write ") || !strings.Contains(last, "no space left on device") {
		t.Fatalf("exit code %d, stderr %q", o.code, o.stderr)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	must(t, dir, nil, "train", "--resume")
	straight := t.TempDir()
	must(t, straight, nil, "train", "--method", "standard")
	compareRuns(t, latest(straight), latest(dir))
}
