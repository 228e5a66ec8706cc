package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func data(c *job.Console) *cobra.Command {
	var o job.DataOptions
	cmd := &cobra.Command{
		Use:   "data",
		Short: "List, fetch and verify data sets",
		Long: `List, fetch and verify the published data sets. They lie in --data-dir, else in
the folder that TEMPER_DATA names, else in a folder of the user's own. What
torchvision has downloaded is found where that is its root.`,
		Example: `  temper data list
  temper data fetch mnist cifar10
  temper data verify`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&o.Dir, "data-dir", "", "folder of the data sets")

	fetch := &cobra.Command{
		Use:   "fetch NAME…",
		Short: "Download data sets",
		Long: `Download data sets from their owners' addresses. Every file is checked against
the published SHA-256; an interrupted download goes on where it stopped.`,
		Example: `  temper data fetch mnist
  temper data fetch svhn --optional
  temper data fetch cifar10 --mirror https://mirror.example.org/cifar/`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Names = args
			return job.FetchData(cmd.Context(), *c, o)
		},
	}
	fetch.Flags().BoolVar(&o.Optional, "optional", false, "also fetch optional files (SVHN's extra images)")
	fetch.Flags().StringArrayVar(&o.Mirrors, "mirror", nil, "base address to fetch from instead of the published ones")

	verify := &cobra.Command{
		Use:   "verify [NAME…]",
		Short: "Compare files with the published sizes and hashes",
		Long: `Compare the files of data sets with the published sizes and SHA-256 hashes.
Without names, the sets that are there. Exit code 1 if a file differs or is missing.`,
		RunE: func(_ *cobra.Command, args []string) error {
			o.Names = args
			return job.VerifyData(*c, o)
		},
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the data sets and whether they are there",
		Args:  arguments(cobra.NoArgs),
		RunE:  func(*cobra.Command, []string) error { return job.ListData(*c, o) },
	}
	cmd.AddCommand(list, fetch, verify)
	return cmd
}
