package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func reportCommand(c *job.Console) *cobra.Command {
	var o job.ReportOptions
	cmd := &cobra.Command{
		Use:   "report RUN…",
		Short: "Write the page of a run, or of several beside each other",
		Long: `Write the page of a run as one HTML file that needs no network: results with
intervals, curves, confusion matrix, attacked examples beside their
perturbations, first-layer filters, alarms, settings and environment. Behind
every plot is a table of its numbers. temper train and temper eval write it too,
as report.html in the run's folder.

With several runs the page compares them: their results, their curves in one
plot each, and the settings in which they differ.`,
		Example: `  temper report latest
  temper report runs/20261123-101500-mnist-fgsm-rs --out page.html
  temper report runs/a runs/b --out comparison.html`,
		Args: arguments(cobra.MinimumNArgs(1)),
	}
	cmd.Flags().StringVar(&o.Root, "run-dir", job.DefaultRoot, "folder of run folders")
	cmd.Flags().StringVar(&o.Out, "out", "", "file to write (default report.html in the run's folder)")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		o.Runs = args
		return job.Report(*c, o)
	}
	return cmd
}
