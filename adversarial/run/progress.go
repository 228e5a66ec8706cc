package run

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	redrawEvery = 100 * time.Millisecond
	// rateMemory is how far back the speed looks: a stretch of time this old
	// counts 1/e of what it did.
	rateMemory = 30 * time.Second
)

// Progress shows how far a loop of steps has come, as one line that is drawn
// over and over on a terminal:
//
//	[=========>          ] 1200/3900  epoch 3  loss 1.834  2310 images/s  ETA 3m20s
//
// Where the output is not a terminal (or TERM is dumb) only the lines given to
// EpochLine appear, and those that Lines asks for. The line has no colours, so NO_COLOR has nothing to turn
// off. Output errors are ignored: a closed terminal must not end a run.
// Progress may be used from any goroutine.
type Progress struct {
	mu    sync.Mutex
	w     io.Writer
	width func() int // columns of the terminal; nil if it is none
	now   func() time.Time
	lines time.Duration // where it is no terminal, from one line to the next; 0: there are none
	label string        // of lines

	total, batch int

	step     int
	fields   []Field
	rate     rate
	mark     time.Time // when markStep was seen; zero: the clock stands still
	markStep int
	drawn    time.Time
	line     []byte
}

// NewProgress shows total steps of batch images each on w, as a rule
// os.Stderr; where batch is 0, of no images that could be counted.
func NewProgress(w io.Writer, total, batch int) *Progress {
	p := &Progress{w: w, now: time.Now, total: total, batch: batch}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.width = func() int {
			columns, _, err := term.GetSize(int(f.Fd()))
			if err != nil || columns <= 0 {
				return 80
			}
			return columns
		}
	}
	return p
}

// Lines has Update print a line with a label now and then where the output is not a
// terminal, the first one after that time.
func (p *Progress) Lines(label string, every time.Duration) { p.label, p.lines = label, every }

// Update says that step of the total are done, and what to show beside the
// bar. It draws at most ten times a second, and allocates nothing in between.
func (p *Progress) Update(step int, fields ...Field) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width == nil && p.lines == 0 {
		return
	}
	now := p.now()
	if p.mark.IsZero() {
		p.mark, p.markStep = now, step
	}
	if p.width == nil && now.Sub(p.mark) < p.lines || p.width != nil && now.Sub(p.drawn) < redrawEvery && step < p.total {
		return
	}
	p.step = step
	p.fields = append(p.fields[:0], fields...)
	p.rate.observe(now.Sub(p.mark), step-p.markStep)
	p.mark, p.markStep = now, step
	p.drawn = now
	if p.width == nil {
		fmt.Fprintf(p.w, "%s: %s\n", p.label, p.appendText(nil))
		return
	}
	p.draw()
}

// EpochLine prints a line that stays, above the bar. The time since the last
// Update does not count as time of steps: evaluation at the end of an epoch
// leaves images/s and ETA as they were.
func (p *Progress) EpochLine(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width == nil {
		fmt.Fprintln(p.w, line)
		return
	}
	p.mark = time.Time{}
	fmt.Fprint(p.w, clearLine, line, "\n")
	if !p.drawn.IsZero() {
		p.draw()
	}
}

// Close takes the bar away. After it Update draws no more; EpochLine prints.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width != nil && !p.drawn.IsZero() {
		fmt.Fprint(p.w, clearLine)
	}
	p.width, p.lines = nil, 0
}

const (
	clearLine  = "\r\x1b[K"
	maxBar     = 40
	barBorders = len("[] ")
)

// draw writes the whole line in one write, so that it does not flicker.
func (p *Progress) draw() {
	width := p.width() - 1 // a full last column would wrap
	text := p.appendText(nil)
	b := append(p.line[:0], '\r')
	// In whole tens, so that the bar keeps its width while the numbers change.
	if bar := min(maxBar, width-barBorders-len(text)) / 10 * 10; bar > 0 {
		b = appendBar(b, bar, p.step, p.total)
	}
	b = append(b, text...)
	b = b[:min(len(b), 1+max(0, width))]
	b = append(b, "\x1b[K"...)
	p.line = b
	p.w.Write(b)
}

func appendBar(b []byte, width, step, total int) []byte {
	full := width
	if step < total {
		full = width * max(0, step) / total
	}
	b = append(b, '[')
	b = append(b, bytes.Repeat([]byte("="), full)...)
	if full < width {
		b = append(b, '>')
		b = append(b, bytes.Repeat([]byte(" "), width-full-1)...)
	}
	return append(b, "] "...)
}

// appendText appends what stands right of the bar.
func (p *Progress) appendText(b []byte) []byte {
	b = fmt.Appendf(b, "%d/%d", p.step, p.total)
	for _, f := range p.fields {
		b = append(b, "  "...)
		b = append(b, f.Name...)
		b = append(b, ' ')
		b = appendShort(b, f.Value)
	}
	if perStep := p.rate.perStep(); perStep > 0 {
		left := time.Duration(float64(p.total-p.step) * perStep * float64(time.Second))
		if p.batch > 0 {
			b = append(b, "  "...)
			b = appendShort(b, float64(p.batch)/perStep)
			b = append(b, " images/s"...)
		}
		b = append(b, "  ETA "...)
		b = append(b, FormatDuration(left)...)
	}
	return b
}

// appendShort writes four digits of v, or all of them left of the point.
func appendShort(b []byte, v float64) []byte {
	if a := math.Abs(v); a >= 1000 && a < 1e9 {
		return strconv.AppendFloat(b, v, 'f', 0, 64)
	}
	return strconv.AppendFloat(b, v, 'g', 4, 64)
}

// rate is an exponential moving average of seconds a step, as a quotient of
// two decaying sums: it needs no first guess.
type rate struct{ seconds, steps float64 }

func (r *rate) observe(d time.Duration, steps int) {
	keep := math.Exp(-float64(d) / float64(rateMemory))
	r.seconds = keep*r.seconds + d.Seconds()
	r.steps = keep*r.steps + float64(steps)
}

// perStep is 0 while nothing is known.
func (r *rate) perStep() float64 {
	if r.steps <= 0 {
		return 0
	}
	return r.seconds / r.steps
}

// FormatDuration writes a duration as people say it: "12s", "3m20s", "1h02m".
func FormatDuration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
}
