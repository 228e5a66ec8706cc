package job

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"temper/adversarial/run"
)

var silent = Console{Out: io.Discard, Err: io.Discard}

// startingWeights is a trained network's exported file.
func startingWeights(t *testing.T, assignments ...string) string {
	t.Helper()
	r := trainedWith(t, append([]string{"training.method=standard", "batches.epochs=15"}, assignments...)...)
	path := filepath.Join(t.TempDir(), "start.safetensors")
	if err := Export(silent, ExportOptions{Run: r.Run, Out: path}); err != nil {
		t.Fatal(err)
	}
	return path
}

// Training starts from the file's weights and notes whose they are; stopped and
// gone on with, without the file, it ends with the same bits.
func TestInit(t *testing.T) {
	path := startingWeights(t)
	args := []string{"training.method=pgd-at", "batches.epochs=12", "eval.every=6", "checkpoint.keep=0", "device=cpu", "threads=1", "optimizer.momentum=0.9"}
	settings := func(more ...string) *Settings { s := one(t, append(more, args...)...); return &s }
	folder := func(dir string) func() (string, error) {
		return func() (string, error) { return filepath.Join(dir, "run"), nil }
	}
	straight, stopped := t.TempDir(), t.TempDir()
	s := settings("init.file=" + path)
	if _, err := trainIn(context.Background(), silent, s, folder(straight)); err != nil {
		t.Fatal(err)
	}
	file, err := run.ReadSafetensorsFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, err := run.LoadCheckpoint(filepath.Join(straight, "run"), run.CheckpointName(0))
	if err != nil {
		t.Fatal(err)
	}
	at := byTensorName(first.Tensors)
	for _, want := range file.List {
		if got := at[want.Name]; !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s does not start from the file's", want.Name)
		}
	}
	sum, err := fileSHA256(path)
	if err != nil {
		t.Fatal(err)
	}
	if config, err := os.ReadFile(filepath.Join(straight, "run", run.ConfigFile)); err != nil || !strings.Contains(string(config), "[init]\nfile = '"+path+"'\nsha256 = '"+sum+"'\n") {
		t.Errorf("%v, config.toml %s", err, config)
	}
	elsewhere := filepath.Join(t.TempDir(), "same.safetensors")
	if err := os.Rename(path, elsewhere); err != nil {
		t.Fatal(err)
	}
	moved := settings("init.file="+elsewhere, "init.sha256="+sum)
	if moved.hash() != s.hash() || settings().hash() == s.hash() {
		t.Error("the file's content decides the run, its place does not")
	}
	if _, err := trainIn(&afterCalls{Context: context.Background(), n: 5}, silent, moved, folder(stopped)); !errors.As(err, new(*InterruptedError)) {
		t.Fatalf("not interrupted: %v", err)
	}
	if err := os.Remove(elsewhere); err != nil {
		t.Fatal(err)
	}
	if _, err := resume(context.Background(), silent, filepath.Join(stopped, "run"), "", nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{run.CheckpointName(0), run.CheckpointName(12)} {
		var list [2][]run.Tensor
		for i, dir := range []string{straight, stopped} {
			ck, err := run.LoadCheckpoint(filepath.Join(dir, "run"), name)
			if err != nil {
				t.Fatal(err)
			}
			list[i] = ck.Tensors
		}
		if fingerprint(list[0]) != fingerprint(list[1]) {
			t.Errorf("%s is not that of the undisturbed run", name)
		}
	}
	if err := Import(silent, ImportOptions{File: exportOf(t, filepath.Join(straight, "run")), Out: filepath.Join(t.TempDir(), "again")}); err != nil {
		t.Errorf("what started from a file does not come back: %v", err)
	}
}

func exportOf(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.safetensors")
	if err := Export(silent, ExportOptions{Run: dir, Out: path}); err != nil {
		t.Fatal(err)
	}
	return path
}

// What is not the network's is refused in one line, before there is a folder.
func TestInitRefusals(t *testing.T) {
	path := startingWeights(t)
	text := filepath.Join(t.TempDir(), "text.safetensors")
	if err := os.WriteFile(text, []byte("no tensors"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"model.filters=8"}, `not of patchcnn: "conv.weight" is [80,16,1,1], want [40,16,1,1] (1 of other shapes)`},
		{[]string{"init.file=" + filepath.Join(t.TempDir(), "none")}, "no such file or directory; temper export writes one"},
		{[]string{"init.file=" + text}, text},
		{[]string{"init.sha256=00"}, ", not init.sha256, 00: it has changed, or is another file"},
		{[]string{"model.normalize=given", "model.mean=[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]", "model.std=[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"},
			"its network has the normalisation none, this one given: add --set model.normalize=none"},
	} {
		list, err := Resolve(user(append([]string{"init.file=" + path, "device=cpu", "threads=1"}, c.args...)...))
		if err == nil {
			named := false
			_, err = trainIn(context.Background(), silent, &list[0], func() (string, error) { named = true; return "", errors.New("BUG") })
			if named {
				t.Errorf("%v: a folder was asked for", c.args)
			}
			if dry := tryAll(silent, list); dry == nil || err == nil || dry.Error() != err.Error() {
				t.Errorf("%v: a dry run says %v, a run %v", c.args, dry, err)
			}
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
	if _, err := Resolve(user("init.sha256=00")); err == nil || !strings.Contains(err.Error(), "name it with --init") {
		t.Errorf("a hash without a file: %v", err)
	}
}
