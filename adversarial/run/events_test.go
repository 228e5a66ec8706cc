package run

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tensorboard is an interpreter with TensorBoard: TEMPER_PYTHON, or python3.
// Without one it skips the test, or fails it where TEMPER_REQUIRE lists
// "tensorboard".
func tensorboard(t *testing.T) string {
	t.Helper()
	name := os.Getenv("TEMPER_PYTHON")
	if name == "" {
		name = "python3"
	}
	if err := exec.Command(name, "-c", "import PIL, tensorboard.backend.event_processing.event_accumulator").Run(); err != nil {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "tensorboard") {
			t.Fatalf("TEMPER_REQUIRE lists tensorboard, but %s has none (TEMPER_PYTHON): %v", name, err)
		}
		t.Skipf("%s has no tensorboard (TEMPER_PYTHON)", name)
	}
	return name
}

// board is what TensorBoard reads.
type board struct {
	Scalars, Images, Histograms map[string][][]any
}

func readBoard(t *testing.T, dir string) (b board) {
	t.Helper()
	command := exec.Command(tensorboard(t), filepath.Join("testdata", "tensorboard_read.py"), dir)
	command.Stderr = os.Stderr
	out, err := command.Output()
	must(t, err)
	must(t, json.Unmarshal(out, &b))
	return b
}

// log writes the records of steps from+1 to to, as a training does.
func log(t *testing.T, dir string, from, to int64) {
	t.Helper()
	m, err := OpenMetrics(dir)
	must(t, err)
	defer m.Close()
	for step := from + 1; step <= to; step++ {
		must(t, m.Write(Record{Step: step, Fields: []Field{{"train/loss", 1 / float64(step)}, {"train/lr", 0.25}}}))
		if step%10 == 0 {
			must(t, m.Write(Record{Step: step, Epoch: 1, Fields: []Field{{"test/robust", math.NaN()}}}))
			must(t, m.WritePictures(step, &Pictures{Domain: "unit", Labels: []int32{0, 0},
				X:   Array{Shape: []int{2, 3, 1, 2}, Values: []float32{0, float32(step) / 255, 0, 2.0 / 255, 0, 3.0 / 255, 0, 0, 0, 0, 0, 0}},
				Adv: Array{Shape: []int{2, 3, 1, 2}, Values: []float32{0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0}}}))
			weights := binary.LittleEndian.AppendUint32(nil, math.Float32bits(-2))
			for range 3 {
				weights = binary.LittleEndian.AppendUint32(weights, math.Float32bits(float32(step)))
			}
			must(t, m.WriteHistograms(step, "weights", []Tensor{{Name: "conv", DType: "F32", Shape: []int{4}, Data: weights}, {Name: "n", DType: "I64", Data: make([]byte, 8)}}))
		}
	}
}

