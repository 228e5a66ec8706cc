//go:build cgo && !windows

package cuda_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"temper/adversarial/job"
	"temper/cuda"
	"temper/engine/graph"
	"temper/engine/plan"
)

// shipped are the training programs whose kernels are looked at: a batch of a
// training step with its attack and, where all is set, of the evaluation. The others
// have the same kernels at other sizes: none may spill, and they are not listed.
var shipped = []struct {
	name, precision, settings string
	all                       bool
}{
	{"mnist", "float32", "data.name=mnist recipe=pgd-at", true},
	{"small", "float32", "data.name=cifar10 recipe=small-pgd7", true},
	{"preactresnet18", "float32", "data.name=cifar10 model.name=preactresnet18 recipe=pgd-at", true},
	{"preactresnet18 in bf16", "bf16", "data.name=cifar10 model.name=preactresnet18 recipe=pgd-at", true},
	{"preactresnet18 in TF32", "tf32", "data.name=cifar10 model.name=preactresnet18 recipe=pgd-at", false},
	{"wideresnet-28-10", "float32", "data.name=cifar10 model.name=wideresnet-28-10 recipe=pgd-at", false},
	{"wideresnet-28-10 in bf16", "bf16", "data.name=cifar10 model.name=wideresnet-28-10 recipe=pgd-at", false},
}

// plansOf lists the plans of the index-th of the shipped programs.
func plansOf(t *testing.T, index int) []*plan.Plan {
	t.Helper()
	m := shipped[index]
	plans, err := job.Plans(settings(m.settings+" precision="+m.precision), cuda.Target)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(plans, func(p *plan.Plan) bool { return !m.all && !strings.HasSuffix(p.Graph.Name(), "pgd-at") })
}

// described is a kernel with a name for people.
type described struct {
	cuda.Kernel
	what   string
	listed bool // in testdata/registers.txt
}

func settings(text string) (list []job.Assignment) {
	for s := range strings.FieldsSeq(text + " batches.size=128 data.limit=628 data.held_out=500 eval.batch_size=500") {
		key, value, _ := strings.Cut(s, "=")
		list = append(list, job.Assignment{Key: key, Value: value, Source: "--test"})
	}
	return list
}

