package bench

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"temper/engine"
	_ "temper/engine/cpu"
)

func open(t testing.TB) *engine.Device {
	t.Helper()
	d, err := engine.Open("cpu", engine.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// BenchmarkSteps runs every case under go test -bench, for profiles.
func BenchmarkSteps(b *testing.B) {
	dev := open(b)
	for _, s := range Suite("all", regexp.MustCompile("")) {
		b.Run(s.Name(), func(b *testing.B) {
			p, err := prepare(dev, s, engine.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer p.close()
			b.ResetTimer()
			for range b.N {
				if _, err := runOnce(dev, p); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(p.flops*float64(b.N)/b.Elapsed().Seconds()*1e-9, "GFLOP/s")
		})
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Suite("all", regexp.MustCompile("")) {
		if seen[s.Name()] {
			t.Errorf("two cases are named %s", s.Name())
		}
		seen[s.Name()] = true
	}
}

// The operations are counted by the definition: by hand, for one of each kind.
func TestFLOPs(t *testing.T) {
	dev := open(t)
	const convolution = 2 * 2 * 8 * 8 * 5 * 3 * 9 // batch 2, 8×8, 3 to 5 channels, 3×3
	small := Spec{Batch: 2, Channels: 3, Out: 5, Size: 8, Kernel: 3, Stride: 1}
	for kind, want := range map[string]float64{
		"matmul": 2 * 8 * 8 * 8, "conv2d": convolution, "conv2d-input-grad": convolution, "conv2d-filter-grad": convolution,
	} {
		small.Kind = kind
		p, err := prepare(dev, small, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if p.flops != want {
			t.Errorf("%s: %v operations, want %v", kind, p.flops, want)
		}
		p.close()
	}
	// Ten ascents add ten forward and ten backward passes without weight
	// gradients to a step of three passes, of which the first layer's needs none
	// to its input.
	standard, attack := flops(t, dev, "standard", 0), flops(t, dev, "pgd-at", 10)
	if ratio := attack / standard; ratio < 7 || ratio > 8.5 {
		t.Errorf("PGD-10 costs %.2f times a standard step", ratio)
	}
}

func flops(t *testing.T, dev *engine.Device, method string, steps int) float64 {
	t.Helper()
	p, err := prepare(dev, step("cifar-small", method, steps, 2), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	return p.flops
}

// For n times, the interval's ranks against the binomial distribution, summed.
func TestInterval(t *testing.T) {
	for _, n := range []int{3, 8, 30, 100, 400} {
		times := make(Times, n)
		for i := range times {
			times[i] = float64(i)
		}
		lo, hi := times.Interval()
		inside, p := 0.0, math.Pow(0.5, float64(n))
		for below := 0; below <= n; below++ { // times below the true median
			if float64(below) > lo && float64(below) <= hi {
				inside += p
			}
			p *= float64(n-below) / float64(below+1)
		}
		if lo > 0 && (inside < 0.92 || inside > 0.99) {
			t.Errorf("%d times: ranks %v to %v hold the median with %.3f", n, lo, hi, inside)
		}
		if m := times.Median(); m < lo || m > hi {
			t.Errorf("%d times: the median %v is outside %v to %v", n, m, lo, hi)
		}
	}
}

// fakePeer is a Python that answers as the twin would.
const fakePeer = `#!/bin/sh
while read line; do
  case "$line" in
    *open*) echo '{"torch": "9.9", "detail": "NONE"}' ;;
    *prepare*compile*) echo '{"error": "RuntimeError: no compiler"}' ;;
    *prepare*channels_last*) echo '{"skip": true}' ;;
    *prepare*) echo '{}' ;;
    *) echo '{"seconds": 0.25}' ;;
  esac
done
`

// TestRunInterrupted: an interrupt ends it before the next case, without a report.
func TestRunInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, progress bytes.Buffer
	c := Command{Suite: "kernels", Match: "^conv2d/.*3-64@", Device: "cpu", Threads: 1, Seconds: 0.001, Format: "table", Precision: "float32"}
	if err := c.Run(ctx, &out, &progress); !errors.Is(err, context.Canceled) || out.Len() > 0 || progress.Len() > 0 {
		t.Errorf("%v, printed %q, said %q", err, &out, &progress)
	}
}

func TestMeasureWithPeer(t *testing.T) {
	python := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(python, []byte(fakePeer), 0o755); err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	c := Command{Suite: "kernels", Match: "^conv2d/.*3-64@", Device: "cpu", Threads: 1, Seconds: 0.001, Peer: true, Python: python, Format: "table", Precision: "float32"}
	if err := c.Run(t.Context(), &out, &progress); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PyTorch 9.9, NONE", "conv2d/3x3/3-64@32/batch=128", "250", "nchw", "ceilings: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, out.String())
		}
	}
	if !strings.Contains(progress.String(), "compile: peer: RuntimeError: no compiler") {
		t.Errorf("the failed variant is not told: %s", progress.String())
	}
	out.Reset()
	c.Format = "go"
	if err := c.Run(t.Context(), &out, &progress); err != nil {
		t.Fatal(err)
	}
	if line := regexp.MustCompile(`(?m)^Benchmarkconv2d/3x3/3-64@32/batch=128/peer=nchw 1 250000000 ns/op$`); !line.MatchString(out.String()) {
		t.Errorf("not Go's format:\n%s", out.String())
	}
}

func TestPeerErrors(t *testing.T) {
	_, err := OpenPeer(filepath.Join(t.TempDir(), "python"), 1, false, "float32")
	if err == nil || !strings.Contains(err.Error(), "--python") || strings.Contains(err.Error(), "\n") {
		t.Errorf("no interpreter: %v", err)
	}
	bare := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(bare, []byte("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = OpenPeer(bare, 1, false, "float32")
	if err == nil || !strings.Contains(err.Error(), "No module named 'torch'; install torch") {
		t.Errorf("no torch: %v", err)
	}
}

func TestCheck(t *testing.T) {
	good := Command{Suite: "cpu", Seconds: 1, Format: "table", Precision: "float32"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Command){
		"--match":     func(c *Command) { c.Match = "(" },
		"--suite":     func(c *Command) { c.Suite = "tpu" },
		"--format":    func(c *Command) { c.Format = "xml" },
		"--precision": func(c *Command) { c.Precision = "fp8" },
		"--skip":      func(c *Command) { c.Skip = []string{"eager"} },
		"--seconds":   func(c *Command) { c.Seconds = 0 },
	} {
		c := good
		spoil(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// The real twin runs every kind of case, where a Python with torch is at hand.
// TEMPER_REQUIRE=torch makes one a must; CI has none, since peers are no part of
// it.
func TestTwin(t *testing.T) {
	python, err := exec.LookPath("python3")
	if p := os.Getenv("TEMPER_PEER_PYTHON"); p != "" {
		python, err = p, nil
	}
	if err == nil {
		err = exec.Command(python, "-c", "import torch").Run()
	}
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "torch") {
			t.Fatal("TEMPER_REQUIRE lists torch, but no python3 with torch was found (TEMPER_PEER_PYTHON)")
		}
		t.Skip("no python3 with torch (TEMPER_PEER_PYTHON)")
	}
	p, err := OpenPeer(python, 1, false, "float32")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	cases := append(Suite("all", regexp.MustCompile("cifar|matmul|64@32")), step("mnist-madry", "fgsm-rs", 1, 2), step("preactresnet18", "trades", 2, 2))
	for _, s := range cases {
		if s.Kind == "step" {
			s.Batch, s.Steps = 2, min(s.Steps, 1)
		}
		for _, v := range []string{"nchw", "channels_last"} {
			ok, err := p.prepare(s, v)
			if err != nil || ok != (s.Kind != "matmul" || v == "nchw") {
				t.Fatalf("%s, %s: %v, %v", s.Name(), v, ok, err)
			}
			if !ok {
				continue
			}
			if sec, err := p.run(v); err != nil || sec <= 0 || sec > time.Minute.Seconds() {
				t.Errorf("%s, %s: %v s, %v", s.Name(), v, sec, err)
			}
		}
	}
}
