package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func devices(c *job.Console) *cobra.Command {
	return &cobra.Command{
		Use:   "devices",
		Short: "List the devices that temper can compute on",
		Args:  arguments(cobra.NoArgs),
		RunE:  func(*cobra.Command, []string) error { return job.Devices(*c) },
	}
}
