//go:build cgo && !windows

package cuda

import (
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"temper/cuda/emulator"
	"temper/engine/plan"
)

// compileFunc compiles kernels to images that hold all of them.
type compileFunc func(kernels []Kernel) (images []image, err error)

// image is what a compiler made of some kernels.
type image struct {
	content []byte
	names   []string
}

// nvrtcCompiler finds NVRTC, or works with what is in the cache.
func nvrtcCompiler(g *gpu) (compileFunc, error) {
	k, err := NewCubins(Arch(g.Device.Info.Capability), g.lib.Version)
	if err != nil {
		return nil, err
	}
	return k.compile, nil
}

// compile makes a cubin of each kernel: so what is in the cache serves every
// program that has the kernel.
func (k *Cubins) compile(kernels []Kernel) ([]image, error) {
	images := make([]image, len(kernels))
	return images, eachKernel(kernels, func(i int) (err error) {
		images[i].names = []string{kernels[i].Name}
		images[i].content, err = k.Get(kernels[i].Name, Unit(kernels[i].Source))
		return err
	})
}

// eachKernel calls fn with the number of each kernel, several at a time.
func eachKernel(kernels []Kernel, fn func(i int) error) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range kernels {
		group.Go(func() error { return fn(i) })
	}
	return group.Wait()
}

// Prebuild fills the cache on disk with the kernels of some plans, compiled for
// an architecture as Arch names it, so that a machine with the cache needs no
// NVRTC: those that the cost model chooses, and the candidates to time. progress,
// unless it is nil, is told how many of all are done: none at first, then behind each.
func Prebuild(plans []*plan.Plan, arch string, progress func(done, all int)) (Prebuilt, error) {
	k, err := NewCubins(arch, 0)
	if err != nil {
		return Prebuilt{}, err
	}
	if k.compiler == nil {
		return Prebuilt{}, k.missing
	}
	of := target{capability: capabilityOf(arch)}
	if of.without, err = leftOut(); err != nil {
		return Prebuilt{}, err
	}
	var kernels []Kernel
	seen := map[string]bool{}
	add := func(list []Kernel) {
		for _, kernel := range list {
			if !seen[kernel.Name] {
				seen[kernel.Name] = true
				kernels = append(kernels, kernel)
			}
		}
	}
	for _, p := range plans {
		_, all, err := kernelsOf(p, of)
		if err != nil {
			return Prebuilt{}, err
		}
		add(all)
	}
	chosen := len(kernels)
	for _, p := range plans {
		if tuningOff() {
			break
		}
		for _, c := range tunablesOf(p, of) {
			list, err := c.kernels(p, capabilityOf(arch))
			if err != nil {
				return Prebuilt{}, err
			}
			add(slices.Concat(list...))
		}
	}
	if progress == nil {
		progress = func(int, int) {}
	}
	progress(0, len(kernels))
	var mu sync.Mutex
	done, compiled := 0, 0
	err = eachKernel(kernels, func(i int) error {
		_, made, unsaved, err := k.entry(kernels[i].Name, Unit(kernels[i].Source))
		if err == nil && unsaved != nil {
			err = fmt.Errorf("kernels cannot be kept: %w: set TEMPER_CACHE to a folder with room", unsaved)
		}
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if done++; made {
			compiled++
		}
		progress(done, len(kernels))
		return nil
	})
	version := fmt.Sprintf("%d.%d", k.compiler.Major, k.compiler.Minor)
	return Prebuilt{arch, len(kernels), len(kernels) - chosen, compiled, version}, err
}

// emulatorUnit is the number of kernels that the emulator's compiler is given
// at a time: starting it costs more than most kernels do.
const emulatorUnit = 400

func emulatorCompiler(checked bool) compileFunc {
	return func(kernels []Kernel) (images []image, err error) {
		for len(kernels) > 0 {
			n := min(len(kernels), emulatorUnit)
			var im image
			var sources []string
			for _, k := range kernels[:n] {
				im.names, sources = append(im.names, k.Name), append(sources, k.Source)
			}
			if im.content, err = emulator.Compile("kernels.cu", Unit(sources...), checked); err != nil {
				return nil, err
			}
			images, kernels = append(images, im), kernels[n:]
		}
		return images, nil
	}
}

// load compiles and loads those kernels that no earlier plan had.
func (g *gpu) load(kernels []Kernel) (err error) {
	var missing []Kernel
	shared := map[string]int{} // by the kernel's name
	for _, k := range kernels {
		if _, seen := shared[k.Name]; !seen && g.functions[k.Name] == nil {
			missing = append(missing, k)
		}
		shared[k.Name] = k.Shared
	}
	if len(missing) == 0 {
		return nil
	}
	if g.compile == nil {
		if g.compile, err = g.compiler(g); err != nil {
			return err
		}
	}
	images, err := g.compile(missing)
	if err != nil {
		return err
	}
	g.compiled += len(missing)
	for _, im := range images {
		m, err := g.Device.Load(im.content)
		if err != nil {
			return err
		}
		g.modules = append(g.modules, m)
		for _, name := range im.names {
			f, err := m.Function(name)
			if err == nil && shared[name] > 0 { // unasked, a block has 48 KiB, what it declares included
				err = f.SetDynamicShared(shared[name])
			}
			if err != nil {
				return err
			}
			g.functions[name] = f
		}
	}
	return nil
}
