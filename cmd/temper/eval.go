package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func eval(c *job.Console) *cobra.Command {
	var o job.EvalOptions
	cmd := &cobra.Command{
		Use:   "eval RUN",
		Short: "Measure a trained network, clean and under attacks",
		Long: `Measure the network of a run on its test set, clean and under attacks. RUN is
a run folder or its name; "latest" is the newest run. What is not given is taken
from the run.

Attacks: fgsm, pgd, mi-fgsm, ni-fgsm, apgd-ce, apgd-dlr, apgd-t, fab, fab-t,
square, cw-l2, deepfool, random-uniform, random-corner, ascent. Suites:
autoattack (the standard version, in float32; in L∞ and L2 apgd-ce, apgd-t, fab-t,
100 steps each and towards at most 9 classes, and square, 5000 queries, once each),
autoattack-plus, autoattack-rand. Of several attacks each one's accuracy is
reported, and that under the worst of them; of several eps, one result each.
autoattack-mixed is autoattack with the search in bf16, or what --precision says,
and every hit confirmed in float32. A search that rounds finds less: its number is
an upper bound on robust accuracy, and goes on no card and beside no published
number.

An attack sees the examples that the network gets right; one that has fallen is
left out of further restarts, targets and attacks of a suite. With --target or
--target-labels an attack goes towards a class, and an example falls when the
network says that class. With --split npz:FILE the examples are a file's: its images
x_adv, as temper attack writes them, else x_test or x, with their labels y_test or y.
What the clean accuracy then says of attacked images is how well the network stands
another one's attack. Every perturbation is checked against the threat model.
The result is printed, and kept in the run's folder evaluations/; an interrupted
evaluation goes on, with the same command, after its last finished round: a restart,
a target, a hundred queries of square. One that was killed loses half a minute more.
Warnings name what makes the numbers doubtful: randomised-forward,
softmax-output, zero-gradients, short-steps, black-box-beats-white-box.`,
		Example: `  temper eval latest --attack pgd --steps 50 --restarts 10
  temper eval latest --attack autoattack --limit 1000
  temper eval latest --attack pgd,apgd-ce,square --eps 2/255,4/255,8/255 --json
  temper eval latest --attack fab-t --norm l2 --eps 1
  temper eval latest --attack autoattack --card card.json
  temper eval latest --split npz:adversarial.npz --attack fgsm
  temper eval runs/20261123-101500-mnist-fgsm-rs --checkpoint best --set attack.loss=cw`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	user := settings(cmd, job.EvalFlags)
	cmd.Flags().StringVar(&o.Root, "run-dir", job.DefaultRoot, "folder of run folders")
	cmd.Flags().StringVar(&o.Card, "card", "", "also write a card, as RobustBench's model_info has it; of autoattack on the whole test set only")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "check run, settings and data, compile, say what would be measured, and stop")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Run, o.User = args[0], user()
		return job.Eval(cmd.Context(), *c, o)
	}
	return cmd
}
