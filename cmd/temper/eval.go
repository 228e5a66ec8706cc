package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func eval(c *job.Console) *cobra.Command {
	var o job.EvalOptions
	cmd := &cobra.Command{
		Use:   "eval RUN",
		Short: "Measure a trained network, clean and under an attack",
		Long: `Measure the network of a run on its test set, clean and under an attack. RUN is
a run folder or its name; "latest" is the newest run. What is not given is taken
from the run.

Every perturbation is checked against the threat model; robust accuracy counts
the examples that are right both without and under the attack. The result is
printed, and kept in the run's folder evaluations/.`,
		Example: `  temper eval latest --attack pgd --steps 50 --restarts 10
  temper eval latest --attack pgd --steps 20 --eps 4/255 --limit 1000 --json
  temper eval runs/20261123-101500-mnist-fgsm-rs --checkpoint best --set attack.loss=cw`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	user := settings(cmd, job.EvalFlags)
	cmd.Flags().StringVar(&o.Root, "run-dir", job.DefaultRoot, "folder of run folders")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Run, o.User = args[0], user()
		return job.Eval(cmd.Context(), *c, o)
	}
	return cmd
}
