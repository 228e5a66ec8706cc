package job

import (
	"encoding/binary"
	"fmt"
	"strings"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/engine"
	"temper/engine/graph"
)

// counter is the last part of the name of batch norm's step counter, which
// PyTorch keeps as int64 and temper as i32.
const counter = "num_batches_tracked"

// saveState copies every tensor of a state under its own name: parameters and
// buffers as PyTorch's state_dict names them, so that the file loads there.
func saveState(st *engine.State) ([]run.Tensor, error) {
	var out []run.Tensor
	for _, name := range st.Names() {
		dtype, shape, err := st.Type(name)
		if err != nil {
			return nil, err
		}
		b, err := st.Bytes(name)
		if err != nil {
			return nil, fmt.Errorf("read state %q: %w", name, err)
		}
		t := run.Tensor{Name: name, DType: strings.ToUpper(dtype.String()), Shape: shape, Data: b}
		if isCounter(name, dtype) {
			t.DType, t.Data = "I64", binary.LittleEndian.AppendUint64(nil, uint64(int64(int32(binary.LittleEndian.Uint32(b)))))
		}
		out = append(out, t)
	}
	return out, nil
}

// loadState sets every tensor of a state from a checkpoint, which must have
// these and no others but the optimiser's, which an evaluation does without.
func loadState(st *engine.State, tensors []run.Tensor) error {
	given := map[string]run.Tensor{}
	for _, t := range tensors {
		given[t.Name] = t
	}
	for _, name := range st.Names() {
		t, ok := given[name]
		if !ok {
			return fmt.Errorf("the checkpoint has no tensor %q", name)
		}
		if err := loadTensor(st, t); err != nil {
			return err
		}
		delete(given, name)
	}
	for _, t := range tensors {
		if _, extra := given[t.Name]; extra && !strings.HasPrefix(t.Name, adversarial.SlotPrefix) {
			return fmt.Errorf("the checkpoint has a tensor %q that this model does not know", t.Name)
		}
	}
	return nil
}

// The weights of a checkpoint that can be asked for.
const (
	averagedWeights = "average"
	rawWeights      = "raw"
)

// weightsOf picks, of a checkpoint, the tensors of one set of weights, under
// their plain names: the averaged ones or those that were trained.
func weightsOf(tensors []run.Tensor, which string) ([]run.Tensor, error) {
	var out []run.Tensor
	for _, t := range tensors {
		name, averaged := strings.CutPrefix(t.Name, adversarial.AveragePrefix)
		if averaged == (which == averagedWeights) {
			t.Name = name
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("this run averaged no weights: set weights to %q", rawWeights)
	}
	return out, nil
}

// loadTensor sets one tensor of a state.
func loadTensor(st *engine.State, t run.Tensor) error {
	dtype, shape, err := st.Type(t.Name)
	if err != nil {
		return err
	}
	want := strings.ToUpper(dtype.String())
	if isCounter(t.Name, dtype) {
		want = "I64"
	}
	if t.DType != want || !shape.Equal(t.Shape) {
		return fmt.Errorf("the checkpoint's %q is %s%v: this model wants %s%v", t.Name, t.DType, graph.Shape(t.Shape), want, shape)
	}
	data := t.Data
	if isCounter(t.Name, dtype) {
		data = data[:4] // little-endian; a counter of steps is small
	}
	return st.SetBytes(t.Name, data)
}

func isCounter(name string, t graph.DType) bool {
	return t == graph.I32 && name[strings.LastIndex(name, ".")+1:] == counter
}
