//go:build cgo && !windows

package cuda

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"time"

	"temper/cuda/cache"
	"temper/engine/graph"
	"temper/engine/plan"
	"temper/engine/rng"
	"temper/kernels"
)

// tuner chooses how a device computes the contractions of the programs that are
// loaded there. A choice is the recalled record's, of the run that is gone on
// with; else the cache's, of an earlier process; else it is timed, once. Where
// nothing is timed it is the cost model's.
type tuner struct {
	recalled, cached map[string]Choice
	times            map[string]map[string]float64 // of those that were timed: microseconds by problem and choice
	used             map[string]Choice             // by all programs so far
	changed          func() error                  // hears of uses that no record had; or nil
	note             func(line string)             // or nil
	clock            clockFunc                     // or nil
}

// clockFunc says how long each of some candidates takes: the kernels of a plan's
// steps.
type clockFunc func(p *plan.Plan, candidates [][]Kernel) ([]time.Duration, error)

// say tells whoever listens a line.
func (t *tuner) say(format string, args ...any) {
	if t.note != nil {
		t.note(fmt.Sprintf(format, args...))
	}
}

// worthwhile is the share of the time of the cost model's choice that another one
// has to take at most, to be chosen: less is noise.
const worthwhile = 0.97

// Recall implements engine.Tuner.
func (g *gpu) Recall(record []byte) error {
	t, err := ParseTuning(record)
	if err != nil {
		return fmt.Errorf("%w: choices are made anew", err)
	}
	mine := t[g.arch()]
	if mine == nil {
		others := slices.Sorted(maps.Keys(t))
		if len(others) == 0 {
			return nil
		}
		return fmt.Errorf("its choices between kernels were made on %s: on %s they are made anew, and numbers may differ in their last bits", others[0], g.arch())
	}
	g.tuner.recalled = mine.Choices
	return nil
}

// Record implements engine.Tuner.
func (g *gpu) Record(old []byte) []byte {
	t, err := ParseTuning(old)
	if err != nil {
		t = Tuning{}
	}
	own := g.choices(g.tuner.used)
	if before := t[g.arch()]; before != nil { // who came first stays
		maps.Copy(own.Choices, before.Choices)
		maps.Copy(own.Times, before.Times)
	}
	t[g.arch()] = own
	return t.Bytes()
}

// OnChoice implements engine.Tuner.
func (g *gpu) OnChoice(fn func() error) error {
	g.tuner.changed = fn
	if fn == nil || len(g.tuner.used) == 0 {
		return nil
	}
	return fn()
}

// choices are some choices as those that this device made.
func (g *gpu) choices(list map[string]Choice) *Choices {
	c := &Choices{Device: g.Device.Info.Name, Driver: version(g.lib.Version), Source: sourceHash(), Choices: maps.Clone(list), Times: map[string]map[string]float64{}}
	for problem := range list {
		if times := g.tuner.times[problem]; times != nil {
			c.Times[problem] = times
		}
	}
	return c
}

// sourceHash is that of the kernels' templates: others are timed anew.
func sourceHash() string { return cache.Key(kernels.HeaderText()) }

func (g *gpu) arch() string { return Arch(g.Device.Info.Capability) }

// target is what programs that are loaded now are written for.
func (g *gpu) target() target {
	return target{capability: g.Device.Info.Capability, without: g.without, chosen: g.tuner.used, times: g.tuner.times}
}

// tune makes the choices that a plan needs.
func (g *gpu) tune(p *plan.Plan) error {
	var unknown []tunable
	was := len(g.tuner.used)
	for _, c := range tunablesOf(p, g.target()) {
		if _, found := g.tuner.used[c.problem]; found {
			continue
		}
		if choice, found := g.tuner.recalled[c.problem]; found && c.accepts(choice) {
			g.tuner.used[c.problem] = choice
			continue
		} else if found {
			g.tuner.say("the recorded choice for %s, %q, is none that this build can make: it is made anew", c.problem, choice)
		}
		unknown = append(unknown, c)
	}
	if g.tuner.clock == nil {
		for _, c := range unknown {
			g.tuner.used[c.problem] = c.list[0]
		}
	} else if err := g.timeAll(p, unknown); err != nil {
		return err
	}
	if len(g.tuner.used) > was && g.tuner.changed != nil {
		return g.tuner.changed()
	}
	return nil
}