// TestTensorBoard reads a run with TensorBoard's own reader: one that was stopped,
// taken back and gone on with twice has each step once.
func TestTensorBoard(t *testing.T) {
	root := t.TempDir()
	straight, resumed := filepath.Join(root, "straight"), filepath.Join(root, "resumed")
	for _, dir := range []string{straight, resumed} {
		r, err := Create(dir)
		must(t, err)
		must(t, WriteConfig(dir, &settings{}))
		must(t, r.Close())
	}
	log(t, straight, 0, 30)
	for _, back := range []struct{ to, stop int64 }{{0, 17}, {10, 25}, {10, 13}, {13, 30}} {
		r, err := Resume(resumed)
		must(t, err)
		must(t, r.Rewind(back.to, false))
		log(t, resumed, back.to, back.stop)
		// A killed process leaves half a record behind.
		files, err := eventFiles(resumed)
		must(t, err)
		f, err := os.OpenFile(files[len(files)-1], os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.Write([]byte{50, 0, 0, 0, 0, 0, 0, 0, 1, 2})
		must(t, err)
		must(t, f.Close())
		must(t, r.Close())
	}
	want, got := readBoard(t, straight), readBoard(t, resumed)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-straight +resumed:\n%s", diff)
	}
	if loss := got.Scalars["train/loss"]; len(loss) != 30 || loss[3][0] != 4.0 || loss[3][1] != 0.25 || loss[29][0] != 30.0 {
		t.Errorf("train/loss: %v", loss)
	}
	if diff := cmp.Diff([][]any{{10.0, "nan"}, {20.0, "nan"}, {30.0, "nan"}}, got.Scalars["test/robust"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{20.0, 5.0, 5.0, []any{20.0, 2.0, 3.0, 255.0}}, got.Images["adversarial/examples"][1]); diff != "" {
		t.Error(diff)
	}
	buckets := make([]any, bins)
	for i := range buckets {
		buckets[i] = 0.0
	}
	buckets[0], buckets[bins-1] = 1.0, 3.0
	if diff := cmp.Diff([]any{20.0, -2.0, 20.0, 4.0, 58.0, 1204.0, buckets}, got.Histograms["weights/conv"][1]); diff != "" {
		t.Error(diff)
	}
	if len(got.Histograms) != 1 {
		t.Errorf("%d histograms", len(got.Histograms))
	}
}

// TestSheet draws grey images and what was added to them.
func TestSheet(t *testing.T) {
	p := &Pictures{Domain: "unit", Labels: []int32{0, 1},
		X:   Array{Shape: []int{2, 1, 1, 1}, Values: []float32{0.4, 1}},
		Adv: Array{Shape: []int{2, 1, 1, 1}, Values: []float32{0.6, 0.9}}}
	img := p.sheet()
	var got []uint8
	for y := range 5 {
		for x := range 3 {
			c := img.NRGBAAt(x, y)
			if c.R != c.G || c.G != c.B {
				t.Errorf("(%d,%d) is %v", x, y, c)
			}
			if got = append(got, c.R); (c.A == 255) != (x != 1 && y%2 == 0) {
				t.Errorf("(%d,%d) is %v", x, y, c)
			}
		}
	}
	if want := []uint8{102, 0, 255, 0, 0, 0, 153, 0, 230, 0, 0, 0, 255, 0, 64}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if p.Domain = "free"; p.sheet() != nil {
		t.Error("what is no image is drawn")
	}
}

// TestEventBytes is a record by hand: the crc of "123456789" is the published
// check value of CRC-32C.
func TestEventBytes(t *testing.T) {
	if c := uint32(0xe3069283); masked([]byte("123456789")) != (c>>15|c<<17)+0xa282ead8 {
		t.Error("the checksum is not CRC-32C")
	}
	dir := t.TempDir()
	log(t, dir, 0, 3)
	files, err := eventFiles(dir)
	must(t, err)
	b, err := os.ReadFile(files[0])
	must(t, err)
	first, n := frame(b)
	if !bytes.HasSuffix(first, []byte("\x1a\x0dbrain.Event:2")) {
		t.Errorf("the first record is %q", first)
	}
	mark, start := frame(b[n:])
	if string(mark[9:]) != "\x10\x01\x3a\x02\x08\x01" { // step 1, session_log {status: START}
		t.Errorf("the second record is %q", mark)
	}
	n += start
	second, m := frame(b[n:])
	want := "\x10\x01\x2a\x25" + "\x0a\x11\x0a\x0atrain/loss\x15\x00\x00\x80\x3f" + "\x0a\x0f\x0a\x08train/lr\x15\x00\x00\x80\x3e"
	want = strings.Replace(want, "\x25", string(rune(len(want)-4)), 1)
	if string(second[9:]) != want { // behind the time
		t.Errorf("the third record is %q, want %q", second[9:], want)
	}
	for _, i := range []int{3, 9, 20, m - 1} { // in the length, its checksum, the data, theirs
		bad := bytes.Clone(b)
		bad[n+i] ^= 1
		if end, summaries := keepEvents(bad, 99, false); end != n || summaries != 0 {
			t.Errorf("damaged at %d: %d bytes and %d summaries are kept", i, end, summaries)
		}
	}
	for cut := range len(b) {
		if end, _ := keepEvents(b[:cut], 99, false); end > cut {
			t.Errorf("cut at %d: %d bytes are kept", cut, end)
		}
	}
}

// TestHistogram: values that are not finite have no bin; equal ones have one.
func TestHistogram(t *testing.T) {
	inf := float32(math.Inf(1))
	if !bytes.Equal(histogram([]float32{1, inf, -inf, float32(math.NaN()), 2}), histogram([]float32{1, 2})) {
		t.Error("a value that is not finite counts")
	}
	for _, v := range [][]float32{nil, {inf}, {3, 3, 3}} {
		if h := histogram(v); len(h) == 0 || bytes.Contains(h, []byte("\xf8\x7f")) {
			t.Errorf("%v: %q", v, h)
		}
	}
}
