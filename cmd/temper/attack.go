package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func attack(c *job.Console) *cobra.Command {
	var o job.EvalOptions
	cmd := &cobra.Command{
		Use:   "attack RUN --save FILE.npz",
		Short: "Attack a trained network and save the adversarial examples",
		Long: `Attack the network of a run, as temper eval does, and save what came out as
arrays of a NumPy .npz file, N examples each:

  x           (N,C,H,W)  the examples, as the data set has them (uint8 or float32)
  x_adv       (N,C,H,W)  after the attack, float32; images in [0,1]
  y           (N)        labels
  clean_pred  (N)        predictions for x
  adv_pred    (N)        predictions for x_adv
  ids         (N)        the examples' numbers in the data set

Examples that the network gets wrong without an attack stay as they are; so do
those in which an attack for the nearest boundary finds nothing within eps. After
an interrupt, the same command goes on behind its last finished round.`,
		Example: `  temper attack latest --save adversarial.npz
  temper attack latest --attack pgd --steps 40 --limit 100 --save adversarial.npz`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	user := settings(cmd, job.EvalFlags)
	cmd.Flags().StringVar(&o.Root, "run-dir", job.DefaultRoot, "folder of run folders")
	cmd.Flags().StringVar(&o.Save, "save", "", "file to write, ending in .npz")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Run, o.User = args[0], user()
		return job.Attack(cmd.Context(), *c, o)
	}
	return cmd
}
