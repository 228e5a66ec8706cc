package job

import (
	"fmt"
	"slices"
	"strings"

	"temper/adversarial"
	"temper/datasets"
	"temper/engine"
	"temper/engine/graph"
	"temper/engine/passes"
	"temper/nn"
)

// protocol measures a network clean and under several attacks. An attack sees
// only the examples that the network gets right, and of these, round by round,
// only those that still stand: they move together into the smallest batch that
// holds them. An example falls when the network is wrong about it or, under a
// targeted attack, when it says the target.
type protocol struct {
	threat  adversarial.ThreatModel
	batch   int
	input   graph.DType
	clean   *engine.Program
	confirm *engine.Program // the network on attacked examples, where the search's own word does not count; else nil
	plans   []planned
	set     rowSet // of the bucket being filled
}

// planned is an attack, or a suite of attacks, that is reported as one.
type planned struct {
	entry
	stages []stage
}

// stage is one attack.
type stage struct {
	attack  adversarial.Attack
	rounds  int
	program *engine.Program
}

// newProtocol prepares attacks on a model whose weights are in st. The options
// are those of the network's own passes; the search has the precision of e.
func newProtocol(dev *engine.Device, st *engine.State, m *nn.Model, in datasets.Info, e *EvalSettings, o engine.Options) (*protocol, error) {
	p := &protocol{threat: e.Threat, batch: e.BatchSize, input: inputType(in)}
	scalars := map[string]float64{"seed": float64(e.Seed), "eps": e.Threat.Epsilon.Float64(), "alpha": 0}
	network := func(input graph.DType) (*engine.Program, error) {
		program := dev.NewProgram(st, func(n int) (*graph.Graph, error) {
			g, err := adversarial.EvalGraph(m, nil, e.Threat, n, input)
			if err != nil {
				return nil, err
			}
			return g, rowsApart(g)
		}, o)
		return program, setAll(program, scalars)
	}
	var err error
	if p.clean, err = network(p.input); err != nil {
		return nil, err
	}
	if e.isMixed() {
		if offered := dev.Info().PrecisionNames(); !slices.Contains(offered, e.Precision) {
			return nil, fmt.Errorf("%s: %s does not compute in %s, only in %s: take --attack autoattack or another device; a CPU without AMX tries bf16, slowly, with TEMPER_CPU=portable",
				adversarial.MixedSuite, dev.Info().Name, e.Precision, strings.Join(offered, ", "))
		}
		if p.confirm, err = network(graph.F32); err != nil {
			return nil, err
		}
	}
	search, err := compileOptions(e.Precision, e.ExactConv)
	if err != nil {
		return nil, err
	}
	for _, entry := range e.entries {
		pl := planned{entry: entry}
		for _, a := range entry.attacks {
			s := stage{attack: a, rounds: a.Rounds(len(in.Classes))}
			s.program = dev.NewProgram(st, func(n int) (*graph.Graph, error) {
				g, err := adversarial.RoundGraph(m, a, e.Threat, n, p.input)
				if err != nil {
					return nil, err
				}
				return g, rowsApart(g)
			}, search)
			scalars["alpha"] = a.Alpha(e.Threat).Float64()
			if err := setAll(s.program, scalars); err != nil {
				return nil, err
			}
			if _, err := s.program.For(bucket(1, e.BatchSize)); err != nil { // what is wrong with it is found before the work
				return nil, err
			}
			pl.stages = append(pl.stages, s)
		}
		p.plans = append(p.plans, pl)
	}
	return p, nil
}

// rowsApart refuses a graph in which the rows of a batch depend on each other:
// batches are filled up with rows that must not matter.
func rowsApart(g *graph.Graph) error {
	var rows []string
	batch := 0
	for n := range graph.Live(g) {
		if n.Op() == graph.OpInput {
			rows, batch = append(rows, n.Attrs().Name), n.Dim(0)
		}
	}
	if batch < 2 { // nothing to fill up
		return nil
	}
	if err := passes.RowIndependent(g, rows...); err != nil {
		return fmt.Errorf("batches cannot be filled up: %w", err)
	}
	return nil
}

func setAll(p *engine.Program, scalars map[string]float64) error {
	for name, v := range scalars {
		if err := p.Set(name, v); err != nil {
			return err
		}
	}
	return nil
}

func (p *protocol) close() {
	p.clean.Close()
	if p.confirm != nil {
		p.confirm.Close()
	}
	for _, pl := range p.plans {
		for _, s := range pl.stages {
			s.program.Close()
		}
	}
}

// rounds is the number of rounds of all attacks.
func (p *protocol) rounds() (n int) {
	for _, pl := range p.plans {
		for _, s := range pl.stages {
			n += s.rounds
		}
	}
	return n
}

// fate is what became of an example under a plan.
type fate struct {
	Fell int     `json:"fell"` // the stage after which it was wrong; -1: it stands
	Pred int32   `json:"pred"`
	Norm float32 `json:"norm"` // of its perturbation
}

// verdict is what an evaluation found of a batch.
type verdict struct {
	Labels []int32  `json:"labels"`
	Clean  []int32  `json:"clean"` // predictions
	Fates  [][]fate `json:"fates"` // by plan; of examples wrong without an attack: clean
}

// predictions are those for the examples as one plan left them.
func (v *verdict) predictions(plan int) []int32 {
	out := make([]int32, len(v.Fates[plan]))
	for i, f := range v.Fates[plan] {
		out[i] = f.Pred
	}
	return out
}

