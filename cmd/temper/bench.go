package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"temper/adversarial/bench"
	"temper/adversarial/job"
)

func benchCommand(c *job.Console) *cobra.Command {
	var b bench.Command
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine: training steps and kernels, beside its ceiling and PyTorch",
		Long: `Measure training steps and kernels on this machine. Medians stand with their
95 % interval; the rate counts the multiply-adds of products and convolutions as
they are defined, and is given as a share of the ceiling that temper measures in
the same run.

Suites:
  cpu          training steps of a size for a CPU
  gpu          training steps of a size for a GPU
  adversarial  standard, FGSM-RS, PGD and TRADES steps of four networks at batch
               128, 512 and 1024: hours on a CPU
  kernels      products and convolutions, and the latter's gradients
  scaling      two steps over the batch size; with --threads, over the workers
  all          cpu and kernels

With --peer, PyTorch runs a twin of each case in the same run, in turn, at the
same threads, in its variants nchw, channels_last, compile (torch.compile) and, on
a GPU, graph; the ratio is taken against the variant with the shortest median.

With --against, each case stands beside an earlier measurement of it: only
intervals that do not touch count as a difference, and what else differed
(device, precision, commit, the machine's own speed) is named.`,
		Example: `  temper bench
  temper bench --suite kernels --match 'matmul|conv2d/'
  temper bench --peer --python python3 --seconds 10
  temper bench --format json > before.json
  temper bench --against before.json
  temper bench --format go > new.txt && benchstat old.txt new.txt`,
		Args: arguments(cobra.NoArgs),
	}
	f := cmd.Flags()
	f.StringVar(&b.Suite, "suite", bench.Suites[0], "what to measure: "+strings.Join(bench.Suites, ", "))
	f.StringVar(&b.Match, "match", "", "only the cases whose names match this regular expression")
	f.BoolVar(&b.List, "list", false, "print the names of the cases and stop")
	f.StringVar(&b.Device, "device", "auto", "device to measure: auto, cpu, cuda:0, …")
	f.IntVar(&b.Threads, "threads", 0, "CPU workers, of the peer too; 0 is one a core")
	f.StringVar(&b.Precision, "precision", bench.Precisions[0], "of products and convolutions, of the peer's too: "+strings.Join(bench.Precisions, ", "))
	f.BoolVar(&b.ExactConv, "exact-conv", false, job.ExactConvHelp)
	f.Float64Var(&b.Seconds, "seconds", 5, "how long to measure each case")
	f.BoolVar(&b.Peer, "peer", false, "run PyTorch's twin of each case beside it")
	f.StringVar(&b.Python, "python", "python3", "the Python interpreter that has torch, for --peer")
	f.StringSliceVar(&b.Skip, "skip", nil, "variants of the peer to leave out")
	f.StringVar(&b.Format, "format", bench.Formats[0], "how to print: table, json, go (Go's benchmark format, for benchstat)")
	f.StringVar(&b.Against, "against", "", "compare with an earlier run: what --format json printed")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if c.JSON {
			b.Format = "json"
		}
		if err := b.Check(); err != nil {
			return &job.UsageError{Err: err}
		}
		err := b.Run(cmd.Context(), c.Out, c.Err)
		if errors.Is(err, context.Canceled) {
			return &job.InterruptedError{Kept: " between two cases: no report is made of a part; --match measures fewer"}
		}
		return err
	}
	return cmd
}
