package main

import (
	"strings"

	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func export(c *job.Console) *cobra.Command {
	var o job.ExportOptions
	cmd := &cobra.Command{
		Use:   "export RUN|CHECKPOINT --out FILE",
		Short: "Write a trained network for PyTorch or ONNX",
		Long: `Write the network of a run, or of one checkpoint file in a run, for other
programs. The format is that of the file's extension, or --format.

safetensors  the weights alone, float32, under the names of PyTorch's state_dict:
             load_state_dict(load_file(FILE)) takes them, strictly. The metadata
             hold the run's settings, from which temper import makes a run again.
             The normalisation is no part of a state_dict: see model.mean and
             model.std there.
onnx         the whole network, from x (N,C,H,W), float32, images in [0,1], to
             logits (N,classes), normalisation inside, for any batch size N: opset
             17, IR version 8. Batch normalisation has its running statistics.`,
		Example: `  temper export latest --out model.safetensors
  temper export latest --out model.onnx
  temper export runs/20261123-101500-mnist-fgsm-rs/checkpoints/best.safetensors --out best.onnx`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	f := cmd.Flags()
	f.StringVar(&o.Root, "run-dir", job.DefaultRoot, "folder of run folders")
	f.StringVar(&o.Out, "out", "", "file to write")
	f.StringVar(&o.Format, "format", "", strings.Join(job.Formats, " or ")+"; by default the extension of --out")
	f.StringVar(&o.Checkpoint, "checkpoint", "", "last, best, or one such as step-00001200; by default the one that counts")
	f.StringVar(&o.Weights, "weights", "", "average or raw; by default the average, if the run has one")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		o.Run = args[0]
		return job.Export(*c, o)
	}
	return cmd
}