// bucket is the size of the batch that n survivors of a batch of full move to:
// a half, a quarter, … of it, at least 8.
func bucket(n, full int) int {
	for full/2 >= max(n, 8) {
		full /= 2
	}
	return full
}

// round runs the round to come, of a stage, on the rows that stand.
func (p *protocol) round(s stage, u *underway, from *rowSet, standing []int) error {
	if err := s.program.Set("round", float64(u.Round)); err != nil {
		return err
	}
	fates := u.Verdict.Fates[u.Plan]
	var start []float32
	if s.attack.Continues() {
		start = u.X
	}
	_, err := p.set.run(s.program, from, start, standing, p.batch, func(exe *engine.Executable) error {
		pred, err := fetch[int32](exe, "adv_pred")
		if err != nil {
			return err
		}
		norm, err := fetch[float32](exe, "norm")
		if err != nil {
			return err
		}
		x, err := fetch[float32](exe, "x_adv")
		if err != nil {
			return err
		}
		var target []int32
		if s.attack.Targeted {
			if target, err = fetch[int32](exe, "target"); err != nil {
				return err
			}
		}
		for i, row := range standing {
			at := x[i*from.size:][:from.size]
			if err := p.threat.Check(float64(norm[i]), at); err != nil {
				return fmt.Errorf("example %d: %w", from.ids[row], err)
			}
			copy(u.X[row*from.size:], at)
		}
		if p.confirm != nil {
			if pred, err = p.confirmed(from, u.X, standing); err != nil {
				return err
			}
		}
		for i, row := range standing {
			fates[row] = fate{Fell: -1, Pred: pred[i], Norm: norm[i]}
			fell := pred[i] != u.Verdict.Labels[row]
			if target != nil {
				fell = pred[i] == target[i]
			}
			if fell {
				fates[row].Fell = u.Stage
			}
		}
		return nil
	})
	return err
}

// confirmed is what the network says of the rows that stand, in the precision
// that counts, as an attack has left them in adv (N,C,H,W).
func (p *protocol) confirmed(from *rowSet, adv []float32, standing []int) (pred []int32, err error) {
	attacked, set := &rowSet{input: graph.F32, size: from.size, f32: adv, y: from.y, ids: from.ids}, &rowSet{}
	_, err = set.run(p.confirm, attacked, nil, standing, p.batch, func(exe *engine.Executable) error {
		all, err := fetch[int32](exe, "clean_pred")
		pred = append(pred, all...)
		return err
	})
	return pred, err
}

// rowSet is rows of examples in memory that programs can be fed with.
type rowSet struct {
	input graph.DType
	size  int       // elements a row
	u8    []uint8   // (N,C,H,W), if that is the type
	f32   []float32 // else
	start []float32
	y     []int32
	given []int32 // targets; nil if nobody gave any
	ids   []uint32
}

// gathered views a batch.
func gathered(b *datasets.Batch, input graph.DType) *rowSet {
	s := &rowSet{input: input, u8: b.U8, f32: b.F32, y: b.Labels, ids: b.IDs}
	s.size = max(len(b.U8), len(b.F32)) / b.N
	return s
}

// decoded is a copy of the rows as the graphs see them.
func (s *rowSet) decoded() []float32 {
	if s.input == graph.F32 {
		return append([]float32(nil), s.f32...)
	}
	out := make([]float32, len(s.u8))
	for i, v := range s.u8 {
		out[i] = float32(v) / 255
	}
	return out
}

// run gathers rows of a set, with their starting points if there are any, into
// the smallest bucket, fills it up with the first row, runs the program, and
// calls done before the next run can change the outputs.
func (s *rowSet) run(program *engine.Program, from *rowSet, start []float32, rows []int, full int, done func(*engine.Executable) error) (size int, err error) {
	size = bucket(len(rows), full)
	s.u8, s.f32, s.start, s.y, s.given, s.ids = s.u8[:0], s.f32[:0], s.start[:0], s.y[:0], s.given[:0], s.ids[:0]
	for i := range size {
		row := rows[0]
		if i < len(rows) {
			row = rows[i]
		}
		if from.input == graph.F32 {
			s.f32 = append(s.f32, from.f32[row*from.size:][:from.size]...)
		} else {
			s.u8 = append(s.u8, from.u8[row*from.size:][:from.size]...)
		}
		if start != nil {
			s.start = append(s.start, start[row*from.size:][:from.size]...)
		}
		s.y, s.ids = append(s.y, from.y[row]), append(s.ids, from.ids[row])
		if from.given != nil {
			s.given = append(s.given, from.given[row])
		}
	}
	exe, err := program.For(size)
	if err != nil {
		return size, err
	}
	feeds := map[string][]byte{"x": s.u8, "y": engine.Bytes(s.y), "ids": engine.Bytes(s.ids)}
	if from.input == graph.F32 {
		feeds["x"] = engine.Bytes(s.f32)
	}
	if start != nil {
		feeds["start"] = engine.Bytes(s.start)
	}
	if from.given != nil {
		feeds["given"] = engine.Bytes(s.given)
	}
	for name, b := range feeds {
		if err := exe.FeedBytes(name, b); err != nil {
			return size, err
		}
	}
	if err := exe.Run(); err != nil {
		return size, err
	}
	return size, done(exe)
}
