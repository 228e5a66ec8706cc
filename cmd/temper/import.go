package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func importCommand(c *job.Console) *cobra.Command {
	var o job.ImportOptions
	cmd := &cobra.Command{
		Use:   "import FILE.safetensors --out RUN",
		Short: "Make a run of weights from PyTorch",
		Long: `Make a run folder of a safetensors file with the weights of a network that temper
knows, under the names of PyTorch's state_dict, to evaluate, attack or export. One
that temper export wrote says itself what it is. For others --dataset, --model and
--normalize say it; sizes other than the model's own are set with --set
model.width=… and the like.

Every tensor of the model must be there, in its shape, and no other one. Only
num_batches_tracked may be missing, a prefix such as "module." may stand before
all names, and float16, bfloat16 and float64 become float32: all of this is said.
The run has no training to go on with.`,
		Example: `  temper import model.safetensors --out runs/again
  temper import theirs.safetensors --dataset cifar10 --model preactresnet18 --normalize dataset --out runs/theirs
  temper import theirs.safetensors --dataset cifar10 --model wideresnet-34-10 --normalize none --set model.activation=silu --out runs/theirs`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	user := settings(cmd, job.ImportFlags)
	cmd.Flags().StringVar(&o.Out, "out", "", "run folder to make")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		o.File, o.User = args[0], user()
		return job.Import(*c, o)
	}
	return cmd
}
