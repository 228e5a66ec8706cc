package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// checkpoint is a small one whose content depends on step.
func checkpoint(step int64) *Checkpoint {
	return &Checkpoint{
		Step:  step,
		Epoch: int(step / 10),
		Tensors: []Tensor{ // in the order of the file
			{"state.step", "I64", []int{}, []byte{byte(step), 0, 0, 0, 0, 0, 0, 0}},
			{"conv.weight", "F32", []int{2}, []byte{byte(step), 1, 2, 3, 4, 5, 6, 7}},
		},
		Meta: map[string]string{"rng.position": "17", "cursor": fmt.Sprint(step)},
	}
}

// newRun makes an empty run folder.
func newRun(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, checkpointDir), 0o777))
	return dir
}

func save(t *testing.T, dir string, steps ...int64) {
	t.Helper()
	for _, s := range steps {
		must(t, SaveCheckpoint(dir, checkpoint(s), 0))
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	dir := newRun(t)
	_, err := LatestCheckpoint(dir)
	if !errors.Is(err, ErrNoCheckpoint) {
		t.Errorf("an empty run gave %v", err)
	}
	save(t, dir, 1200, 9, 123456789)
	must(t, SaveNamed(dir, BestCheckpoint, checkpoint(7)))
	for _, c := range []struct {
		name string
		step int64
	}{{"step-00001200", 1200}, {"step-00000009.safetensors", 9}, {"best", 7}} {
		got, err := LoadCheckpoint(dir, c.name)
		must(t, err)
		if d := cmp.Diff(checkpoint(c.step), got); d != "" {
			t.Error(d)
		}
	}
	got, err := LatestCheckpoint(dir)
	must(t, err)
	if got.Step != 123456789 {
		t.Errorf("latest is step %d", got.Step)
	}
	// Other programs read the file, too.
	x, err := ReadSafetensorsFile(checkpointPath(dir, "best"))
	must(t, err)
	if x.Metadata["cursor"] != "7" || x.Metadata[keyStep] != "7" {
		t.Errorf("metadata %v", x.Metadata)
	}
}

func TestUnknownCheckpoint(t *testing.T) {
	dir := newRun(t)
	_, err := LoadCheckpoint(dir, "best")
	wantError(t, err, `no checkpoint "best" in `+dir+`/checkpoints: there is none yet`)
	save(t, dir, 5, 10)
	must(t, SaveNamed(dir, BestCheckpoint, checkpoint(5)))
	_, err = LoadCheckpoint(dir, "step-5")
	wantError(t, err, `no checkpoint "step-5" in `+dir+`/checkpoints: there are step-00000010, step-00000005, best`)
}

func TestCheckpointRetention(t *testing.T) {
	dir := newRun(t)
	must(t, SaveNamed(dir, BestCheckpoint, checkpoint(1)))
	for step := int64(1); step <= 5; step++ {
		must(t, SaveCheckpoint(dir, checkpoint(step), 2))
	}
	at := filepath.Join(dir, checkpointDir)
	wantNames(t, at, "best.safetensors", "step-00000004.safetensors", "step-00000005.safetensors")
	// Later checkpoints, of a run not rewound, never push the new one out.
	must(t, SaveCheckpoint(dir, checkpoint(3), 1))
	wantNames(t, at, "best.safetensors", "step-00000003.safetensors", "step-00000004.safetensors", "step-00000005.safetensors")
}

func TestCheckpointReservedMeta(t *testing.T) {
	wantPanic(t, "reserved key", func() {
		SaveNamed(newRun(t), BestCheckpoint, &Checkpoint{Meta: map[string]string{keySHA: ""}})
	})
}

// TestSealIsNotFooled puts the seal's own pattern wherever a caller can.
func TestSealIsNotFooled(t *testing.T) {
	dir := newRun(t)
	zeros := strings.Repeat("0", 64)
	ck := checkpoint(1)
	ck.Meta[`a"temper.sha256":"`+zeros] = `"temper.sha256":"` + zeros + `"`
	ck.Tensors = append(ck.Tensors, Tensor{`temper.sha256`, "U8", []int{1}, []byte{'"'}})
	must(t, SaveNamed(dir, BestCheckpoint, ck))
	got, err := LoadCheckpoint(dir, "best")
	must(t, err)
	if d := cmp.Diff(ck, got); d != "" {
		t.Error(d)
	}
}

// TestEveryPrefixIsRefused: a file cut short at any byte is never taken for a
// checkpoint.
func TestEveryPrefixIsRefused(t *testing.T) {
	dir := newRun(t)
	save(t, dir, 1000, 1200)
	path := checkpointPath(dir, "step-00001200")
	whole, err := os.ReadFile(path)
	must(t, err)
	for n := range whole {
		must(t, os.WriteFile(path, whole[:n], 0o644))
		wantCorrupt(t, dir, fmt.Sprintf("%d of %d bytes", n, len(whole)))
	}
	must(t, os.WriteFile(path, append(whole, 0), 0o644))
	wantCorrupt(t, dir, "a byte more")
}

// TestEveryFlipIsDetected changes each byte in turn, by each single bit and by
// all of them.
func TestEveryFlipIsDetected(t *testing.T) {
	dir := newRun(t)
	save(t, dir, 1000, 1200)
	path := checkpointPath(dir, "step-00001200")
	whole, err := os.ReadFile(path)
	must(t, err)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	for i, b := range whole {
		for _, flip := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 255} {
			_, err := f.WriteAt([]byte{b ^ flip}, int64(i))
			must(t, err)
			wantCorrupt(t, dir, fmt.Sprintf("byte %d ^ %d", i, flip))
		}
		_, err := f.WriteAt([]byte{b}, int64(i))
		must(t, err)
	}
	_, err = LatestCheckpoint(dir)
	must(t, err)
}

