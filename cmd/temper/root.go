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

Exit codes: 0 done; 1 failed; 2 wrong usage, of a flag, its value or a setting;
130 interrupted (a training run has kept a checkpoint and says how to go on).`,
		Example: `  temper train                                    # the paper's data, both ways, in seconds
  temper train --dataset mnist --recipe fast-at   # MNIST, minutes on a CPU
  temper eval latest --attack pgd --steps 50 --restarts 10`,
		Args:              cobra.ArbitraryArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return environment(cmd.Flags()) },
	}
	number := cmd.Flags().Bool("version", false, "print the version")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case *number:
			return job.Version(*c)
		case len(args) == 0:
			return cmd.Help()
		}
		return unknownCommand(cmd, args[0])
	}
	cmd.SetHelpCommand(help())
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &job.UsageError{Err: flagError(cmd, err)} })
	cmd.PersistentFlags().BoolVar(&c.JSON, "json", false, "print results as JSON, one object a line")
	cmd.AddCommand(train(c), eval(c), attack(c), export(c), importCommand(c), benchCommand(c), data(c), featuresCommand(c), graph(c), reportCommand(c), watch(c), serve(c), devices(c), doctor(c), kernels(c), recipes(c), reproduce(c), version(c))
	cmd.InitDefaultCompletionCmd()
	completion, _, err := cmd.Find([]string{"completion"})
	cobra.CheckErr(err)
	completion.Args = arguments(cobra.NoArgs)
	completion.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	complete(cmd)
	return cmd
}

// unknownCommand is the error for a command that top does not have.
func unknownCommand(top *cobra.Command, name string) error {
	var known []string
	for _, sub := range top.Commands() {
		known = append(known, sub.Name())
	}
	return job.UnknownCommand(name, known)
}

// help is temper help COMMAND: the same as temper COMMAND -h.
func help() *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]",
		Short:  "Print a command's manual",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || found == cmd.Root() && len(rest) > 0 {
				return unknownCommand(cmd.Root(), args[0])
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// flagError says what is wrong with a flag: which ones may have been meant, or
// what it takes.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
		return fmt.Errorf("%w%s; %s -h lists them", err, run.DidYouMean("--"+unknown.GetSpecifiedName(), known), cmd.CommandPath())
	case errors.As(err, &value):
		if kind := kinds[value.GetFlag().Value.Type()]; kind != "" {
			return fmt.Errorf("--%s %s: want %s", value.GetFlag().Name, value.GetValue(), kind)
		}
	}
	return err
}

// kinds are what the types of flags take.
var kinds = map[string]string{"bool": "true or false", "int": "a whole number", "float64": "a number"}

// fromEnvironment marks flags whose value came from the environment.
const fromEnvironment = "environment"

// environment gives flags that the command line leaves out the values of their
// environment variables.
func environment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		v := os.Getenv(job.Env(f.Name))
		if err != nil || f.Changed || v == "" || f.Name == "help" || f.Name == "version" {
			return
		}
		if err = flags.Set(f.Name, v); err == nil {
			err = flags.SetAnnotation(f.Name, fromEnvironment, nil)
		}
		if err != nil {
			if kind := kinds[f.Value.Type()]; kind != "" {
				err = fmt.Errorf("%s %s: want %s", job.Env(f.Name), v, kind)
			}
			err = &job.UsageError{Err: err}
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
