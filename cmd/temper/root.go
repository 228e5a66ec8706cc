package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"temper/adversarial/job"
	"temper/adversarial/run"
)

func root(c *job.Console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "temper",
		Short: "Train image classifiers on their own worst cases",
		Long: `temper trains image classifiers adversarially and measures what that brings.

Every flag has an environment variable: --batch-size is TEMPER_BATCH_SIZE; the
command line has the last word. Results go to standard output, everything else
to standard error.

Exit codes: 0 done; 1 failed; 2 wrong usage; 130 interrupted (a training run has
kept a checkpoint and says how to go on).`,
		Example: `  temper train                                    # the paper's data, both ways, in seconds
  temper train --dataset mnist --recipe fast-at   # MNIST, minutes on a CPU
  temper eval latest --attack pgd --steps 50 --restarts 10`,
		Args:              cobra.ArbitraryArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return environment(cmd.Flags()) },
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var known []string
		for _, sub := range cmd.Commands() {
			known = append(known, sub.Name())
		}
		return job.UnknownCommand(args[0], known)
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &job.UsageError{Err: nearFlag(cmd, err)} })
	cmd.PersistentFlags().BoolVar(&c.JSON, "json", false, "print results as JSON, one object a line")
	cmd.AddCommand(train(c), eval(c), attack(c), export(c), importCommand(c), benchCommand(c), data(c), featuresCommand(c), graph(c), reportCommand(c), watch(c), serve(c), devices(c), doctor(c), kernels(c), recipes(c), reproduce(c), version(c))
	complete(cmd)
	return cmd
}

// nearFlag adds to an error about an unknown flag those that may have been meant.
func nearFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
	return fmt.Errorf("%w%s; %s -h lists them", err, run.DidYouMean("--"+unknown.GetSpecifiedName(), known), cmd.CommandPath())
}

// fromEnvironment marks flags whose value came from the environment.
const fromEnvironment = "environment"

// environment gives flags that the command line leaves out the values of their
// environment variables.
func environment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		v := os.Getenv(job.Env(f.Name))
		if err != nil || f.Changed || v == "" || f.Name == "help" {
			return
		}
		if err = flags.Set(f.Name, v); err == nil {
			err = flags.SetAnnotation(f.Name, fromEnvironment, nil)
		}
		if err != nil {
			err = &job.UsageError{Err: fmt.Errorf("%s: %w", job.Env(f.Name), err)}
		}
	})
	return err
}

// settings registers flags that set a setting, and --set. What it returns lists
// what the user set, once the command line is read.
func settings(cmd *cobra.Command, list []job.Flag) func() []job.Assignment {
	named := flags(cmd, list)
	set := cmd.Flags().StringArray("set", nil, "any setting as key=value; a run's config.toml has the keys")
	return func() []job.Assignment { return append(named(), job.Sets(*set)...) }
}

// flags is settings without --set.
func flags(cmd *cobra.Command, list []job.Flag) func() []job.Assignment {
	for _, f := range list {
		if f.Switch() {
			cmd.Flags().Bool(f.Name, false, f.Help)
		} else {
			cmd.Flags().String(f.Name, "", f.Help)
		}
	}
	return func() (user []job.Assignment) {
		for _, f := range list {
			flag := cmd.Flag(f.Name)
			source := "--" + f.Name
			if _, ok := flag.Annotations[fromEnvironment]; ok {
				source = job.Env(f.Name)
			}
			if flag.Changed {
				user = append(user, job.Assignment{Key: f.Key, Value: flag.Value.String(), Source: source})
			}
		}
		return user
	}
}

// arguments wraps a check of arguments so that its error counts as wrong usage.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &job.UsageError{Err: fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}