// timeAll chooses by the cache's record, and otherwise by time.
func (g *gpu) timeAll(p *plan.Plan, list []tunable) error {
	g.readCache()
	list = slices.DeleteFunc(list, func(c tunable) bool {
		choice, found := g.tuner.cached[c.problem]
		if found = found && c.accepts(choice); found {
			g.tuner.used[c.problem] = choice
		}
		return found
	})
	if len(list) == 0 {
		return nil
	}
	g.tuner.say("timing kernels for %d contractions on %s: once, TEMPER_TUNE=off leaves it out", len(list), g.Device.Info.Name)
	written := make([][][]Kernel, len(list)) // of each candidate
	var all []Kernel
	for i, c := range list {
		var err error
		if written[i], err = c.kernels(p, g.Device.Info.Capability); err != nil {
			return err
		}
		all = append(all, slices.Concat(written[i]...)...)
	}
	together := g.load(all)
	for i, c := range list {
		if err := g.choose(p, c, written[i], together != nil); err != nil {
			return err
		}
	}
	return g.writeCache()
}

// choose times the candidates for a problem. Where the cost model's cannot be
// timed, for want of memory, it is chosen all the same. Those that cannot be
// loaded, one by one, since there is no compiler and the cache lacks them, are no
// candidates.
func (g *gpu) choose(p *plan.Plan, c tunable, written [][]Kernel, oneByOne bool) error {
	var list []Choice
	var candidates [][]Kernel
	for i, ks := range written {
		if oneByOne && i > 0 && g.load(ks) != nil {
			continue
		}
		if oneByOne && i == 0 {
			if err := g.load(ks); err != nil {
				return err
			}
		}
		if spills, err := g.spill(ks); err != nil {
			return err
		} else if i == 0 || !spills {
			list, candidates = append(list, c.list[i]), append(candidates, ks)
		}
	}
	g.tuner.used[c.problem] = list[0]
	if len(list) == 1 {
		return nil
	}
	times, err := g.tuner.clock(p, candidates)
	if failed := new(Error); errors.As(err, &failed) && failed.Code == outOfMemory {
		return nil
	}
	if err != nil {
		return fmt.Errorf("timing %s (TEMPER_TUNE=off leaves that out): %w", c.problem, err)
	}
	best := 0
	measured := map[string]float64{}
	for i, t := range times {
		measured[list[i].String()] = float64(t.Nanoseconds()) / 1e3
		if t < times[best] {
			best = i
		}
	}
	if float64(times[best]) > worthwhile*float64(times[0]) {
		best = 0
	}
	g.tuner.used[c.problem], g.tuner.times[c.problem] = list[best], measured
	return nil
}

