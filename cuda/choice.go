package cuda

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"temper/engine/graph"
	"temper/engine/plan"
)

// Choice is how a contraction is computed. What is summed in which order follows
// from it, so a run that is to repeat another's numbers has to make the same ones.
type Choice struct {
	Way           string // onWGMMA or onMMA
	Rows, Columns int    // of a tile
	Stages        int    // of operands in shared memory
	Parts         int    // that the products are added up in
}

// The ways of computing a contraction: conv_sm90.h, with pixels in strips or not, by
// groups that take turns or not, blocks in pairs or not, the operands crossed or not;
// tensor.h, which serves float32 without tensor cores too; and that with taps for
// columns.
const (
	onWGMMA  = "wgmma"
	inStrips = " in strips"
	inTurns  = " in turns"
	inPairs  = " in pairs"
	crossed  = ", crossed"
	onMMA    = "mma.sync"
	onTaps   = "mma.sync by taps"
)

// features are the words for parts of a way that the user can have left out.
var features = []string{onWGMMA, "strips", "turns", "pairs", "crossed"}

// leftOut lists the words of TEMPER_CUDA_WITHOUT.
func leftOut() ([]string, error) {
	list := strings.FieldsFunc(os.Getenv("TEMPER_CUDA_WITHOUT"), func(r rune) bool { return r == ',' || r == ' ' })
	for _, word := range list {
		if !slices.Contains(features, word) {
			return nil, fmt.Errorf("TEMPER_CUDA_WITHOUT: nothing is called %q: there are %s", word, strings.Join(features, ", "))
		}
	}
	return list, nil
}

func (c Choice) tile() tensorTile { return tensorTile{c.Rows, c.Columns} }

const choiceFormat = "tiles of %d x %d, %d stages, %d parts"

// String is how records have it: "wgmma: tiles of 128 x 128, 6 stages, 1 parts".
func (c Choice) String() string {
	return c.Way + ": " + fmt.Sprintf(choiceFormat, c.Rows, c.Columns, c.Stages, c.Parts)
}

// MarshalText implements encoding.TextMarshaler.
func (c Choice) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Choice) UnmarshalText(text []byte) error {
	way, rest, _ := strings.Cut(string(text), ": ")
	d := Choice{Way: way}
	_, err := fmt.Sscanf(rest, choiceFormat, &d.Rows, &d.Columns, &d.Stages, &d.Parts)
	if err != nil || d.String() != string(text) {
		return fmt.Errorf("%q is no choice like %q", text, Choice{onMMA, 128, 64, usualStages, 1})
	}
	*c = d
	return nil
}

// ranked is a choice and the cost model's estimate of its time.
type ranked struct {
	Choice
	cost float64
}

// sorted puts the cheapest first; of equal ones, the one that came first.
func sorted(list []ranked) []ranked {
	slices.SortStableFunc(list, func(a, b ranked) int {
		switch {
		case a.cost < b.cost:
			return -1
		case a.cost > b.cost:
			return 1
		}
		return 0
	})
	return list
}

// accepts says whether the operation can be computed so. Records come from
// elsewhere.
func (op *tensorOp) accepts(c Choice) bool {
	stages := []int{usualStages, usualStages + 1}
	if op.wgmma != nil {
		if !slices.Contains(sm90Tiles, c.tile()) || c.Parts < 1 {
			return false
		}
		most, _ := op.stagesOf(division{tensorTile: c.tile(), parts: c.Parts})
		stages = nil
		for s := fewestStages; s <= most; s++ {
			stages = append(stages, s)
		}
	}
	return slices.Contains(stages, c.Stages) && slices.ContainsFunc(op.estimates(op.splits != never), func(r ranked) bool {
		return r.Way == c.Way && r.tile() == c.tile() && r.Parts == c.Parts
	})
}

// Of the ways that the cost model compares with each other at most mostCandidates are
// worth a measurement, of others one, and none that it takes to be hopeless: so many
// times as slow as its own choice.
const (
	mostCandidates = 10
	hopeless       = 2.5
)

// candidates are the choices between ways that are worth a measurement, the
// cost model's own first: then the best with and without each feature, on which it has
// not been measured, and those that it ranks highest, with and without an epilogue, but
// of one way and tile only numbers of parts that are far apart, and the best of tensor.h
// with one stage more.
func candidates(ops []*tensorOp) (list []Choice) {
	for first := 0; first < len(ops); {
		own := []Choice{ops[first].rank()[0].Choice}
		rank, next := ranks(ops[first:], (*tensorOp).rank)
		all, _ := ranks(ops[first:], func(op *tensorOp) []ranked { return op.estimates(op.splits != never) })
		add := func(r ranked) {
			near := func(c Choice) bool {
				return c.Way == r.Way && c.tile() == r.tile() && 2*min(c.Parts, r.Parts) > max(c.Parts, r.Parts)
			}
			if len(own) < mostCandidates && r.cost < hopeless*rank[0].cost && !slices.ContainsFunc(own, near) {
				own = append(own, r.Choice)
			}
		}
		for _, feature := range features {
			for _, with := range []bool{true, false} {
				if i := slices.IndexFunc(rank, func(r ranked) bool { return strings.Contains(r.Way, feature) == with }); i >= 0 {
					add(rank[i])
				}
			}
		}
		for _, r := range all {
			add(r)
		}
		if op := ops[first]; op.wgmma == nil {
			deeper := own[0]
			deeper.Stages++
			if op.tensorTile = deeper.tile(); op.tensorTile.shared(op.t.Size(), deeper.Stages, op.aAlongK, op.bAlongK) <= smallestShared {
				own = append(own, deeper)
			}
		}
		if first > 0 {
			own = own[:1]
		}
		list = append(list, own...)
		first += next
	}
	return list
}

