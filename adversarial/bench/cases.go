package bench

import (
	"fmt"
	"regexp"
)

// Spec describes a piece of work, for temper's program and PyTorch's twin.
type Spec struct {
	Kind  string `json:"kind"` // step, matmul, conv2d, conv2d-input-grad, conv2d-filter-grad, copy
	Batch int    `json:"batch,omitempty"`

	// A training step: the model of that name, full size, on random images;
	// SGD with momentum. Method is one of adversarial.Training, its attack has so
	// many steps, at ε 8/255.
	Model  string `json:"model,omitempty"`
	Method string `json:"method,omitempty"`
	Steps  int    `json:"steps"`

	// A convolution of (Batch, Channels, Size, Size) with (Out, Channels, Kernel,
	// Kernel), padded by half the kernel; or a product of Size×Size matrices; or an
	// element-wise operation on Size numbers.
	Channels int `json:"channels,omitempty"`
	Size     int `json:"size,omitempty"`
	Out      int `json:"out,omitempty"`
	Kernel   int `json:"kernel,omitempty"`
	Stride   int `json:"stride,omitempty"`
}

// Name is the case's name, in the style of Go's benchmarks:
// "step/preactresnet18/pgd-10/batch=64".
func (s Spec) Name() string {
	switch s.Kind {
	case "step":
		method := s.Method
		switch method {
		case "pgd-at":
			method = fmt.Sprintf("pgd-%d", s.Steps)
		case "trades":
			method = fmt.Sprintf("trades-%d", s.Steps)
		}
		return fmt.Sprintf("step/%s/%s/batch=%d", s.Model, method, s.Batch)
	case "matmul", "copy":
		return fmt.Sprintf("%s/%d", s.Kind, s.Size)
	}
	stride := ""
	if s.Stride > 1 {
		stride = fmt.Sprintf("/stride=%d", s.Stride)
	}
	return fmt.Sprintf("%s/%dx%d/%d-%d@%d%s/batch=%d", s.Kind, s.Kernel, s.Kernel, s.Channels, s.Out, s.Size, stride, s.Batch)
}

// Suites lists the names that Suite takes.
var Suites = []string{"cpu", "gpu", "adversarial", "kernels", "scaling", "all"}

// Suite lists the cases of a suite whose names match: the steps that a CPU or a
// GPU is judged by, what adversarial training costs by network, method and batch
// size, the kernels under them, one step at growing batch sizes, or the CPU's and
// the kernels.
func Suite(name string, match *regexp.Regexp) []Spec {
	var all []Spec
	switch name {
	case "cpu":
		all = steps()
	case "gpu":
		all = gpuSteps()
	case "adversarial":
		all = methods()
	case "kernels":
		all = kernels()
	case "scaling":
		for _, batch := range []int{16, 32, 64, 128, 256} {
			all = append(all, step("cifar-small", "pgd-at", 10, batch), step("preactresnet18", "standard", 0, batch))
		}
	default:
		all = append(steps(), kernels()...)
	}
	var out []Spec
	for _, s := range all {
		if match.MatchString(s.Name()) {
			out = append(out, s)
		}
	}
	return out
}

func steps() []Spec {
	return []Spec{
		step("cifar-small", "standard", 0, 128),
		step("cifar-small", "pgd-at", 10, 128),
		step("mnist-madry", "pgd-at", 40, 50),
		step("preactresnet18", "standard", 0, 64),
		step("preactresnet18", "pgd-at", 10, 64),
	}
}

func step(model, method string, steps, batch int) Spec {
	return Spec{Kind: "step", Model: model, Method: method, Steps: steps, Batch: batch}
}

// gpuBatches are the batch sizes that GPUs are measured at.
var gpuBatches = []int{128, 512, 1024}

func gpuSteps() (all []Spec) {
	for _, batch := range gpuBatches {
		all = append(all, step("mnist-madry", "pgd-at", 40, batch), step("preactresnet18", "pgd-at", 10, batch), step("wideresnet-28-10", "pgd-at", 10, batch))
	}
	return all
}

func methods() (all []Spec) {
	for _, model := range []string{"mnist-madry", "preactresnet18", "wideresnet-28-10", "wideresnet-34-10"} {
		steps := 10
		if model == "mnist-madry" {
			steps = 40
		}
		for _, batch := range gpuBatches {
			all = append(all, step(model, "standard", 0, batch), step(model, "fgsm-rs", 1, batch), step(model, "pgd-at", steps, batch), step(model, "trades", steps, batch))
		}
	}
	return all
}

func kernels() []Spec {
	out := []Spec{{Kind: "matmul", Size: 1024}}
	for _, kind := range []string{"conv2d", "conv2d-input-grad", "conv2d-filter-grad"} {
		for _, c := range []Spec{
			{Channels: 64, Size: 32}, {Channels: 128, Size: 16}, {Channels: 256, Size: 8}, {Channels: 512, Size: 4},
		} {
			c.Kind, c.Batch, c.Out, c.Kernel, c.Stride = kind, 128, c.Channels, 3, 1
			out = append(out, c)
		}
		out = append(out, Spec{Kind: kind, Batch: 128, Channels: 64, Out: 128, Size: 32, Kernel: 3, Stride: 2})
		out = append(out, Spec{Kind: kind, Batch: 128, Channels: 3, Out: 64, Size: 32, Kernel: 3, Stride: 1})
		out = append(out, Spec{Kind: kind, Batch: 128, Channels: 32, Out: 64, Size: 14, Kernel: 5, Stride: 1})
	}
	return out
}
