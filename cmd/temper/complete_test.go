package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"temper/adversarial/job"
)

// TestComplete asks temper what the shell's scripts ask it.
func TestComplete(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"runs/20261123-a", "runs/20261124-b", "there/c"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "config.toml"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		line string // its last word is the one to be completed
		env  string
		want string // separated by spaces
	}{
		{line: "tr", want: "train"},
		{line: "eval |", want: "20261123-a 20261124-b"},
		{line: "eval 20261123-a |", want: ""},
		{line: "report 20261123-a 20261124|", want: "20261124-b"},
		{line: "report --run-dir there |", want: "c"},
		{line: "watch |", env: "TEMPER_RUN_DIR=there", want: "c"},
		{line: "train --dataset c|", want: "cifar10 cifar100"},
		{line: "train --method standard,pgd|", want: "standard,pgd-at"},
		{line: "train --model preact|", want: "preactresnet18"},
		{line: "train --recipe fast|", want: "fast-at"},
		{line: "train --attack autoattack|", want: ""},
		{line: "eval latest --attack fgsm,autoattack-r|", want: "fgsm,autoattack-rand"},
		{line: "eval latest --norm l|", want: "linf l2 l1"},
		{line: "bench --suite k|", want: "kernels"},
		{line: "bench --format g|", want: "go"},
		{line: "graph --format |", want: "text dot html"},
		{line: "graph --program |", want: "step eval init"},
		{line: "data fetch mnist |", want: "cifar10 cifar100 svhn"},
		{line: "recipes mnist-f|", want: "mnist-fast"},
	} {
		words := strings.Split(strings.TrimSuffix(c.line, "|"), " ")
		o := must(t, dir, []string{c.env}, append([]string{"__complete"}, words...)...)
		var got []string
		for line := range strings.Lines(o.stdout) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if word[0] != ':' {
				got = append(got, word)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.line, got, c.want)
		}
	}
}

// TestCompletionsAreUsed looks for completions of flags that no command has, and
// for arguments of commands that are none.
func TestCompletionsAreUsed(t *testing.T) {
	used := map[string]bool{}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		used[cmd.CommandPath()] = true
		cmd.Flags().VisitAll(func(f *pflag.Flag) { used[f.Name], used[cmd.Name()+" "+f.Name] = true, true })
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root(&job.Console{}))
	for name := range completions {
		if !used[name] {
			t.Errorf("no command has the flag %s", name)
		}
	}
	for name := range completedArguments {
		if !used[name] {
			t.Errorf("there is no command %s", name)
		}
	}
	for name := range takeRuns {
		if !used[name] {
			t.Errorf("there is no command %s", name)
		}
	}
}

// TestBash lets bash complete by the script that temper writes, without the
// package bash-completion but for the one function that the script takes from it.
func TestBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "bash") {
			t.Fatal("TEMPER_REQUIRE lists bash, but there is none")
		}
		t.Skip("no bash")
	}
	dir := t.TempDir()
	script := must(t, dir, nil, "completion", "bash").stdout
	if err := os.WriteFile(filepath.Join(dir, "temper.bash"), []byte(script), 0o666); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "temper")); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(bash, "--norc", "-c", `
_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; }
__ltrim_colon_completions() { :; }
compopt() { :; }
source ./temper.bash
complete -p temper
COMP_WORDS=(temper train --recipe fas) COMP_CWORD=3 COMP_LINE="temper train --recipe fas" COMP_POINT=25 COMP_TYPE=9
__start_temper
echo "got ${COMPREPLY[*]}"`)
	c.Dir = dir
	c.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TEMPER_") || strings.HasPrefix(v, "PATH=") }), asTemper+"=1", "PATH="+dir+":"+os.Getenv("PATH"))
	b, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(b), "-F __start_temper temper\n") || !strings.HasSuffix(string(b), "got fast-at\n") {
		t.Errorf("%v: %s", err, b)
	}
}