// shippedKernels lists the different kernels of the shipped programs for an
// architecture.
func shippedKernels(t *testing.T, arch string) (all []described) {
	seen := map[string]bool{}
	for i, m := range shipped {
		for _, p := range plansOf(t, i) {
			err := cuda.EachKernel(p, arch, func(s plan.Step, k cuda.Kernel, at int) {
				if !seen[k.Name] {
					seen[k.Name] = true
					all = append(all, described{k, m.name + " " + what(s, at), m.all})
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

// what describes a step's kernel. Fused groups change with every rewrite, and
// are looked at together.
func what(s plan.Step, i int) string {
	switch {
	case s.Fused != nil && s.Fused.Axes != nil:
		return "the largest of the fused groups with reductions"
	case s.Fused != nil, s.Copy != nil:
		return "the largest of the fused groups"
	}
	var operands []string
	for _, in := range s.Op.Ins() {
		operands = append(operands, fmt.Sprint(in.DType(), in.Shape()))
	}
	text := fmt.Sprintf("%v of %s", s.Op.Op(), strings.Join(operands, " "))
	if s.Op.Op().Class() == graph.ClassContraction && s.Op.Attrs().Stride[0] > 1 {
		text += fmt.Sprintf(" stride %v", s.Op.Attrs().Stride)
	}
	if i > 0 {
		text += ", the sum of its parts"
	}
	return text
}

// TestRegisters compiles the kernels of the shipped programs for two
// generations: none may spill, and what each needs of a multiprocessor is in
// testdata/registers.txt, which -update rewrites. The numbers are those of
// build/nvrtc.sh's compiler; another one's are not compared.
func TestRegisters(t *testing.T) {
	c := compiler(t, "TEMPER_NVRTC")
	archs := []string{"sm_80", "sm_90a"}
	type need [2]struct{ registers, shared int } // on each architecture
	needs := map[string]need{}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(2)
	for i, arch := range archs {
		for _, k := range shippedKernels(t, arch) {
			group.Go(func() error {
				_, resources, err := c.Compile(k.Name, cuda.Unit(k.Source), arch)
				if err != nil {
					return err
				}
				r := resources[k.Name]
				if r.Registers == 0 || r.Spills+r.Losses != 0 {
					t.Errorf("%s, %s: %d registers, %d bytes of spills, %d losses", k.what, arch, r.Registers, r.Spills, r.Losses)
				}
				if !k.listed {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				n := needs[k.what]
				n[i].registers, n[i].shared = max(n[i].registers, r.Registers), max(n[i].shared, r.Shared+k.Shared)
				needs[k.what] = n
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(needs)) {
		n := needs[what]
		columns := ""
		for i := range n {
			if n[i].registers > 0 {
				columns += fmt.Sprintf("%3d %6d  ", n[i].registers, n[i].shared)
			} else {
				columns += "  -      -  " // it has no such kernel
			}
		}
		lines = append(lines, columns+what)
	}
	got := fmt.Sprintf("# CUDA %d.%d: registers of a thread and bytes of shared memory of a block, on %s\n%s\n",
		c.Major, c.Minor, strings.Join(archs, " and "), strings.Join(lines, "\n"))
	const file = "testdata/registers.txt"
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(string(want), ":")
	if !strings.HasPrefix(got, header+":") {
		t.Logf("%s is of another compiler: not compared", file)
		return
	}
	diff(t, string(want), got)
}

// diff reports the lines that only one of two texts has.
func diff(t *testing.T, want, got string) {
	count := map[string]int{}
	for line := range strings.Lines(got) {
		count[line]++
	}
	for line := range strings.Lines(want) {
		count[line]--
	}
	for line, n := range count {
		if n != 0 {
			t.Errorf("%+d of %s", n, line)
		}
	}
	if t.Failed() {
		t.Error("+ is new: look at it, then run with -update")
	}
}

// TestTraffic counts, for a run of each shipped program, what its kernels read
// and write if each touches its buffers once, and its launches. The counts are in
// testdata/traffic.txt, which -update rewrites.
func TestTraffic(t *testing.T) {
	lines := []string{"# MB read and written, and launches, copies included, of one run at a batch of 128 (evaluation: 500), on sm_90"}
	for i, m := range shipped {
		for _, p := range plansOf(t, i) {
			bytes, launches, err := cuda.Traffic(p)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("%9.1f %5d  %s: %s", float64(bytes)/1e6, launches, m.name, p.Graph.Name()))
		}
	}
	golden(t, "testdata/traffic.txt", strings.Join(lines, "\n")+"\n")
}

// TestTiles lists how what is computed in bf16 is divided on sm_90, at a batch of
// 128; testdata/tiles.txt has the choices, which -update rewrites.
func TestTiles(t *testing.T) {
	lines := []string{"# how products and convolutions of bf16 are divided on sm_90, at a batch of 128"}
	for _, model := range []string{"preactresnet18", "wideresnet-28-10"} {
		plans, err := job.Plans(settings("data.name=cifar10 recipe=pgd-at precision=bf16 model.name="+model), cuda.Target)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, p := range plans {
			err := cuda.EachKernel(p, "sm_90a", func(s plan.Step, k cuda.Kernel, _ int) {
				if s.Op == nil || s.Op.DType() != graph.BF16 || s.Op.In(0).Dim(0) != 128 || k.Tiling == "" {
					return
				}
				if line := fmt.Sprintf("%s: %s: %s", model, what(s, 0), k.Tiling); !seen[line] {
					seen[line] = true
					lines = append(lines, line)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	slices.Sort(lines[1:])
	golden(t, "testdata/tiles.txt", strings.Join(lines, "\n")+"\n")
}

// golden compares a text with a file, or writes it there.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, string(want), got)
}

func compiler(t *testing.T, variable string) *cuda.Compiler {
	t.Helper()
	need := slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "nvrtc")
	path := os.Getenv(variable)
	if path == "" && !need {
		t.Skipf("no %s: eval \"$(build/nvrtc.sh)\" sets it", variable)
	}
	t.Setenv("TEMPER_NVRTC", path)
	c, err := cuda.OpenCompiler(0, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOtherToolkit compiles the headers, and a kernel of each template, with
// CUDA 12 and for generations that nobody here has.
func TestOtherToolkit(t *testing.T) {
	for _, c := range []struct {
		variable string
		archs    []string
	}{{"TEMPER_NVRTC12", []string{"sm_80", "sm_90a", "sm_120"}}, {"TEMPER_NVRTC", []string{"sm_86", "sm_120"}}} {
		t.Run(c.variable, func(t *testing.T) {
			nvrtc := compiler(t, c.variable)
			for _, arch := range c.archs {
				for _, k := range cuda.TemplateKernels(arch) {
					_, resources, err := nvrtc.Compile(k.Name, cuda.Unit(k.Source), arch)
					if err != nil {
						t.Fatal(err)
					}
					if r := resources[k.Name]; r.Registers == 0 || r.Spills+r.Losses != 0 {
						t.Errorf("%s for %s: %d registers, %d bytes of spills, %d losses", k.Name, arch, r.Registers, r.Spills, r.Losses)
					}
				}
			}
		})
	}
}
