package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"temper/adversarial/run"
)

// Limits of what is kept of metrics.jsonl, whatever its size.
const (
	mostSeries = 64
	mostPoints = 512 // of a series; an even number
)

// Curves sums up metrics.jsonl in bounded memory: a long series is thinned by
// joining neighbours.
type Curves struct {
	Step  int64 // of the last record
	Epoch int
	named map[string]*Series
	order []string
	// Dropped counts names beyond the limit.
	Dropped int
}

// Series is one named number over the steps.
type Series struct {
	Name   string
	Points []Point
	Last   float64 // the last finite value
	Bad    int     // values that are NaN or infinite
	BadAt  int64   // the step of the first of them
	each   int     // values a full point stands for
}

// Point stands for some successive values of a series.
type Point struct {
	Step           int64 // of the last of them
	Mean, Min, Max float64
	n              int
}

// Add takes a record over.
func (c *Curves) Add(r run.Record) {
	c.Step, c.Epoch = r.Step, max(c.Epoch, r.Epoch)
	for _, f := range r.Fields {
		if s := c.series(f.Name); s != nil {
			s.add(r.Step, f.Value)
		}
	}
}

func (c *Curves) series(name string) *Series {
	if s := c.named[name]; s != nil {
		return s
	}
	if len(c.order) == mostSeries {
		c.Dropped++
		return nil
	}
	if c.named == nil {
		c.named = map[string]*Series{}
	}
	s := &Series{Name: name, each: 1}
	c.named[name] = s
	c.order = append(c.order, name)
	return s
}

// Get is the series of a name, nil if there is none with a finite value.
func (c *Curves) Get(name string) *Series {
	if s := c.named[name]; s != nil && len(s.Points) > 0 {
		return s
	}
	return nil
}

// Any is the series of a name that Names lists, which may have no finite value.
func (c *Curves) Any(name string) *Series { return c.named[name] }

// Names lists the series in the order of their first values.
func (c *Curves) Names() []string { return slices.Clone(c.order) }

// alarmPrefix starts the names of the training's alarms, which are 1 while they
// hold.
const alarmPrefix = "alarm/"

// Alarms says which alarms held, and when, a line each.
func (c *Curves) Alarms() (lines []string) {
	for _, name := range c.order {
		alarm, ok := strings.CutPrefix(name, alarmPrefix)
		if !ok || strings.HasPrefix(alarm, "rollback") {
			continue
		}
		first, last := int64(-1), int64(0)
		for _, p := range c.named[name].Points {
			if p.Max >= 1 {
				if last = p.Step; first < 0 {
					first = p.Step
				}
			}
		}
		if first < 0 {
			continue
		}
		line := fmt.Sprintf("%s, from step %d", strings.ReplaceAll(alarm, "_", " "), first)
		if c.named[name].Last >= 1 {
			line += " to the end"
		} else {
			line += fmt.Sprintf(", last at step %d", last)
		}
		lines = append(lines, line)
	}
	return lines
}

// widest is the largest number that is drawn as it is: sums and differences of
// such stay finite.
const widest = 1e100

func (s *Series) add(step int64, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		if s.Bad == 0 {
			s.BadAt = step
		}
		s.Bad++
		return
	}
	s.Last = v
	v = max(-widest, min(widest, v))
	if n := len(s.Points); n > 0 && s.Points[n-1].n < s.each {
		s.Points[n-1] = join(s.Points[n-1], Point{step, v, v, v, 1})
		return
	}
	if len(s.Points) == mostPoints {
		for i := range mostPoints / 2 {
			s.Points[i] = join(s.Points[2*i], s.Points[2*i+1])
		}
		s.Points = s.Points[:mostPoints/2]
		s.each *= 2
	}
	s.Points = append(s.Points, Point{step, v, v, v, 1})
}

func join(a, b Point) Point {
	n := a.n + b.n
	mean := a.Mean + (b.Mean-a.Mean)*float64(b.n)/float64(n)
	return Point{b.Step, mean, min(a.Min, b.Min), max(a.Max, b.Max), n}
}

// Thinned is the series with at most n points.
func (s *Series) Thinned(n int) []Point {
	group := (len(s.Points) + n - 1) / n
	var out []Point
	for some := range slices.Chunk(s.Points, max(group, 1)) {
		p := some[0]
		for _, q := range some[1:] {
			p = join(p, q)
		}
		out = append(out, p)
	}
	return out
}