// ranks is what a cost model says of the first way and of those behind it that it
// compares it with, the cheapest first, and how many these are.
func ranks(ops []*tensorOp, model func(*tensorOp) []ranked) (list []ranked, n int) {
	for n = 0; n < len(ops) && (n == 0 || ops[0].wgmma != nil && ops[n].wgmma != nil); n++ {
		list = append(list, model(ops[n])...)
	}
	return sorted(list), n
}

// smallestShared is the shared memory that a block can have on every device that
// temper serves, sm_86's.
const smallestShared = 99 << 10

// problem names what a choice is for, in words that people can read: a contraction,
// whether its image is normalised on the way, and whether a group stands behind
// that could be computed with it.
func problem(n *graph.Node, w *way, behind bool) string {
	a := n.Attrs()
	text := fmt.Sprintf("%v of %v%v %v -> %v", n.Op(), n.DType(), n.In(0).Shape(), n.In(1).Shape(), n.Shape())
	if n.Op() == graph.OpMatMul {
		text += fmt.Sprintf(", transposed %v %v", a.TA, a.TB)
	} else {
		text += fmt.Sprintf(", stride %v, pad %v, dilation %v", a.Stride, a.Pad, a.Dilation)
	}
	if n.DType() == graph.F32 {
		text += fmt.Sprintf(", %v", a.Precision)
	}
	if w != nil {
		text += ", normalised on the way"
	}
	if behind {
		text += ", with what follows"
	}
	return text
}

// target is what kernels are written for.
type target struct {
	capability int
	without    []string                      // features that no way may have
	chosen     map[string]Choice             // by problem; for others the cost model chooses
	times      map[string]map[string]float64 // of what was chosen by time
}

// leavesOut says whether a way has a feature that the user does without.
func (t target) leavesOut(way string) bool {
	return slices.ContainsFunc(t.without, func(word string) bool { return strings.Contains(way, word) })
}

// tunable is a step of a plan that can be computed in several ways.
type tunable struct {
	problem string
	ops     []*tensorOp // the ways of computing it
	steps   []plan.Step // the step, and the group behind it if there is one
	list    []Choice    // worth a measurement
}

func (c *tunable) accepts(choice Choice) bool {
	return slices.ContainsFunc(c.ops, func(op *tensorOp) bool { return op.accepts(choice) })
}

// kernels are those of each candidate.
func (c *tunable) kernels(p *plan.Plan, capability int) (list [][]Kernel, err error) {
	for _, choice := range c.list {
		w := &writer{p: p, target: target{capability: capability, chosen: map[string]Choice{c.problem: choice}}, of: map[any][]Kernel{}}
		if err := w.steps(c.steps); err != nil {
			return nil, err
		}
		list = append(list, w.all)
	}
	return list, nil
}

// tunablesOf lists the contractions of a plan with more than one candidate, each
// problem once, in the order in which they run.
func tunablesOf(p *plan.Plan, t target) (all []tunable) {
	seen := map[string]bool{}
	var visit func(steps []plan.Step)
	visit = func(steps []plan.Step) {
		for i := range steps {
			s := &steps[i]
			if s.Loop != nil {
				visit(s.Loop.Steps)
			}
			if s.Op == nil || !onTensorTiles(s.Op) {
				continue
			}
			w, next := wayOf(p, s.Op, s.Prologue), groupBehind(steps[i:])
			c := tunable{problem: problem(s.Op, w, next != nil), ops: tensorOps(s.Op, w, t), steps: steps[i : i+1]}
			if next != nil {
				c.steps = steps[i : i+2]
			}
			if c.list = candidates(c.ops); !seen[c.problem] && len(c.list) > 1 {
				seen[c.problem] = true
				all = append(all, c)
			}
		}
	}
	visit(p.Steps)
	return all
}

// Tuning is a record of choices, by the architecture that they were made on and
// the problem. As a file it is JSON, so that people can read it.
type Tuning map[string]*Choices

// Choices are those of an architecture.
type Choices struct {
	Device  string            `json:"device"`  // on which the latest were made
	Driver  string            `json:"driver"`  // CUDA's version of it
	Source  string            `json:"source"`  // of the kernels: a hash
	Choices map[string]Choice `json:"choices"` // by the problem
	// Times are what the candidates took when one was chosen by time, in
	// microseconds, by the problem and the choice.
	Times map[string]map[string]float64 `json:"microseconds,omitempty"`
}

// ParseTuning reads a record.
func ParseTuning(content []byte) (Tuning, error) {
	t := Tuning{}
	if err := json.Unmarshal(content, &t); err != nil {
		return nil, fmt.Errorf("no record of choices between kernels: %w", err)
	}
	for arch, c := range t {
		if _, err := ParseArch(arch); err != nil || c == nil || c.Choices == nil {
			return nil, fmt.Errorf("no record of choices between kernels: nothing for %q", arch)
		}
	}
	return t, nil
}

// Bytes is the record as a file.
func (t Tuning) Bytes() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(t); err != nil {
		panic("BUG: cuda: a record of choices does not marshal: " + err.Error())
	}
	return b.Bytes()
}
