package job

import (
	"context"
	"encoding/json"
	"fmt"

	"temper/datasets"
	"temper/engine"
)

// underway is a batch between two rounds of its evaluation: all that the rounds to
// come need of those behind.
type underway struct {
	Verdict *verdict `json:"verdict"` // its fates end with the plan at work, and are not final there
	First   elements `json:"first"`   // the examples as the first plan left them (N,C,H,W)
	X       elements `json:"x"`       // as the plan at work has them so far

	// The round to come; Plan is the number of plans when none does.
	Plan  int `json:"plan"`
	Stage int `json:"stage"`
	Round int `json:"round"`
}

// elements are float32 that JSON holds as their bytes: the bits matter, and there
// are many.
type elements []float32

func (e elements) MarshalJSON() ([]byte, error) { return json.Marshal(engine.Bytes(e)) }

func (e *elements) UnmarshalJSON(b []byte) error {
	var raw []byte
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*e = make(elements, len(raw)/4)
	if n := copy(engine.Bytes(*e), raw); n < len(raw) {
		return fmt.Errorf("%d bytes are no float32", len(raw))
	}
	return nil
}

// begin evaluates a batch without an attack.
func (p *protocol) begin(b *datasets.Batch) (*underway, error) {
	v := &verdict{Labels: append([]int32(nil), b.Labels...)}
	rows := make([]int, b.N)
	for i := range rows {
		rows[i] = i
	}
	from := gathered(b, p.input)
	_, err := p.set.run(p.clean, from, nil, rows, p.batch, func(exe *engine.Executable) error {
		clean, err := fetch[int32](exe, "clean_pred")
		v.Clean = append([]int32(nil), clean[:b.N]...)
		return err
	})
	u := &underway{Verdict: v}
	u.plan(from)
	return u, err
}

// plan prepares the plan to come.
func (u *underway) plan(from *rowSet) {
	fates := make([]fate, len(u.Verdict.Labels))
	for i := range fates {
		fates[i] = fate{Fell: -1, Pred: u.Verdict.Clean[i]}
	}
	u.Verdict.Fates, u.X = append(u.Verdict.Fates, fates), from.decoded()
}

// attack goes on with a batch, with the targets given for it, nil if none are, to
// the end of its evaluation, and calls tick after every round.
func (p *protocol) attack(ctx context.Context, b *datasets.Batch, given []int32, u *underway, tick func() error) error {
	from := gathered(b, p.input)
	from.given = given
	for u.Plan < len(p.plans) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if standing := u.standing(); len(standing) > 0 {
			if err := p.round(p.plans[u.Plan].stages[u.Stage], u, from, standing); err != nil {
				return err
			}
		}
		u.advance(p.plans, from)
		if err := tick(); err != nil {
			return err
		}
	}
	return nil
}

// standing lists the rows that the plan at work has to attack.
func (u *underway) standing() (rows []int) {
	v := u.Verdict
	for i, f := range v.Fates[u.Plan] {
		if v.Clean[i] == v.Labels[i] && f.Fell < 0 {
			rows = append(rows, i)
		}
	}
	return rows
}

// advance goes to the next round.
func (u *underway) advance(plans []planned, from *rowSet) {
	stages := plans[u.Plan].stages
	if u.Round++; u.Round < stages[u.Stage].rounds {
		return
	}
	u.Round = 0
	if u.Stage++; u.Stage < len(stages) {
		return
	}
	u.Stage = 0
	if u.Plan == 0 {
		u.First = u.X
	}
	if u.Plan++; u.Plan < len(plans) {
		u.plan(from)
	}
}

// done counts the rounds behind it.
func (u *underway) done(plans []planned) int {
	if u == nil {
		return 0
	}
	n := u.Round
	for i, pl := range plans {
		for j, s := range pl.stages {
			if i < u.Plan || i == u.Plan && j < u.Stage {
				n += s.rounds
			}
		}
	}
	return n
}

// fits reports what does not belong to a batch of n examples of so many elements
// under the plans.
func (u *underway) fits(plans []planned, classes, n, size int) error {
	if u.Plan < 0 || u.Plan >= len(plans) || u.Stage < 0 || u.Stage >= len(plans[u.Plan].stages) || u.Round < 0 || u.Round >= plans[u.Plan].stages[u.Stage].rounds {
		return fmt.Errorf("there is no round %d of stage %d of attack %d", u.Round, u.Stage, u.Plan)
	}
	first := n * size
	if u.Plan == 0 {
		first = 0
	}
	if len(u.X) != n*size || len(u.First) != first {
		return fmt.Errorf("%d and %d elements of %d examples", len(u.First), len(u.X), n)
	}
	return u.Verdict.fits(u.Plan+1, classes, n)
}
