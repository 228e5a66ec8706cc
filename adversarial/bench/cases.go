package bench

import (
	"fmt"
	"regexp"
)

// Spec describes a piece of work, for temper's program and PyTorch's twin.
type Spec struct {
	Kind  string `json:"kind"` // step, matmul, conv2d, conv2d-input-grad, conv2d-filter-grad
	Batch int    `json:"batch,omitempty"`

	// A training step: the model of that name, full size, on random images;
	// SGD with momentum. Steps of PGD come before it, at ε 8/255, 0 for none.
	Model string `json:"model,omitempty"`
	Steps int    `json:"steps"`

	// A convolution of (Batch, Channels, Size, Size) with (Out, Channels, Kernel,
	// Kernel), padded by half the kernel; or a product of Size×Size matrices.
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
		method := "standard"
		if s.Steps > 0 {
			method = fmt.Sprintf("pgd-%d", s.Steps)
		}
		return fmt.Sprintf("step/%s/%s/batch=%d", s.Model, method, s.Batch)
	case "matmul":
		return fmt.Sprintf("matmul/%d", s.Size)
	}
	stride := ""
	if s.Stride > 1 {
		stride = fmt.Sprintf("/stride=%d", s.Stride)
	}
	return fmt.Sprintf("%s/%dx%d/%d-%d@%d%s/batch=%d", s.Kind, s.Kernel, s.Kernel, s.Channels, s.Out, s.Size, stride, s.Batch)
}

// Suites lists the names that Suite takes.
var Suites = []string{"cpu", "gpu", "kernels", "scaling", "all"}

// Suite lists the cases of a suite whose names match: the steps that a CPU or a
// GPU is judged by, the kernels under them, one step at growing batch sizes, or
// the CPU's and the kernels.
func Suite(name string, match *regexp.Regexp) []Spec {
	var all []Spec
	switch name {
	case "cpu":
		all = steps()
	case "gpu":
		all = gpuSteps()
	case "kernels":
		all = kernels()
	case "scaling":
		for _, batch := range []int{16, 32, 64, 128, 256} {
			all = append(all, Spec{Kind: "step", Model: "cifar-small", Steps: 10, Batch: batch}, Spec{Kind: "step", Model: "preactresnet18", Batch: batch})
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
		{Kind: "step", Model: "cifar-small", Batch: 128},
		{Kind: "step", Model: "cifar-small", Steps: 10, Batch: 128},
		{Kind: "step", Model: "mnist-madry", Steps: 40, Batch: 50},
		{Kind: "step", Model: "preactresnet18", Batch: 64},
		{Kind: "step", Model: "preactresnet18", Steps: 10, Batch: 64},
	}
}

func gpuSteps() (all []Spec) {
	for _, s := range []Spec{{Model: "mnist-madry", Steps: 40}, {Model: "preactresnet18", Steps: 10}, {Model: "wideresnet-28-10", Steps: 10}} {
		for _, s.Batch = range []int{128, 512, 1024} {
			s.Kind = "step"
			all = append(all, s)
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
