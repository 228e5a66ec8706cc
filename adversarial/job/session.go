package job

import (
	"fmt"

	"temper/datasets"
	"temper/engine"
	"temper/nn"
)

// session is a network on a device: what training and evaluation share.
type session struct {
	settings *Settings
	dev      *engine.Device
	model    *nn.Model
	state    *engine.State
	compile  engine.Options // of all programs
}

// openSession opens the device and makes the network's state, as zeros. Where dir
// is a run's folder, the device chooses between kernels as that run did.
func openSession(c Console, s *Settings, in datasets.Info, dir string) (*session, error) {
	m, err := s.model(in)
	if err != nil {
		return nil, err
	}
	compile, err := compileOptions(s.Precision, s.ExactConv)
	if err != nil {
		return nil, err
	}
	dev, err := engine.Open(s.Device, engine.DeviceOptions{Threads: s.Threads, Note: c.note})
	if err != nil {
		return nil, err
	}
	if dir != "" {
		recallTuning(c, dev, dir)
	}
	return &session{settings: s, dev: dev, model: m, state: dev.NewState(), compile: compile}, nil
}

// initialize draws the weights that training starts from.
func (s *session) initialize() error {
	e, err := s.dev.Compile(s.model.InitGraph(), s.state, s.compile)
	if err != nil {
		return err
	}
	defer e.Close()
	if err := e.Set("seed", float64(s.settings.Seed)); err != nil {
		return err
	}
	return e.Run()
}

// describe is the device in a line.
func (s *session) describe() string {
	i := s.dev.Info()
	return fmt.Sprintf("%s: %s (%s); %s", i.Spec, i.Name, i.Detail, s.dev.Why)
}

func (s *session) close() {
	s.state.Free()
	s.dev.Close()
}