// wantCorrupt fails unless the latest checkpoint, step 1200, is reported as
// damaged and step 1000 offered in its place.
func wantCorrupt(t *testing.T, dir, damage string) {
	t.Helper()
	_, err := LatestCheckpoint(dir)
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.Name != "step-00001200" || corrupt.Good != "step-00001000" {
		t.Fatalf("%s: %v", damage, err)
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Fatalf("%s: not one line: %q", damage, err)
	}
}

func TestCorruptCheckpointMessage(t *testing.T) {
	dir := newRun(t)
	save(t, dir, 800, 1000, 1200)
	damage := func(name string) {
		t.Helper()
		path := checkpointPath(dir, name)
		b, err := os.ReadFile(path)
		must(t, err)
		b[len(b)-1] ^= 1
		must(t, os.WriteFile(path, b, 0o644))
	}
	damage("step-00001200")
	_, err := LatestCheckpoint(dir)
	wantError(t, err, "checkpoint step-00001200.safetensors is corrupt (SHA-256 differs); "+
		"the one before it, step-00001000, is good: resume from it with --resume-from step-00001000")
	damage("step-00001000")
	_, err = LatestCheckpoint(dir)
	wantError(t, err, "checkpoint step-00001200.safetensors is corrupt (SHA-256 differs); "+
		"the one before it, step-00000800, is good: resume from it with --resume-from step-00000800")
	damage("step-00000800")
	_, err = LatestCheckpoint(dir)
	wantError(t, err, "checkpoint step-00001200.safetensors is corrupt (SHA-256 differs); "+
		"no earlier one is good: start a new run")
	_, err = LoadCheckpoint(dir, "step-00000800")
	wantError(t, err, "checkpoint step-00000800.safetensors is corrupt (SHA-256 differs)")
}

func TestForeignAndMisnamedCheckpoints(t *testing.T) {
	dir := newRun(t)
	must(t, os.WriteFile(checkpointPath(dir, "step-00000001"), file(`{}`), 0o644))
	_, err := LoadCheckpoint(dir, "step-00000001")
	wantError(t, err, "checkpoint step-00000001.safetensors is corrupt (it carries no SHA-256 of temper's)")
	save(t, dir, 2)
	must(t, os.Rename(checkpointPath(dir, "step-00000002"), checkpointPath(dir, "step-00000003")))
	_, err = LoadCheckpoint(dir, "step-00000003")
	wantError(t, err, "checkpoint step-00000003.safetensors is corrupt (it holds step 2)")
}

// saveForever is the child that gets killed: it resumes the run in dir and
// saves one checkpoint after another.
func saveForever(dir string) error {
	r, err := Resume(dir)
	if err != nil {
		return err
	}
	ck, err := LatestCheckpoint(r.Dir)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for step := ck.Step + 1; ; step++ {
		next := checkpoint(step)
		next.Tensors = append(next.Tensors, Tensor{"z", "U8", []int{1 << 20}, make([]byte, 1<<20)})
		if err := SaveCheckpoint(r.Dir, next, DefaultKeep); err != nil {
			return err
		}
	}
}

// TestKillWhileSaving kills a process again and again while it saves: each
// time the newest checkpoint is whole, and the next start clears away what was
// half written.
func TestKillWhileSaving(t *testing.T) {
	dir := newRun(t)
	must(t, WriteConfig(dir, &settings{}))
	save(t, dir, 1)
	last, leftOver := int64(1), 0
	for i := range 12 {
		cmd := startChild(t, "save", dir)
		time.Sleep(time.Duration(5+7*i) * time.Millisecond)
		kill(t, cmd)
		ck, err := LatestCheckpoint(dir)
		must(t, err)
		if ck.Step < last {
			t.Fatalf("step %d after step %d", ck.Step, last)
		}
		last = ck.Step
		leftOver += tempFiles(t, dir)
		r, err := Resume(dir)
		must(t, err)
		if n := tempFiles(t, dir); n != 0 {
			t.Errorf("%d temporary files after Resume", n)
		}
		must(t, r.Close())
	}
	t.Logf("12 kills up to step %d, %d of them in mid-file", last, leftOver)
	if last == 1 {
		t.Error("the child saved nothing")
	}
}

func tempFiles(t *testing.T, dir string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, checkpointDir, tempPrefix+"*"))
	must(t, err)
	return len(names)
}
