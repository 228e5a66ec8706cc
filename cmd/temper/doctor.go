package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"temper/adversarial/job"
	"temper/cuda"
	"temper/cuda/cache"
)

func doctor(c *job.Console) *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine has, and what to do about the rest",
		Long: `Say what temper found on this machine: its own version, the processor and its
instruction sets, GPUs and their driver, NVRTC (CUDA's run-time compiler), the
cache of compiled kernels, data sets, and whether runs can be kept here. Below
what is missing stands what to do. A machine without a GPU and without data trains
on structured data: what is missing is no error.`,
		Example: `  temper doctor
  temper doctor --json`,
		Args: arguments(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "folder of the data sets")
	cmd.RunE = func(*cobra.Command, []string) error {
		return job.Doctor(*c, dataDir, []job.Check{checkCompiler(), checkCache()})
	}
	return cmd
}

func checkCompiler() job.Check {
	found, err := cuda.CompilerVersion()
	if errors.Is(err, cuda.ErrNoCgo) {
		return job.Check{Name: "nvrtc", Found: "not looked for: " + err.Error(), Do: "needed on a machine with a GPU only"}
	}
	if err != nil {
		return job.Check{Name: "nvrtc", Found: err.Error(), Do: "needed on a machine with a GPU only, unless temper kernels build has filled its cache elsewhere"}
	}
	return job.Check{Name: "nvrtc", Found: found}
}

func checkCache() job.Check {
	dir, err := cache.Dir()
	if err == nil {
		if err = os.MkdirAll(dir, 0o777); err == nil {
			err = job.CheckWritable(dir)
		}
	}
	if err != nil {
		return job.Check{Name: "kernel cache", Found: err.Error(), Do: "name a folder that you can write to in TEMPER_CACHE"}
	}
	return job.Check{Name: "kernel cache", Found: dir}
}
