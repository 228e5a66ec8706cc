package job

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestEvents: training shows TensorBoard the numbers, the attacked examples of
// every evaluation and the weights of every checkpoint. What TensorBoard makes of
// the files is a test of package run.
func TestEvents(t *testing.T) {
	r := trainedWith(t, append(stripes(t), "batches.epochs=3", "eval.every=2", "checkpoint.every=3")...)
	files, err := filepath.Glob(filepath.Join(r.Run, "events.out.tfevents.*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("event files %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]int{
		"epoch/loss": 3, "adversarial/examples": 2, "\x89PNG": 2, "weights/conv1.weight": 1, "weights/bn.num_batches_tracked": 0, "optimizer/": 0,
	} {
		if n := bytes.Count(b, []byte(tag)); n != want {
			t.Errorf("%q is there %d times, want %d", tag, n, want)
		}
	}
}
