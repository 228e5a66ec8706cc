package main

import (
	"strings"

	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func graph(c *job.Console) *cobra.Command {
	var o job.GraphOptions
	cmd := &cobra.Command{
		Use:   "graph [RUN]",
		Short: "Print a training step as the compiler sees it",
		Long: `Print one of the programs that temper train would run, or that RUN runs, as text,
after a pass of the compiler, or as the plan of kernels and memory. A whole
training step, attack included, is one graph. --format dot writes it for Graphviz.

--format html makes a page of what runs: each group of operations opens to show
them, the kernel that the device runs for it (on a GPU or the emulator: its
source), and the bytes and operations it costs. --profile runs the step on its
first batch and says what each group takes, as a table or on the page; --trace
writes the timed step for chrome://tracing or ui.perfetto.dev.

With --json, --profile is an object: program, device, precision, batch, seconds and
bytes of the whole step, and steps, a list of all that ran, the longest first, each
with name, part (attack or update), runs, and in all of these seconds, bytes, flops;
kernels are what the device ran for it.

Passes, in order: ` + strings.Join(job.PassNames(), ", ") + `.`,
		Example: `  temper graph --pass input
  temper graph --dataset mnist --recipe fast-at --plan
  temper graph latest --pass input
  temper graph --format dot --pass simplify | dot -Tsvg > step.svg
  temper graph --format html --profile > step.html
  temper graph --dataset mnist --recipe fast-at --profile --trace step.json
  temper graph --profile --json | jq '.steps[:5]'
  temper graph --program eval --set eval.batch_size=1`,
		Args: arguments(cobra.MaximumNArgs(1)),
	}
	user := settings(cmd, job.TrainFlags)
	cmd.Flags().StringVar(&o.Program, "program", job.Programs[0], strings.Join(job.Programs, ", "))
	cmd.Flags().StringVar(&o.Pass, "pass", "", "the pass after which to print; input is before all (default after all)")
	cmd.Flags().BoolVar(&o.Plan, "plan", false, "print kernels, buffers and memory instead")
	cmd.Flags().StringVar(&o.Format, "format", job.GraphFormats[0], strings.Join(job.GraphFormats, ", "))
	cmd.Flags().BoolVar(&o.Profile, "profile", false, "run the step and say what its parts take")
	cmd.Flags().StringVar(&o.Trace, "trace", "", "file for a timed step in Chrome's trace format")
	cmd.Flags().StringVar(&o.Root, "run-dir", job.DefaultRoot, "folder of run folders")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		o.User = user()
		if len(args) > 0 {
			o.Run = args[0]
		}
		return job.Graph(*c, o)
	}
	return cmd
}