// spill says whether kernels have more in registers than there are.
func (g *gpu) spill(ks []Kernel) (bool, error) {
	for _, k := range ks {
		if n, err := g.functions[k.Name].Attr(AttrLocalBytes); err != nil || n > 0 {
			return n > 0, err
		}
	}
	return false, nil
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9.]+`)

// cacheName is the name of the cache's record: of a GPU, a driver and temper's
// kernels.
func (g *gpu) cacheName() string {
	return fmt.Sprintf("tuning-%s-%s-cuda%s-%.12s.json", notInNames.ReplaceAllString(g.Device.Info.Name, "-"), g.arch(), version(g.lib.Version), sourceHash())
}

// readCache reads the cache's record, once.
func (g *gpu) readCache() {
	if g.tuner.cached != nil {
		return
	}
	g.tuner.cached = map[string]Choice{}
	content, file, err := cache.Read(g.cacheName())
	if err != nil {
		return // nothing is there, or no folder: writeCache says so
	}
	t, err := ParseTuning(content)
	mine := t[g.arch()]
	if err == nil && (mine == nil || mine.Device != g.Device.Info.Name || mine.Driver != version(g.lib.Version) || mine.Source != sourceHash()) {
		err = fmt.Errorf("it is of another device, driver or build")
	}
	if err != nil {
		g.tuner.say("%s: %v: kernels are timed again", file, err)
		return
	}
	g.tuner.cached = mine.Choices
	maps.Copy(g.tuner.times, mine.Times)
}

// writeCache adds what was timed to the cache's record. A cache that cannot be
// written costs the next process the time, not this one's choices.
func (g *gpu) writeCache() error {
	for problem := range g.tuner.times {
		if _, before := g.tuner.cached[problem]; !before {
			g.tuner.cached[problem] = g.tuner.used[problem]
		}
	}
	record := Tuning{g.arch(): g.choices(g.tuner.cached)}
	if err := cache.Write(g.cacheName(), record.Bytes()); err != nil {
		g.tuner.say("the choices between kernels cannot be kept for the next run: %v", err)
	}
	return nil
}

// tuningOff says whether the user wants the cost model's choices.
func tuningOff() bool { return os.Getenv("TEMPER_TUNE") == "off" }

const (
	tuningRounds = 8         // of all candidates in turn; the first one warms up
	evicted      = 128 << 20 // bytes that are written before each: more than caches hold
	noiseValues  = 1 << 16   // different ones in an operand
)

// measure is the clock: the median time of each candidate's kernels, one behind
// the other, on operands that are noise and not in the caches. Candidates take
// turns, so that a GPU that grows warm does it to all of them.
func (g *gpu) measure(p *plan.Plan, candidates [][]Kernel) (_ []time.Duration, err error) {
	b := &tuningBench{program: program{gpu: g, plan: p, base: make([]Ptr, len(p.Buffers))}, runs: make([][]command, len(candidates))}
	defer func() { err = first(err, b.free()) }()
	if err := b.place(candidates); err != nil {
		return nil, err
	}
	times := make([][]time.Duration, len(candidates))
	for range tuningRounds {
		for i := range candidates {
			t, err := b.time(b.runs[i])
			if err != nil {
				return nil, err
			}
			times[i] = append(times[i], t)
		}
	}
	medians := make([]time.Duration, len(candidates))
	for i, list := range times {
		list = list[1:]
		slices.Sort(list)
		medians[i] = list[len(list)/2]
	}
	return medians, nil
}

// tuningBench is memory for candidates, and their launches.
type tuningBench struct {
	program
	runs     [][]command
	evict    Ptr
	size     int
	from, to *Event
}

// place gives the candidates' buffers memory, and fills it.
func (b *tuningBench) place(candidates [][]Kernel) (err error) {
	g := b.gpu
	_, total, err := g.Memory()
	if err != nil {
		return err
	}
	b.size = min(evicted, total/64)
	if b.evict, err = b.alloc(b.size); err != nil {
		return err
	}
	for _, e := range []**Event{&b.from, &b.to} {
		if *e, err = g.NewEvent(true); err != nil {
			return err
		}
	}
	scratch := 0
	for _, k := range slices.Concat(candidates...) {
		scratch = max(scratch, k.Scratch)
		for _, i := range k.Buffers {
			if i == Scratch || b.base[i] != 0 {
				continue
			}
			if b.base[i], err = b.alloc(b.plan.Buffers[i].Bytes()); err != nil {
				return err
			}
			if err := b.fill(b.base[i], &b.plan.Buffers[i]); err != nil {
				return err
			}
		}
	}
	if b.scratch[0], err = b.alloc(scratch); err != nil {
		return err
	}
	for i, ks := range candidates {
		for k := range ks {
			if err := b.launch(&ks[k], 0); err != nil {
				return err
			}
		}
		b.runs[i], b.commands = b.commands, nil
	}
	return nil
}

// fill writes numbers from -1 to 1; integers are 0.
func (b *tuningBench) fill(at Ptr, buffer *plan.Buffer) error {
	bytes := max(buffer.Bytes(), 1)
	if t := buffer.DType; t != graph.F32 && t != graph.BF16 {
		return b.gpu.work.Fill(at, 0, bytes)
	}
	content := noise(buffer.DType, min(noiseValues, buffer.Shape.Size()))
	if err := b.gpu.work.Write(at, content); err != nil {
		return err
	}
	for done := len(content); done < bytes; {
		n := min(done, bytes-done)
		if err := b.gpu.work.Copy(at+Ptr(done), at, n); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// noise is n numbers from -1 to 1 as a type's bytes.
func noise(t graph.DType, n int) (content []byte) {
	s := rng.NewStream(1, "tuning", 0)
	for range n {
		bits := math.Float32bits(2*s.Uniform() - 1)
		if t == graph.F32 {
			content = append(content, byte(bits), byte(bits>>8))
		}
		content = append(content, byte(bits>>16), byte(bits>>24))
	}
	return content
}

// time runs a candidate once.
func (b *tuningBench) time(run []command) (time.Duration, error) {
	work := b.gpu.work
	if err := first(work.Fill(b.evict, 1, b.size), work.Record(b.from)); err != nil {
		return 0, err
	}
	for i := range run {
		if err := run[i].put(work); err != nil {
			return 0, err
		}
	}
	if err := first(work.Record(b.to), work.Synchronize()); err != nil {
		return 0, err
	}
	return b.to.Since(b.from)
}

func (b *tuningBench) free() error {
	errs := []error{b.gpu.work.Synchronize()}
	for _, run := range append(b.runs, b.commands) {
		b.commands = run
		b.forget()
	}
	for _, e := range []*Event{b.from, b.to} {
		if e != nil {
			errs = append(errs, e.Close())
		}
	}
	for _, p := range b.owned {
		errs = append(errs, b.gpu.Device.Free(p))
	}
	return first(errs...)
}
