package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"temper/adversarial/job"
	"temper/adversarial/run"
	"temper/cuda"
)

func kernels(c *job.Console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kernels",
		Short: "Compile CUDA kernels ahead of time",
		Long:  `Compile CUDA kernels ahead of time. Without that they are compiled when a GPU first needs them.`,
		Args:  arguments(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(kernelsBuild(c))
	return cmd
}

func kernelsBuild(c *job.Console) *cobra.Command {
	var archs []string
	var dry bool
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Fill the cache with the kernels of a training run",
		Long: `Compile every kernel that temper train with the same flags would run on a GPU, for
each of some architectures, into the cache of compiled kernels: TEMPER_CACHE, or
temper in the user's cache folder. It needs NVRTC but no GPU; a machine that has
the cache needs a GPU's driver alone. Of convolutions these are all candidates that
a GPU times to choose one; TEMPER_TUNE=off compiles what is taken without timing.
What the cache has is not compiled again. A deep network takes minutes; an interrupt
keeps what is compiled.`,
		Example: `  temper kernels build --dataset cifar10 --model preactresnet18 --recipe pgd-at
  temper kernels build --arch sm_90 --dataset cifar10 --model wideresnet-28-10 --recipe trades
  TEMPER_CACHE=bundle/cache temper kernels build --arch sm_80,sm_86,sm_90`,
		Args: arguments(cobra.NoArgs),
	}
	user := settings(cmd, job.TrainFlags)
	cmd.Flags().StringSliceVar(&archs, "arch", []string{"sm_80", "sm_90"}, "architectures of GPUs: A100 is sm_80, H100 and H200 are sm_90")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "check the settings, plan the programs, and stop; needs no NVRTC")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for i := range archs {
			var err error
			if archs[i], err = cuda.ParseArch(archs[i]); err != nil {
				return &job.UsageError{Err: err}
			}
		}
		plans, err := job.Plans(user(), cuda.Target)
		if err != nil {
			return err
		}
		if dry {
			fmt.Fprintf(c.Err, "%d programs for %s; a dry run: nothing was compiled\n", len(plans), strings.Join(archs, ", "))
			return nil
		}
		var bar atomic.Pointer[run.Progress]
		defer context.AfterFunc(cmd.Context(), func() {
			if shown := bar.Load(); shown != nil {
				shown.Close()
			}
			fmt.Fprintln(c.Err, "temper: interrupted; what is compiled is in the cache, and the same command goes on")
			os.Exit(130)
		})()
		for _, arch := range archs {
			built, err := cuda.Prebuild(plans, arch, func(done, all int) {
				if done == 0 {
					bar.Store(run.NewProgress(c.Err, all, 0))
					bar.Load().Lines("compiling for "+arch, 30*time.Second)
				}
				bar.Load().Update(done)
			})
			if shown := bar.Load(); shown != nil {
				shown.Close()
			}
			if err != nil {
				return err
			}
			if c.JSON {
				err = json.NewEncoder(c.Out).Encode(built)
			} else {
				_, err = fmt.Fprintf(c.Out, "%s: %d kernels, %d of them candidates that a GPU chooses from by time; %d compiled now by NVRTC %s\n", built.Arch, built.Kernels, built.Candidates, built.Compiled, built.Compiler)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}
