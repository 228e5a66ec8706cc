package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"temper/adversarial/job"
	"temper/adversarial/live"
	"temper/adversarial/run"
)

func watch(c *job.Console) *cobra.Command {
	var root string
	o := live.WatchOptions{Interval: time.Second}
	cmd := &cobra.Command{
		Use:   "watch [RUN]",
		Short: "Follow a run in the terminal",
		Long: `Follow a run, the newest one unless another is named, in the terminal until it
ends: progress, speed and time left, sparklines of loss, accuracies and learning
rate, where the time of a step goes, the memory that it needs, and on a GPU how
much of the device's is in use. It only reads the run's folder: it can be started
and stopped at any time, and for runs that have ended.

Where the output is no terminal it prints a line for each evaluation, and the
whole view at the end; with --json, an object each time.`,
		Example: `  temper watch
  temper watch runs/20261123-101500-mnist-fgsm-rs
  temper watch latest --once
  temper watch latest --once --json`,
		Args: arguments(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().StringVar(&root, "run-dir", job.DefaultRoot, "folder of run folders")
	cmd.Flags().BoolVar(&o.Once, "once", false, "show the run as it is now, and stop")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := job.Latest
		if len(args) > 0 {
			name = args[0]
		}
		r, err := run.Open(job.RunFolder(root, name))
		if err != nil {
			return err
		}
		if fd := int(os.Stdout.Fd()); !o.Once && term.IsTerminal(fd) && os.Getenv("TERM") != "dumb" {
			o.Size = func() (columns, rows int) {
				columns, rows, err := term.GetSize(fd)
				if err != nil || columns < 20 || rows < 2 {
					return 80, 24
				}
				return columns, rows
			}
		}
		o.JSON = c.JSON
		return live.Watch(cmd.Context(), c.Out, r.Dir, o)
	}
	return cmd
}
