package run

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clock is a terminal of the given width at a time of the test's choosing.
type clock struct {
	bytes.Buffer
	*Progress
	t time.Time
}

func newClock(width, total, batch int) *clock {
	c := &clock{t: noon}
	c.Progress = NewProgress(&c.Buffer, total, batch)
	c.Progress.width = func() int { return width }
	c.Progress.now = func() time.Time { return c.t }
	return c
}

// after lets time pass, makes the step, and returns what was drawn.
func (c *clock) after(d time.Duration, step int, fields ...Field) string {
	c.t = c.t.Add(d)
	c.Reset()
	c.Update(step, fields...)
	return c.String()
}

func TestProgressLine(t *testing.T) {
	c := newClock(100, 200, 128)
	for _, s := range []struct {
		after time.Duration
		step  int
		want  string
	}{
		{time.Hour, 1, "\r[>                                       ] 1/200  epoch 3  loss 1.235\x1b[K"},
		{50 * time.Millisecond, 2, ""},
		{450 * time.Millisecond, 11, "\r[==>                                     ] 11/200  epoch 3  loss 1.235  2560 images/s  ETA 9s\x1b[K"},
		{99 * time.Millisecond, 12, ""},
		{time.Millisecond, 200, "\r[========================================] 200/200  epoch 3  loss 1.235"},
	} {
		got := c.after(s.after, s.step, Field{"epoch", 3}, Field{"loss", 1.23456})
		if s.want == "" && got != "" || !strings.HasPrefix(got, s.want) {
			t.Errorf("step %d drew %q, want %q", s.step, got, s.want)
		}
	}
}

// TestProgressWithoutImages: steps that are not of images have no rate of them.
func TestProgressWithoutImages(t *testing.T) {
	c := newClock(100, 200, 0)
	c.after(time.Hour, 1)
	if got := c.after(500*time.Millisecond, 11); !strings.Contains(got, "] 11/200  ETA 9s") {
		t.Errorf("drew %q", got)
	}
}

// TestProgressLines: where the output is no terminal, a line now and then.
func TestProgressLines(t *testing.T) {
	c := newClock(0, 200, 0)
	c.width = nil
	for _, sparse := range []bool{false, true} {
		if sparse {
			c.Lines("compiling", 30*time.Second)
		}
		for _, s := range []struct {
			after time.Duration
			step  int
			want  string
		}{
			{time.Hour, 0, ""},
			{29 * time.Second, 10, ""},
			{time.Second, 15, "compiling: 15/200  ETA 6m10s\n"},
			{29 * time.Second, 199, ""},
			{time.Second, 200, "compiling: 200/200  ETA 0s\n"},
		} {
			if got := c.after(s.after, s.step); sparse && got != s.want || !sparse && got != "" {
				t.Errorf("sparse %v: step %d printed %q, want %q", sparse, s.step, got, s.want)
			}
		}
	}
	c.Close()
	if got := c.after(time.Hour, 200); got != "" {
		t.Errorf("printed %q when it was closed", got)
	}
}

func TestProgressEpochLine(t *testing.T) {
	c := newClock(80, 100, 10)
	c.EpochLine("before any step")
	if got := c.String(); got != "\r\x1b[Kbefore any step\n" {
		t.Errorf("drew %q", got)
	}
	c.after(0, 1)
	bar := c.after(time.Second, 11)
	if !strings.Contains(bar, "100 images/s  ETA 9s") {
		t.Errorf("drew %q", bar)
	}
	c.Reset()
	c.t = c.t.Add(time.Hour) // an evaluation
	c.EpochLine("epoch 1 done")
	if got := c.String(); got != "\r\x1b[Kepoch 1 done\n"+bar {
		t.Errorf("drew %q", got)
	}
	c.after(time.Second, 12)
	if got := c.after(time.Second, 22); !strings.Contains(got, "100 images/s  ETA 8s") {
		t.Errorf("evaluation changed the speed: %q", got)
	}
	c.Reset()
	c.Close()
	if got := c.String(); got != "\r\x1b[K" {
		t.Errorf("Close drew %q", got)
	}
	if got := c.after(time.Second, 40); got != "" {
		t.Errorf("drew %q after Close", got)
	}
	c.EpochLine("the end")
	c.Close()
	if got := c.String(); got != "the end\n" {
		t.Errorf("drew %q after Close", got)
	}
}

func TestProgressFitsTheTerminal(t *testing.T) {
	for width := range 130 {
		c := newClock(width, 1000, 128)
		c.after(0, 1)
		line := c.after(time.Second, 500, Field{"loss", 0.5}, Field{"accuracy", 0.123456})
		line = strings.TrimSuffix(strings.TrimPrefix(line, "\r"), "\x1b[K")
		if len(line) > max(0, width-1) {
			t.Errorf("width %d: %d columns", width, len(line))
		}
		if hasBar := strings.HasPrefix(line, "["); hasBar != (width >= 73) {
			t.Errorf("width %d: %q", width, line)
		}
	}
}

func TestProgressWithoutTerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stderr")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	p := NewProgress(f, 2, 1)
	p.Update(1, Field{"loss", 1})
	p.EpochLine("epoch 1")
	p.Update(2)
	p.EpochLine("epoch 2")
	p.Close()
	b, err := os.ReadFile(path)
	must(t, err)
	if string(b) != "epoch 1\nepoch 2\n" {
		t.Errorf("wrote %q", b)
	}
}

func TestProgressAllocatesNothingBetweenDraws(t *testing.T) {
	c := newClock(100, 1<<30, 128)
	c.after(0, 1, Field{"loss", 1})
	step := 1
	n := testing.AllocsPerRun(100, func() {
		step++
		c.Update(step, Field{"loss", 1.5}, Field{"accuracy", 0.5})
	})
	if n != 0 {
		t.Errorf("%v allocations a step", n)
	}
}

func TestRate(t *testing.T) {
	var r rate
	if r.perStep() != 0 {
		t.Error("a speed from nothing")
	}
	r.observe(0, 0)
	r.observe(2*time.Second, 1)
	if got := r.perStep(); got != 2 {
		t.Errorf("%v, want 2", got)
	}
	// After a change of speed the old one fades with rateMemory.
	for range 300 {
		r.observe(time.Second, 10)
	}
	if got := r.perStep(); math.Abs(got-0.1) > 1e-4 {
		t.Errorf("%v, want 0.1", got)
	}
}

func TestFormatDuration(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"}, {499 * time.Millisecond, "0s"}, {12 * time.Second, "12s"}, {59500 * time.Millisecond, "1m00s"},
		{200 * time.Second, "3m20s"}, {time.Hour, "1h00m"}, {62*time.Minute + 59*time.Second, "1h02m"}, {50 * time.Hour, "50h00m"},
	} {
		if got := FormatDuration(c.d); got != c.want {
			t.Errorf("%v: %q, want %q", c.d, got, c.want)
		}
	}
}

func TestAppendShort(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 3: "3", 0.123456: "0.1235", 1e-7: "1e-07", 999.94: "999.9", 12345.6: "12346", -2500: "-2500", 1e12: "1e+12",
	} {
		if got := string(appendShort(nil, v)); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}
