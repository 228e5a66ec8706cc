package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"temper/adversarial/job"
)

// documentedLine is a command in a document; one in a sentence may leave out its
// arguments.
type documentedLine struct {
	args       []string
	inSentence bool
}

// documented lists the command lines of temper in the README, the guide, the
// results and the manuals' examples, in order, without what the shell does to them.
func documented(t *testing.T) (list []documentedLine) {
	t.Helper()
	files := []string{"../../README.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../docs/guide/*.md", "../../docs/results/*.md", "../../docs/results/*/*.md", "../../build/*/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	var texts []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	var manuals func(*cobra.Command)
	manuals = func(cmd *cobra.Command) {
		texts = append(texts, "  "+strings.ReplaceAll(cmd.Example, "\n", "\n  "))
		for _, sub := range cmd.Commands() {
			manuals(sub)
		}
	}
	manuals(root(&job.Console{}))

	inline := regexp.MustCompile("`(temper [a-z][^`]*)`")
	command := regexp.MustCompile(`^(?:[A-Z_]+=\S+ +)*(?:go run \./cmd/temper|temper)( .*|$)`)
	for _, text := range texts {
		for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
			if code, isCode := strings.CutPrefix(line, "    "); isCode {
				if m := command.FindStringSubmatch(strings.TrimSpace(code)); m != nil {
					list = append(list, documentedLine{words(m[1]), false})
				}
			}
			for _, m := range inline.FindAllStringSubmatch(line, -1) {
				if !strings.Contains(m[1], "…") {
					list = append(list, documentedLine{words(strings.TrimPrefix(m[1], "temper")), true})
				}
			}
		}
	}
	return list
}

// words are the arguments of a command line up to a comment, a pipe or a
// redirection.
func words(line string) []string {
	var args []string
	for _, w := range strings.Fields(line) {
		if w == "|" || w == ">" || w == "&&" || w[0] == '#' || w[0] == '(' {
			break
		}
		args = append(args, strings.Trim(w, "'"))
	}
	return args
}

// onlyParsed are the command lines in the documents that this test cannot run, and
// why.
var onlyParsed = map[string]string{
	"data fetch svhn --optional":                                                                                                          "network",
	"data fetch cifar10 --mirror https://mirror.example.org/cifar/":                                                                       "network",
	"train --dataset svhn --recipe small-pgd7 --epochs 3":                                                                                 "SVHN, of which tests have a part alone",
	"eval latest --attack autoattack --card card.json":                                                                                    "a whole test set; TestCard of package job",
	"import theirs.safetensors --dataset cifar10 --model preactresnet18 --normalize dataset --out runs/theirs":                            "a file of others: TestImport",
	"import theirs.safetensors --dataset cifar10 --model wideresnet-34-10 --normalize none --set model.activation=silu --out runs/theirs": "a file of others: TestImport",
}

// TestDocumentedCommands parses every command in the documents, and runs it: as it
// stands where that is quick and needs no GPU, else as little of it as shows that
// it works.
func TestDocumentedCommands(t *testing.T) {
	dir := t.TempDir()
	env := []string{}
	if data := os.Getenv("TEMPER_DATA"); data != "" || slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "data") {
		env = append(env, "TEMPER_DATA="+realData(t))
	}
	must(t, dir, nil, "train", "--method", "pgd-at", "--epochs", "4", "--set", "data.held_out=8", "--set", "checkpoint.choice=best")
	first, err := filepath.EvalSymlinks(latest(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"a", "b"} { // runs that the documents name
		if err := os.Symlink(first, filepath.Join(dir, "runs", link)); err != nil {
			t.Fatal(err)
		}
	}
	writeStripes(t, filepath.Join(dir, "digits.npz"))
	if len(env) > 0 { // weights that a recipe begins with
		must(t, dir, env, "train", "--dataset", "mnist", "--recipe", "fast-at", "--limit", "100", "--epochs", "1", "--run-dir", "theirs", "--set", "eval.limit=2")
		must(t, dir, nil, "export", "latest", "--run-dir", "theirs", "--out", "weights.safetensors")
	}
	must(t, dir, nil, "export", "latest", "--out", "model.safetensors")
	before := must(t, dir, nil, append(quickBench, "--format", "json")...)
	if err := os.WriteFile(filepath.Join(dir, "before.json"), []byte(before.stdout), 0o666); err != nil {
		t.Fatal(err)
	}

	done := map[string]bool{}
	list := documented(t)
	if len(list) < 100 {
		t.Fatalf("only %d commands in the documents", len(list))
	}
	for _, c := range list {
		line := strings.Join(c.args, " ")
		if done[line] {
			continue
		}
		parse(t, c.args, c.inSentence)
		if c.inSentence {
			continue
		}
		done[line] = true
		t.Run(line, func(t *testing.T) {
			switch {
			case onlyParsed[line] != "":
			case len(env) == 0 && (strings.Contains(line, "--dataset") || c.args[0] == "data" || c.args[0] == "reproduce"):
				t.Skip("TEMPER_DATA is not set")
			case c.args[0] == "serve":
				served(t, dir, append(c.args, "--listen", "127.0.0.1:0")...)
			case strings.Contains(line, "-mixed"): // bf16 on any processor
				must(t, dir, append(slices.Clip(env), "TEMPER_CPU=portable"), reduced(first, c.args)...)
			default:
				must(t, dir, env, reduced(first, c.args)...)
			}
		})
	}
	for line := range onlyParsed {
		if !done[line] {
			t.Errorf("no document has: temper %s", line)
		}
	}
}

