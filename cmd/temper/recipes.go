package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

func recipes(c *job.Console) *cobra.Command {
	return &cobra.Command{
		Use:   "recipes [NAME…]",
		Short: "List the recipes, or print some",
		Long: `List the recipes that --recipe takes: named settings to start from, each with the
paper it follows, the numbers published for it, and temper's where it was
measured. With names, print their texts.`,
		Example: `  temper recipes
  temper recipes fast-at`,
		RunE: func(_ *cobra.Command, args []string) error { return job.ListRecipes(*c, args) },
	}
}
