package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func version(c *job.Console) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  arguments(cobra.NoArgs),
		RunE:  func(*cobra.Command, []string) error { return job.Version(*c) },
	}
}
