package run

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2025, 3, 4, 12, 0, 0, 0, time.UTC)

func TestNewDirIsFresh(t *testing.T) {
	root := filepath.Join(t.TempDir(), "runs")
	for _, want := range []string{"20250304-120000-pgd", "20250304-120000-pgd-2", "20250304-120000-pgd-3"} {
		dir, err := NewDir(root, "pgd", noon)
		must(t, err)
		if dir != filepath.Join(root, want) {
			t.Errorf("%s, want %s", dir, want)
		}
		r, err := Create(dir)
		must(t, err)
		defer r.Close()
	}
}

func TestPointLatest(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"one", "two"} {
		dir := filepath.Join(root, name)
		r, err := Create(dir)
		must(t, err)
		config := defaults()
		config.Name = name
		must(t, WriteConfig(dir, &config))
		must(t, PointLatest(dir+"/"))
		must(t, r.Close())
		latest, err := Open(filepath.Join(root, "latest"))
		must(t, err)
		var got settings
		must(t, ReadConfig(latest.Dir, &got))
		if filepath.Base(latest.Dir) != name || got.Name != name {
			t.Errorf("latest is %s with %q, want %s", latest.Dir, got.Name, name)
		}
	}
	wantNames(t, root, "latest", "one", "two")

	other := t.TempDir()
	must(t, os.Mkdir(filepath.Join(other, "latest"), 0o777))
	wantError(t, PointLatest(filepath.Join(other, "x")),
		other+"/latest is not a symbolic link: move it away, the name is kept for the newest run")
}

func TestCreateRefusesARun(t *testing.T) {
	for _, spoil := range []func(dir string){
		func(dir string) { must(t, WriteConfig(dir, &settings{})) },
		func(dir string) { must(t, SaveCheckpoint(dir, checkpoint(1), 0)) },
		func(dir string) {
			m, err := OpenMetrics(dir)
			must(t, err)
			must(t, m.Close())
		},
	} {
		dir := filepath.Join(t.TempDir(), "run")
		r, err := Create(dir)
		must(t, err)
		must(t, r.Close())
		r, err = Create(dir) // still empty
		must(t, err)
		spoil(dir)
		must(t, r.Close())
		_, err = Create(dir)
		wantError(t, err, dir+" already holds a run: choose another folder, or go on with it by temper train --resume")
	}
}

func TestCreateUnwritable(t *testing.T) {
	regular := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(regular, nil, 0o644))
	dir := filepath.Join(regular, "run")
	_, err := Create(dir)
	wantError(t, err, "create run folder "+dir+": mkdir "+regular+": not a directory")
	_, err = NewDir(regular, "x", noon)
	wantError(t, err, "create run folder "+regular+": not a directory")

	if os.Geteuid() == 0 {
		return // root may write anywhere
	}
	locked := t.TempDir()
	must(t, os.Chmod(locked, 0o555))
	dir = filepath.Join(locked, "run")
	_, err = Create(dir)
	wantError(t, err, "create run folder "+dir+": permission denied; choose a folder you can write to")
}

func TestOpenAndResumeNeedARun(t *testing.T) {
	root := t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, "latest"), 0o777))
	for _, f := range []func(string) (*Run, error){Open, Resume} {
		_, err := f(filepath.Join(root, "ltaest"))
		wantError(t, err, "no run folder "+root+`/ltaest (did you mean "latest"?)`)
		none := filepath.Join(t.TempDir(), "latest")
		_, err = f(none)
		wantError(t, err, "no run folder "+none+": temper train makes it; other commands' runs go by their names")
		_, err = f(filepath.Join(root, "latest"))
		wantError(t, err, root+"/latest holds no run: it has no config.toml")
		wantNames(t, filepath.Join(root, "latest"))
	}
}

// held keeps the child's run reachable: a collected one would close its lock.
var held *Run

// holdLock is the child that holds a run until it is killed.
func holdLock(dir string) (err error) {
	if held, err = Create(dir); err != nil {
		return err
	}
	fmt.Println("ready")
	time.Sleep(time.Hour) // a select without cases would be a deadlock, and end it
	return nil
}

func TestTwoProcessesInOneFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	cmd := startChild(t, "lock", dir)
	want := fmt.Sprintf("run folder %s is in use by process %d: wait for it to end, or choose another folder", dir, cmd.Process.Pid)
	_, err := Create(dir)
	wantError(t, err, want)
	must(t, WriteConfig(dir, &settings{}))
	_, err = Resume(dir)
	wantError(t, err, want)
	if _, err := Open(dir); err != nil {
		t.Errorf("reading a run in use: %v", err)
	}
	kill(t, cmd) // the lock dies with its process
	r, err := Resume(dir)
	must(t, err)
	_, err = Resume(dir)
	wantError(t, err, strings.Replace(want, fmt.Sprint(cmd.Process.Pid), fmt.Sprint(os.Getpid()), 1))
	must(t, r.Close())
	r, err = Resume(dir)
	must(t, err)
	must(t, r.Close())
}

func TestSweep(t *testing.T) {
	dir := newRun(t)
	must(t, WriteConfig(dir, &settings{}))
	for _, path := range []string{filepath.Join(dir, ConfigFile), checkpointPath(dir, "step-00000001")} {
		must(t, os.WriteFile(tempName(path), []byte("half"), 0o644))
	}
	r, err := Resume(dir)
	must(t, err)
	defer r.Close()
	wantNames(t, dir, checkpointDir, ConfigFile, lockFile)
	wantNames(t, filepath.Join(dir, checkpointDir))
}

// TestRewind: a run that is killed, rewound and run again leaves the files of
// one that never stopped.
func TestRewind(t *testing.T) {
	steps := func(dir string, from, to int64) {
		t.Helper()
		m, err := OpenMetrics(dir)
		must(t, err)
		for s := from; s <= to; s++ {
			must(t, m.Write(Record{Step: s, Epoch: int(s / 10), Fields: []Field{{"train/loss", 1 / float64(s)}}}))
			if s%10 == 0 {
				must(t, m.Write(Record{Step: s, Epoch: int(s / 10), Fields: []Field{{"epoch/accuracy", float64(s)}}}))
				must(t, m.Sync())
				must(t, SaveCheckpoint(dir, checkpoint(s), DefaultKeep))
			}
		}
		must(t, m.Close())
	}
	straight, resumed := newRun(t), newRun(t)
	steps(straight, 1, 50)

	must(t, WriteConfig(resumed, &settings{}))
	steps(resumed, 1, 37)
	f, err := os.OpenFile(filepath.Join(resumed, MetricsFile), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(`{"step":38,"epo`)
	must(t, err)
	must(t, f.Close())
	r, err := Resume(resumed)
	must(t, err)
	defer r.Close()
	must(t, r.Rewind(20, false)) // not the latest: --resume-from
	wantNames(t, filepath.Join(resumed, checkpointDir), "step-00000010.safetensors", "step-00000020.safetensors")
	steps(resumed, 21, 50)

	names := []string{MetricsFile}
	for _, s := range []int64{30, 40, 50} {
		names = append(names, filepath.Join(checkpointDir, CheckpointName(s)+tensorsExt))
	}
	for _, name := range names {
		want, err := os.ReadFile(filepath.Join(straight, name))
		must(t, err)
		got, err := os.ReadFile(filepath.Join(resumed, name))
		must(t, err)
		if string(got) != string(want) {
			t.Errorf("%s differs from the straight run's", name)
		}
	}
	wantPanic(t, "no lock", func() { (&Run{Dir: resumed}).Rewind(0, false) })

	// An epoch that is to be evaluated again has no record of the first time.
	must(t, r.Rewind(40, true))
	records, err := ReadMetrics(resumed)
	must(t, err)
	if last := records[len(records)-1]; last.Step != 40 || last.Fields[0].Name != "train/loss" || len(records) != 43 {
		t.Errorf("%d records, the last %+v: want 43 up to the step itself", len(records), last)
	}
	files, err := eventFiles(resumed)
	must(t, err)
	for i, path := range files {
		b, err := os.ReadFile(path)
		must(t, err)
		if i == len(files)-1 && (bytes.Count(b, []byte("train/loss")) == 0 || bytes.Count(b, []byte("epoch/accuracy")) != bytes.Count(b, []byte("train/loss"))/10-1) {
			t.Errorf("%d steps and %d epochs are in the last event file", bytes.Count(b, []byte("train/loss")), bytes.Count(b, []byte("epoch/accuracy")))
		}
	}
}
