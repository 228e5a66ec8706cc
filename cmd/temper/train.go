package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func train(c *job.Console) *cobra.Command {
	var o job.TrainOptions
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Train a network, adversarially or not",
		Long: `Train a network. The settings come from defaults, then a recipe, then the
environment, then flags, then --set, the later over the earlier. Those that
decide the result are printed at the start; all of them are kept in the run's
config.toml.

Ctrl-C finishes the step, writes a checkpoint and says how to go on (exit code
130); a second one quits at once. A run that was stopped in any way, even killed,
goes on with --resume from its newest checkpoint and ends with the same bits as
one that was not.

Some settings that have no flag of their own, for --set:

  checkpoint.choice             last, or best on data.held_out training examples
  schedule.cycle_momentum       with cyclic and one-cycle: the momentum moves too, as
                                PyTorch's does; also .base_momentum and .max_momentum
  training.average.name         ema or swa: averaged weights, which then count
  training.eps_warmup           epochs over which eps rises from 0
  training.mixup                the alpha of mixup
  training.augment.cutout       side of cutout's square; also .crop and .flip
  training.awp, .grad_align     adversarial weights; aligned gradients
  training.label_smoothing, .clip_grad

Alarms look at a run whenever it is evaluated: catastrophic_overfitting,
robust_overfitting (with data.held_out), collapse and gradient_masking. What each
does is alarms.NAME.action: off, warn (the default), stop, or rollback to the last
evaluation without an alarm, from where the attack takes twice as many steps or
the learning rate is halved; alarms.NAME.limit is when, alarms.probe how many
examples they attack (0: no alarms), alarms.rollbacks how often.`,
		Example: `  temper train
  temper train --dataset mnist --recipe fast-at
  temper train --dataset cifar10 --limit 10000 --epochs 5
  temper train --dataset cifar10 --limit 10000 --epochs 5 --recipe small-standard
  temper train --dataset cifar10 --model preactresnet18 --recipe pgd-at
  temper train --dataset npz:digits.npz --eps 0.1 --method standard,pgd-at
  temper train --dataset mnist --set optimizer.name=sgd --set checkpoint.keep=0
  temper train --dataset mnist --set data.held_out=1000 --set checkpoint.choice=best \
      --set alarms.catastrophic_overfitting.action=rollback
  temper train --dataset mnist --recipe fast-at --init weights.safetensors
  temper train --resume
  temper train --resume runs/20261123-101500-mnist-fgsm-rs --threads 1`,
		Args: arguments(cobra.MaximumNArgs(1)),
	}
	user := settings(cmd, job.TrainFlags)
	cmd.Flags().StringVar(&o.Root, "run-dir", job.DefaultRoot, "folder in which run folders are made")
	cmd.Flags().StringVar(&o.Resume, "resume", "", "go on with a run: its folder, or the latest one")
	cmd.Flags().Lookup("resume").NoOptDefVal = job.Latest
	cmd.Flags().StringVar(&o.ResumeFrom, "resume-from", "", "checkpoint to go on from, if not the newest")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "check settings and data, compile, print the choices, and stop")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Args, o.User = args, user()
		return job.Train(cmd.Context(), *c, o)
	}
	return cmd
}
