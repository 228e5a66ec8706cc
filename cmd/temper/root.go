package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func root(c *job.Console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "temper",
		Short: "Train image classifiers on their own worst cases",
		Long: `temper trains image classifiers adversarially and measures what that brings.

Every flag has an environment variable: --batch-size is TEMPER_BATCH_SIZE.
Results go to standard output, everything else to standard error.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (a checkpoint is kept).`,
		Example: `  temper train                                   the paper's data, both ways, in seconds
  temper train --dataset mnist --recipe fast-at  MNIST, minutes on a CPU
  temper eval latest --attack pgd --steps 50 --restarts 10`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.PersistentFlags().BoolVar(&c.JSON, "json", false, "print results as JSON, one object a line")
	cmd.AddCommand(train(c))
	return cmd
}

// settings registers flags that set a setting, and returns what the user set:
// environment first, then flags, then --set.
func settings(cmd *cobra.Command, flags []job.Flag) func() []job.Assignment {
	for _, f := range flags {
		cmd.Flags().String(f.Name, "", f.Help)
	}
	set := cmd.Flags().StringArray("set", nil, "any setting, as key=value; see config.toml of a run for the keys")
	return func() []job.Assignment {
		return job.Assignments(flags, cmd.Flags().Changed, func(name string) string { return cmd.Flag(name).Value.String() }, *set)
	}
}
