package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"temper/adversarial"
	"temper/adversarial/bench"
	"temper/adversarial/job"
	"temper/adversarial/report"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/nn"
)

// completions says what the shell can offer for a flag, by the flag's name, or by
// the command's and the flag's where that depends on the command.
var completions = map[string]func() []string{
	"dataset":       func() []string { return append(dataSets(), "structured", "npz:") },
	"recipe":        recipeNames,
	"model":         nn.Names,
	"method":        adversarial.MethodNames,
	"attack":        func() []string { return slices.Concat(adversarial.AttackNames(), adversarial.SuiteNames()) },
	"train attack":  adversarial.AttackNames,
	"norm":          norms,
	"precision":     func() []string { return bench.Precisions },
	"device":        func() []string { return []string{"auto", "cpu", "cuda:0", "emulator"} },
	"checkpoint":    func() []string { return []string{"last", "best"} },
	"split":         func() []string { return []string{"test", "train", "held-out", "npz:"} },
	"weights":       func() []string { return []string{"average", "raw"} },
	"program":       func() []string { return job.Programs },
	"pass":          job.PassNames,
	"suite":         func() []string { return bench.Suites },
	"bench format":  func() []string { return bench.Formats },
	"graph format":  func() []string { return job.GraphFormats },
	"export format": func() []string { return job.Formats },
}

func norms() (names []string) {
	for _, n := range adversarial.Norms() {
		names = append(names, string(n))
	}
	return names
}

func dataSets() (names []string) {
	for _, k := range datasets.List() {
		names = append(names, k.Name)
	}
	return names
}

func recipeNames() (names []string) {
	for _, r := range job.Recipes() {
		names = append(names, r.Name)
	}
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// completedArguments says the same for arguments that are names, by command.
var completedArguments = map[string]func() []string{
	"temper data fetch": dataSets, "temper data verify": dataSets, "temper recipes": recipeNames, "temper reproduce": recipeNames,
}

// takeRuns are the commands whose arguments are runs, and how many they take.
var takeRuns = map[string]int{
	"temper eval": 1, "temper attack": 1, "temper export": 1, "temper graph": 1, "temper watch": 1, "temper train": 1, "temper report": report.MostRuns,
}

// complete tells the shell what it can offer in cmd and those below it. A file name
// is always possible.
func complete(cmd *cobra.Command) {
	path := cmd.CommandPath()
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		list := completions[cmd.Name()+" "+f.Name]
		if list == nil {
			list = completions[f.Name]
		}
		if list != nil && f.Value.Type() != "bool" {
			cobra.CheckErr(cmd.RegisterFlagCompletionFunc(f.Name, func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
				return listed(list(), word), cobra.ShellCompDirectiveNoFileComp
			}))
		}
	})
	if names := completedArguments[path]; names != nil {
		cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			left := slices.DeleteFunc(names(), func(n string) bool { return slices.Contains(args, n) })
			return starting(left, word), cobra.ShellCompDirectiveNoFileComp
		}
	}
	if most := takeRuns[path]; most > 0 {
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) >= most {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return starting(runs(cmd), word), cobra.ShellCompDirectiveDefault
		}
	}
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
}

// runs lists the names of the runs in --run-dir.
func runs(cmd *cobra.Command) (names []string) {
	if environment(cmd.Flags()) != nil {
		return nil
	}
	root, err := cmd.Flags().GetString("run-dir")
	if err != nil {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(root, "*", run.ConfigFile))
	if err != nil {
		return nil
	}
	for _, f := range found {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	return names
}

// starting keeps the words that begin as the one to be completed does.
func starting(words []string, word string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return !strings.HasPrefix(w, word) })
}

// listed completes the last of several values with commas between them.
func listed(words []string, word string) []string {
	before := word[:strings.LastIndexByte(word, ',')+1]
	out := starting(words, word[len(before):])
	for i := range out {
		out[i] = before + out[i]
	}
	return out
}