// parse holds a command line against the commands and their flags.
func parse(t *testing.T, args []string, inSentence bool) {
	t.Helper()
	top := root(&job.Console{})
	top.InitDefaultCompletionCmd(args...)
	cmd, rest, err := top.Find(args)
	if err != nil || cmd == top && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		t.Fatalf("temper %s: no such command: %v", strings.Join(args, " "), err)
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil && !(inSentence && strings.HasPrefix(err.Error(), "flag needs an argument")) {
		t.Fatalf("temper %s: %v", strings.Join(args, " "), err)
	}
	if help, _ := cmd.Flags().GetBool("help"); !help && !inSentence {
		if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
			t.Fatalf("temper %s: %v", strings.Join(args, " "), err)
		}
	}
}

// quickBench measures one case, badly.
var quickBench = []string{"bench", "--suite", "kernels", "--match", "^matmul", "--seconds", "0.01"}

var datedRun = regexp.MustCompile(`^(runs/\d{8}-\d{6}-[^/]+|RUN$)`)

// reduced is a command line that takes a few seconds and no GPU. It takes the run
// in first for those that the documents name.
func reduced(first string, args []string) []string {
	line := strings.Join(args, " ")
	args = slices.Clone(args)
	for i, a := range args {
		args[i] = datedRun.ReplaceAllLiteralString(a, first)
	}
	if i := slices.Index(args, "cuda:0"); i > 0 {
		args = slices.Delete(args, i-1, i+1)
	}
	switch args[0] {
	case "train":
		if strings.Contains(line, "--dataset") || strings.Contains(line, "--device") {
			return append(args, "--dry-run")
		}
	case "data":
		if line == "data verify" { // of SVHN tests have a part
			return append(args, "mnist", "cifar10")
		}
	case "kernels", "reproduce":
		return append(args, "--dry-run")
	case "eval", "attack":
		if !strings.Contains(line, "--norm") { // the structured data's own norm is not every attack's
			args = append(args, "--norm", "linf")
		}
		return append(args, "--limit", "2")
	case "features":
		if strings.Contains(line, "--dataset") {
			return append(args, "--quick", "--seeds", "1", "--set", "limit=400", "--set", "match_n=20")
		}
		if strings.Contains(line, "--sweep") {
			args = append(args, "--sweep", "ratio=4.5,eps=1.2")
		}
		return append(args, "--seeds", "1", "--set", "steps=2", "--set", "test_n=20")
	case "bench":
		if strings.Contains(line, "--peer") || strings.Contains(line, "scaling") {
			return append(args, "--list")
		}
		return append(args, quickBench[1:]...)
	}
	return args
}

// TestNewcomer goes the way of somebody new, on real data: train, evaluate, look at
// the page, export, serve.
func TestNewcomer(t *testing.T) {
	env := []string{"TEMPER_DATA=" + realData(t)}
	dir := t.TempDir()
	must(t, dir, env, "train", "--dataset", "mnist", "--recipe", "fast-at", "--limit", "600", "--epochs", "1", "--set", "eval.limit=50")
	must(t, dir, env, "eval", "latest", "--attack", "pgd", "--steps", "5", "--limit", "40")
	must(t, dir, env, "report", "latest")
	page, err := os.ReadFile(filepath.Join(dir, "runs", "latest", "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Attacked examples", "Under the attack", "40 test", "Time of a step", "attack: "} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if len(page) > 1e6 {
		t.Errorf("the page has %d bytes", len(page))
	}
	must(t, dir, env, "export", "latest", "--out", "net.safetensors")
	o := must(t, dir, env, "watch", "latest", "--once")
	if !strings.Contains(o.stdout, "ended") {
		t.Errorf("%+v", o)
	}
	said, end := startServer(t, dir, "serve", "runs", "--listen", "127.0.0.1:0")
	defer end()
	client := http.Client{Timeout: 20 * time.Second}
	r, err := client.Get(regexp.MustCompile(`http://\S+/`).FindString(said))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if b, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(b), "mnist-fgsm-rs") {
		t.Errorf("%v: the index lacks the run: %.300s", err, b)
	}
}

// startServer starts a server and returns the line that it says. What ends it
// interrupts it, and then it has to end well.
func startServer(t *testing.T, dir string, args ...string) (said string, end func()) {
	t.Helper()
	c := command(dir, nil, args...)
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		if err := c.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("%v ends with %v after an interrupt", args, err)
		}
	}
	said, err = bufio.NewReader(stderr).ReadString('\n')
	if err != nil {
		end()
		t.Fatal(err)
	}
	return said, end
}

// served is what a server says when it starts.
func served(t *testing.T, dir string, args ...string) output {
	t.Helper()
	said, end := startServer(t, dir, args...)
	end()
	return output{stderr: said}
}
