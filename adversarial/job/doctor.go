package job

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine"
)

// Check is something that temper doctor looked at.
type Check struct {
	Name  string `json:"check"`
	Found string `json:"found"`
	// Do is what would make it better; "" where all is well.
	Do string `json:"do,omitempty"`
}

// Doctor is temper doctor: what this machine has of what temper can use, and what
// to do about the rest. more are the checks of back ends. Nothing of it is needed
// for temper train on structured data, so what is missing is no error.
func Doctor(c Console, dataDir string, more []Check) error {
	e := run.CurrentEnvironment("")
	version := e.Version
	if e.Commit != "" {
		version += fmt.Sprintf(" (%.12s)", e.Commit)
	}
	list := []Check{
		{Name: "temper", Found: fmt.Sprintf("%s, %s, %s/%s", version, e.Go, e.OS, e.Arch)},
		checkCPU(e),
	}
	infos, missing := engine.Devices()
	for _, i := range infos {
		if i.Spec != "cpu" {
			list = append(list, Check{Name: i.Spec, Found: i.Name + ", " + i.Detail})
		}
	}
	for _, err := range missing {
		list = append(list, Check{Name: "device", Found: err.Error(), Do: "the CPU is used; a GPU needs compute capability 8.0, an NVIDIA driver for CUDA 12.0, and a temper built with cgo"})
	}
	list = append(list, more...)
	list = append(list, checkData(dataDir)...)
	list = append(list, checkRuns())
	if c.JSON {
		for _, one := range list {
			if err := c.result(one, nil); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	for _, one := range list {
		mark := "ok"
		if one.Do != "" {
			mark = "--"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, one.Name, one.Found)
		if one.Do != "" {
			fmt.Fprintf(w, "\t\t%s\n", one.Do)
		}
	}
	return w.Flush()
}

func checkCPU(e run.Environment) Check {
	c := Check{Name: "cpu", Found: fmt.Sprintf("%s, %d cores, GOMAXPROCS %d, %s", e.CPU, e.Cores, e.GOMAXPROCS, strings.Join(e.Features, " "))}
	switch {
	case runtime.GOARCH == "amd64" && !strings.Contains(" "+strings.Join(e.Features, " ")+" ", " avx2 "):
		c.Do = "it has no AVX2: the portable kernels are used, many times slower"
	case os.Getenv("TEMPER_CPU") != "":
		c.Do = "TEMPER_CPU=" + os.Getenv("TEMPER_CPU") + " chooses the kernels: unset it for the fastest"
	}
	return c
}

// checkData looks for the published data sets.
func checkData(dataDir string) (list []Check) {
	known, dir, err := DataOptions{Dir: dataDir}.known()
	if err != nil {
		return []Check{{Name: "data", Found: err.Error(), Do: "give a folder with --data-dir or TEMPER_DATA"}}
	}
	for _, k := range known {
		c := Check{Name: "data: " + k.Name, Found: "present in " + dir}
		switch {
		case datasets.Present(k, dir):
		case datasets.Partial(k, dir):
			c.Found = "a part is in " + dir
		default:
			c.Found, c.Do = "not in "+dir, "temper data fetch "+k.Name
		}
		list = append(list, c)
	}
	return list
}

// checkRuns looks whether runs can be kept here.
func checkRuns() Check {
	c := Check{Name: "runs"}
	here, err := filepath.Abs(DefaultRoot)
	if err == nil {
		err = CheckWritable(filepath.Dir(here))
	}
	if c.Found = here; err != nil {
		c.Found, c.Do = err.Error(), "run temper in a folder that you can write to, or give one with --run-dir"
	}
	return c
}

// CheckWritable reports whether a folder can be written to, by a file that it
// makes and removes.
func CheckWritable(dir string) error {
	f, err := os.CreateTemp(dir, ".temper-doctor-*")
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, "temper doctor")
	f.Close()
	os.Remove(f.Name())
	return err
}
