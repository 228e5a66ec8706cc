package job

import (
	"fmt"

	"temper/adversarial"
	"temper/datasets"
	"temper/engine/graph"
	"temper/nn"
)

// model makes the network for data of that kind.
func (s *Settings) model(in datasets.Info) (*nn.Model, error) {
	m := s.Model
	c := m.config()
	c.Input, c.Classes = graph.Shape{in.Channels, in.Height, in.Width}, len(in.Classes)
	switch m.Normalize {
	case "none":
	case "dataset", "given":
		if len(m.Mean) != in.Channels || len(m.Std) != in.Channels {
			return nil, fmt.Errorf("model.mean and model.std have %d and %d values: want one for each of %d channels", len(m.Mean), len(m.Std), in.Channels)
		}
		c.Mean, c.Std = m.Mean, m.Std
	default:
		return nil, fmt.Errorf("unknown model.normalize %q: want none, dataset or given", m.Normalize)
	}
	return nn.Lookup(m.Name, c)
}

// config is what the model's sizes are to nn.
func (m Model) config() nn.Config {
	return nn.Config{Width: m.Width, Widen: m.Widen, Blocks: list(m.Blocks), Hidden: m.Hidden, Activation: m.Activation, Patch: m.Patch,
		Filters: m.Filters, Q: m.Q, Rho: m.Rho, Sigma: m.Sigma}
}

// complete gives sizes that nobody set the model's own, so that a run's
// config.toml does not depend on what they are in another version.
func (m *Model) complete() error {
	c, err := nn.Complete(m.Name, m.config())
	if err != nil {
		return err
	}
	m.Width, m.Widen, m.Blocks, m.Hidden, m.Activation, m.Patch = c.Width, c.Widen, c.Blocks, c.Hidden, c.Activation, c.Patch
	m.Filters, m.Q, m.Rho, m.Sigma = c.Filters, c.Q, c.Rho, c.Sigma
	return nil
}

// list is nil for an empty list, which TOML knows but nn would take as given.
func list[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

// config is what the schedule's settings are to nn, for a rate.
func (c Schedule) config(lr float64) nn.ScheduleConfig {
	return nn.ScheduleConfig{
		Name: c.Name, LR: lr, Min: c.Min, Gamma: c.Gamma, Every: c.Every, Milestones: list(c.Milestones),
		Up: c.Up, Down: c.Down, Warm: c.Warm, Div: c.Div, FinalDiv: c.FinalDiv, Linear: c.Linear,
		Knots: list(c.Knots), Factors: list(c.Factors),
		CycleMomentum: c.CycleMomentum, BaseMomentum: c.BaseMomentum, MaxMomentum: c.MaxMomentum,
	}
}

// complete gives settings that nobody set the schedule's own.
func (c *Schedule) complete(epochs int) {
	full := c.config(0).Complete(epochs)
	c.Up, c.Down, c.Warm, c.Div, c.FinalDiv = full.Up, full.Down, full.Warm, full.Div, full.FinalDiv
	c.BaseMomentum, c.MaxMomentum = full.BaseMomentum, full.MaxMomentum
}

// schedule gives the schedules of the learning rate and of the momentum, which is
// nil if it does not move.
func (s *Settings) schedule() (rate, momentum nn.Schedule, err error) {
	config := s.Schedule.config(s.Optimizer.LR)
	if rate, err = config.Schedule(); err != nil {
		return nil, nil, err
	}
	momentum, err = config.Momentum()
	return rate, momentum, err
}

// stepGraph builds the training step for a batch size.
func (s *Settings) stepGraph(m *nn.Model, in datasets.Info, batch int) (*graph.Graph, error) {
	opt, err := s.Optimizer.build(s.Schedule.CycleMomentum)
	if err != nil {
		return nil, err
	}
	return adversarial.StepGraph(m, s.Training, opt, s.Threat, batch, inputType(in))
}

// inputType is the graph's type of a set's elements.
func inputType(in datasets.Info) graph.DType {
	if in.DType == datasets.Float32 {
		return graph.F32
	}
	return graph.U8
}
