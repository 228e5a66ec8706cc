package job

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/engine/graph"
	"temper/nn"
)

// modelWeights are the tensors of a model's state among a checkpoint's, without
// the optimiser's.
func modelWeights(m *nn.Model, tensors []run.Tensor) ([]run.Tensor, error) {
	given := byTensorName(tensors)
	var out []run.Tensor
	for _, s := range m.Specs() {
		t, ok := given[s.Name]
		if !ok {
			return nil, fmt.Errorf("the checkpoint has no tensor %q of %s", s.Name, m.Name)
		}
		out = append(out, t)
	}
	return out, nil
}

func byTensorName(tensors []run.Tensor) map[string]run.Tensor {
	m := map[string]run.Tensor{}
	for _, t := range tensors {
		m[t.Name] = t
	}
	return m
}

// wrappers are what PyTorch's containers put before every name.
var wrappers = []string{"module.", "model.", "_orig_mod."}

// fitted is a state for a model that foreign tensors were made into.
type fitted struct {
	tensors   []run.Tensor
	wrapper   string         // taken off every name
	converted map[string]int // tensors by the type that they had, other than f32
	counters  int            // of num_batches_tracked that were not there
}

// fit makes tensors under PyTorch's names the state of a model. All of them must
// be the model's, and all of the model's there, but for num_batches_tracked,
// which decides nothing. Other types of float become f32.
func fit(m *nn.Model, file *run.Tensors) (*fitted, error) {
	f := &fitted{converted: map[string]int{}}
	tensors, wrapper := unwrapped(m, file.List)
	f.wrapper = wrapper
	given := byTensorName(tensors)
	var missing, wrong []string
	for _, s := range m.Specs() {
		t, ok := given[s.Name]
		switch {
		case !ok && s.DType == graph.I32:
			f.counters++
			t = run.Tensor{Name: s.Name, DType: "I64", Data: make([]byte, 8)}
		case !ok:
			missing = append(missing, s.Name)
			continue
		case !s.Shape.Equal(t.Shape):
			wrong = append(wrong, fmt.Sprintf("%q is %v, want %v", s.Name, graph.Shape(t.Shape), s.Shape))
			delete(given, s.Name)
			continue
		}
		delete(given, s.Name)
		t, err := f.convert(s, t)
		if err != nil {
			return nil, err
		}
		f.tensors = append(f.tensors, t)
	}
	var extra []string
	for _, t := range tensors {
		if _, ok := given[t.Name]; ok {
			if strings.HasPrefix(t.Name, adversarial.SlotPrefix) {
				continue
			}
			extra = append(extra, t.Name)
		}
	}
	if len(missing)+len(wrong)+len(extra) == 0 {
		return f, nil
	}
	theirs := file.Metadata[metaModel] // where temper wrote the file
	switch theirs {
	case "":
		theirs = architectureOf(tensors)
	case m.Name:
		theirs += " of other sizes"
	}
	return nil, misfit(theirs, m.Name, missing, wrong, extra)
}

// misfit says how the tensors of one model are not another's, in one line.
func misfit(theirs, ours string, missing, wrong, extra []string) error {
	var parts []string
	if len(wrong) > 0 {
		parts = append(parts, fmt.Sprintf("%s (%d of other shapes)", wrong[0], len(wrong)))
	}
	list := func(what string, names []string) {
		if len(names) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s, the first is %q", len(names), what, names[0]))
		}
	}
	list("tensors are missing", missing)
	list("are not the model's", extra)
	return fmt.Errorf("the weights are those of %s, not of %s: %s", theirs, ours, strings.Join(parts, "; "))
}

// architectureOf names the model of the registry whose tensors have these names
// and, of several, most of these shapes.
func architectureOf(tensors []run.Tensor) string {
	given := byTensorName(tensors)
	best, score := "another network", 0
	for _, name := range nn.Names() {
		for _, input := range []graph.Shape{{3, 32, 32}, {1, 28, 28}} {
			m, err := nn.Lookup(name, nn.Config{Input: input, Classes: 10})
			if err != nil {
				continue
			}
			names, shapes := 0, 0
			for _, s := range m.Specs() {
				t, ok := given[s.Name]
				switch {
				case ok && s.Shape.Equal(t.Shape):
					names, shapes = names+1, shapes+1
				case ok || s.DType == graph.I32:
					names++
				}
			}
			if names == len(m.Specs()) && names+shapes > score {
				best, score = name, names+shapes
				if shapes < names {
					best += " of other sizes"
				}
			}
		}
	}
	return best
}

// unwrapped takes a container's prefix off, if every tensor has it and no tensor
// of the model does.
func unwrapped(m *nn.Model, tensors []run.Tensor) ([]run.Tensor, string) {
	for _, prefix := range wrappers {
		has := func(name string) bool { return strings.HasPrefix(name, prefix) }
		if len(tensors) == 0 || slices.ContainsFunc(tensors, func(t run.Tensor) bool { return !has(t.Name) }) ||
			slices.ContainsFunc(m.Specs(), func(s nn.Spec) bool { return has(s.Name) }) {
			continue
		}
		out := slices.Clone(tensors)
		for i := range out {
			out[i].Name = strings.TrimPrefix(out[i].Name, prefix)
		}
		return out, prefix
	}
	return tensors, ""
}

// convert gives a tensor the type that checkpoints have: F32, or I64 for a
// counter. Values must be finite, and stay so.
func (f *fitted) convert(s nn.Spec, t run.Tensor) (run.Tensor, error) {
	if s.DType == graph.I32 {
		if t.DType != "I64" && t.DType != "I32" {
			return t, fmt.Errorf("tensor %q is %s: want I64", t.Name, t.DType)
		}
		if t.DType == "I32" {
			t.DType, t.Data = "I64", binary.LittleEndian.AppendUint64(nil, uint64(int64(int32(binary.LittleEndian.Uint32(t.Data)))))
		}
		if n := int64(binary.LittleEndian.Uint64(t.Data)); n < 0 || n > math.MaxInt32 {
			return t, fmt.Errorf("tensor %q is %d: want a counter of 31 bits", t.Name, n)
		}
		return t, nil
	}
	values, err := floats(t)
	if err != nil {
		return t, err
	}
	data := make([]byte, 0, 4*len(values))
	for i, v := range values {
		x := float32(v)
		if v != v || math.IsInf(float64(x), 0) {
			return t, fmt.Errorf("tensor %q: element %d is %v, which float32 does not hold", t.Name, i, v)
		}
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
	}
	if t.DType != "F32" {
		f.converted[t.DType]++
	}
	return run.Tensor{Name: t.Name, DType: "F32", Shape: t.Shape, Data: data}, nil
}

// floats are the elements of a tensor of a floating-point type.
func floats(t run.Tensor) ([]float64, error) {
	decode, size := map[string]func(b []byte) float64{
		"F64": func(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) },
		"F32": func(b []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) },
		"BF16": func(b []byte) float64 {
			return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16))
		},
		"F16": func(b []byte) float64 { return half(binary.LittleEndian.Uint16(b)) },
	}[t.DType], map[string]int{"F64": 8, "F32": 4, "BF16": 2, "F16": 2}[t.DType]
	if decode == nil {
		return nil, fmt.Errorf("tensor %q is %s: want floating-point numbers", t.Name, t.DType)
	}
	out := make([]float64, len(t.Data)/size)
	for i := range out {
		out[i] = decode(t.Data[i*size:])
	}
	return out, nil
}

// half is an IEEE 754 number of 16 bits.
func half(h uint16) float64 {
	sign, exponent, fraction := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}
