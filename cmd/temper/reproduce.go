package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func reproduce(c *job.Console) *cobra.Command {
	var o job.ReproduceOptions
	cmd := &cobra.Command{
		Use:   "reproduce RECIPE",
		Short: "Train and evaluate a recipe, and compare with its published number",
		Long: `Train with a recipe once for each of the seeds 0, 1, …, evaluate every run with
the attack that the recipe's published number comes from, and print the mean
over seeds with its interval beside that number (see: temper recipes).

Each seed is a run folder, reproduce-DATASET-RECIPE/seed-N. What is finished is
not done again: after an interrupt the same command goes on, and with more seeds
it trains only those that are missing. Nothing that decides a number can be set
but the number of test examples.`,
		Example: `  temper reproduce mnist-fast --seeds 3
  temper reproduce mnist-fast --seeds 1 --limit 1000
  temper reproduce pgd-at --dataset cifar10 --device cuda:0 --json`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	user := flags(cmd, job.ReproduceFlags)
	cmd.Flags().StringVar(&o.Root, "run-dir", job.DefaultRoot, "folder of run folders")
	cmd.Flags().StringVar(&o.Dataset, "dataset", "", "of several recipes of the name, the one made for this data set")
	cmd.Flags().IntVar(&o.Seeds, "seeds", 3, "number of runs")
	cmd.Flags().IntVar(&o.Only, "only", -1, "work on this seed alone, where others run elsewhere in the same folder")
	cmd.Flags().IntVar(&o.Limit, "limit", 0, "only the first n test examples; 0: all")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "check settings and data, compile, print the choices, and stop")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Recipe, o.User = args[0], user()
		return job.Reproduce(cmd.Context(), *c, o)
	}
	return cmd
}
