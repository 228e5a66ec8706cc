package engine

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"temper/engine/graph"
)

// State is a set of named tensors that live on one device and outlast the
// programs that read and assign them: parameters, running statistics, the
// optimiser's moments. All programs compiled with a State share it.
type State struct {
	dev   *Device
	named map[string]*stored
	order []string
}

type stored struct {
	dtype graph.DType
	shape graph.Shape
	mem   Memory
}

// NewState makes an empty state on the device.
func (d *Device) NewState() *State { return &State{dev: d, named: map[string]*stored{}} }

// declare finds a tensor or makes a zero one.
func (s *State) declare(name string, t graph.DType, shape graph.Shape) (*stored, error) {
	if v := s.named[name]; v != nil {
		if v.dtype != t || !v.shape.Equal(shape) {
			return nil, fmt.Errorf("state %q is %v%v; this program wants %v%v", name, v.dtype, v.shape, t, shape)
		}
		return v, nil
	}
	m, err := s.dev.Alloc(shape.Size() * t.Size())
	if err != nil {
		return nil, fmt.Errorf("state %q, %v%v: %w", name, t, shape, err)
	}
	v := &stored{t, shape, m}
	s.named[name] = v
	s.order = append(s.order, name)
	return v, nil
}

// Adopt makes memory of the state's device that others made, such as what
// cuda.Adopt returns, the tensor of that name: programs that are compiled later
// read and assign it where it lies. Free frees it too, which is for the memory
// to decide.
func (s *State) Adopt(name string, t graph.DType, shape graph.Shape, m Memory) error {
	if s.named[name] != nil {
		return fmt.Errorf("state %q is there already", name)
	}
	s.named[name] = &stored{t, shape, m}
	s.order = append(s.order, name)
	return nil
}

// Names lists the tensors in the order of their first declaration.
func (s *State) Names() []string { return slices.Clone(s.order) }

// Type returns a tensor's element type and shape.
func (s *State) Type(name string) (graph.DType, graph.Shape, error) {
	v := s.named[name]
	if v == nil {
		return graph.InvalidType, nil, fmt.Errorf("no state %q", name)
	}
	return v.dtype, v.shape, nil
}

// Bytes copies a tensor's elements from the device, little-endian, row-major.
func (s *State) Bytes(name string) ([]byte, error) {
	v := s.named[name]
	if v == nil {
		return nil, fmt.Errorf("no state %q", name)
	}
	b := make([]byte, v.shape.Size()*v.dtype.Size())
	return b, v.mem.Read(b)
}

// SetBytes replaces a tensor's elements; what Bytes returned fits.
func (s *State) SetBytes(name string, b []byte) error {
	v := s.named[name]
	if v == nil {
		return fmt.Errorf("no state %q", name)
	}
	if want := v.shape.Size() * v.dtype.Size(); len(b) != want {
		return fmt.Errorf("state %q takes %d bytes, not %d", name, want, len(b))
	}
	return v.mem.Write(b)
}

// Read copies a tensor from the device.
func (s *State) Read(name string) (*tensor.Dense, error) {
	b, err := s.Bytes(name)
	if err != nil {
		return nil, err
	}
	return Dense(s.named[name].dtype, s.named[name].shape, b)
}

// Write replaces a tensor, whose type and shape must be the state's.
func (s *State) Write(name string, t *tensor.Dense) error {
	v := s.named[name]
	if v == nil {
		return fmt.Errorf("no state %q", name)
	}
	b, err := DenseBytes(t, v.dtype, v.shape)
	if err != nil {
		return fmt.Errorf("state %q: %w", name, err)
	}
	return v.mem.Write(b)
}

// Free gives the device memory back. Programs that share the state must not
// run afterwards.
func (s *State) Free() {
	for _, v := range s.named {
		v.mem.Free()
	}
	s.named, s.order = map[string]*stored{}, nil
}
