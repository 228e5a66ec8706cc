package job

import (
	"temper/adversarial"
	"temper/datasets"
	"temper/engine/graph"
	"temper/engine/passes"
	"temper/engine/plan"
)

// Plans compiles what training with the user's settings would run on devices
// of a kind, whose target at a precision is given: every program at every batch
// size. It needs no device, and no data where a published set is named.
func Plans(user []Assignment, target func(graph.Precision) passes.Target) ([]*plan.Plan, error) {
	list, err := Resolve(user)
	if err != nil {
		return nil, err
	}
	var plans []*plan.Plan
	for i := range list {
		o, err := compileOptions(list[i].Precision, list[i].ExactConv)
		if err != nil {
			return nil, err
		}
		graphs, err := list[i].programs()
		if err != nil {
			return nil, err
		}
		for _, g := range graphs {
			want := target(o.Precision)
			final, err := passes.Run(g, passes.Options{Target: want, Off: o.Passes.Off})
			if err != nil {
				return nil, err
			}
			plans = append(plans, plan.Build(final, want.Plan(plan.Options{})))
		}
	}
	return plans, nil
}

// programs builds the programs of a training run.
func (s *Settings) programs() ([]*graph.Graph, error) {
	train, in, err := s.examples(datasets.Train)
	if err != nil {
		return nil, err
	}
	test, _, err := s.examples(datasets.Test)
	if err != nil {
		return nil, err
	}
	m, err := s.model(in)
	if err != nil {
		return nil, err
	}
	if s.Data.Limit > 0 {
		train = min(train, s.Data.Limit)
	}
	train -= s.Data.HeldOut
	graphs := []*graph.Graph{m.InitGraph()}
	for batch := range batches(s.Batches.Size, train) {
		if s.Batches.DropLast && batch != s.Batches.Size {
			continue
		}
		g, err := s.stepGraph(m, in, batch)
		if err != nil {
			return nil, err
		}
		graphs = append(graphs, g)
	}
	watched := test
	if s.Data.HeldOut > 0 {
		watched = s.Data.HeldOut
	}
	if s.Eval.Limit > 0 {
		watched = min(watched, s.Eval.Limit)
	}
	for _, a := range s.probes(m.Input) {
		g, err := adversarial.EvalGraph(m, &a.attack, s.Threat, min(s.Alarms.Probe, train), inputType(in))
		if err != nil {
			return nil, err
		}
		graphs = append(graphs, g)
	}
	counts := m
	if s.Training.Average.On() {
		counts = m.At(adversarial.AveragePrefix)
	}
	for batch := range batches(s.Eval.BatchSize, watched, test) {
		g, err := adversarial.EvalGraph(counts, &s.Eval.Attack, s.Threat, batch, inputType(in))
		if err != nil {
			return nil, err
		}
		graphs = append(graphs, g)
	}
	if s.Training.Average.Recomputes() {
		for batch := range batches(s.Batches.Size, train) {
			g, err := adversarial.StatisticsGraph(counts, batch, inputType(in))
			if err != nil {
				return nil, err
			}
			graphs = append(graphs, g)
		}
	}
	return graphs, nil
}

// examples describes a split and counts its examples.
func (s *Settings) examples(split datasets.Split) (int, datasets.Info, error) {
	in, err := datasets.Describe(s.Data.Name, s.Data.Dir, split, s.options())
	if err != nil || in.Published > 0 {
		return in.Published, in, err
	}
	set, err := s.open(split)
	if err != nil {
		return 0, in, err
	}
	return set.Len(), in, nil
}

// batches are the sizes of the batches of sets of so many examples.
func batches(size int, sets ...int) map[int]bool {
	sizes := map[int]bool{}
	for _, n := range sets {
		sizes[min(size, n)] = true
		if last := n % size; last > 0 {
			sizes[last] = true
		}
	}
	return sizes
}
