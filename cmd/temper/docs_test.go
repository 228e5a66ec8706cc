package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"temper/adversarial/job"
)

// documentedLine is a command in a document; one in a sentence may leave out its
// arguments.
type documentedLine struct {
	args       []string
	inSentence bool
}

// documented lists the command lines of temper in the README and the guide, in
// order, without what the shell does to them.
func documented(t *testing.T) (list []documentedLine) {
	t.Helper()
	files := []string{"../../README.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../docs/guide/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	inline := regexp.MustCompile("`(temper [a-z][^`]*)`")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			text, isCode := strings.CutPrefix(line, "    ")
			text = strings.Replace(strings.TrimSpace(text), "go run ./cmd/temper", "temper", 1)
			if isCode && strings.HasPrefix(text, "temper ") {
				list = append(list, documentedLine{words(text), false})
			}
			for _, m := range inline.FindAllStringSubmatch(line, -1) {
				if !strings.Contains(m[1], "…") {
					list = append(list, documentedLine{words(m[1]), true})
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
	for _, w := range strings.Fields(line)[1:] {
		if w == "|" || w == ">" || w == "&&" || w[0] == '#' || w[0] == '(' {
			break
		}
		args = append(args, w)
	}
	return args
}

// TestDocumentedCommands parses every command in the documents, and runs it: as it
// stands where that is quick and needs neither data nor network, else as little of
// it as shows that it works.
func TestDocumentedCommands(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "train", "--method", "pgd-at", "--epochs", "2")
	env := []string{}
	if data := os.Getenv("TEMPER_DATA"); data != "" {
		env = append(env, "TEMPER_DATA="+realData(t))
	}
	done := map[string]bool{}
	list := documented(t)
	if len(list) < 40 {
		t.Fatalf("only %d commands in the documents", len(list))
	}
	for _, c := range list {
		args, line := c.args, strings.Join(c.args, " ")
		if done[line] {
			continue
		}
		done[line] = true
		t.Run(line, func(t *testing.T) {
			parse(t, args, c.inSentence)
			if run := reduced(args); run != nil && !c.inSentence && (len(env) > 0 || !strings.Contains(line, "--dataset")) {
				must(t, dir, env, run...)
			}
		})
	}
}

// parse holds a command line against the commands and their flags.
func parse(t *testing.T, args []string, inSentence bool) {
	t.Helper()
	top := root(&job.Console{})
	top.InitDefaultCompletionCmd(args...)
	cmd, rest, err := top.Find(args)
	if err != nil || cmd == top && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		t.Fatalf("no such command: %v", err)
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatal(err)
	}
	if help, _ := cmd.Flags().GetBool("help"); !help && !inSentence {
		if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
			t.Fatal(err)
		}
	}
}

// reduced is what is run of a command line; nil: it is only parsed, because it needs
// a network, a GPU, files of the reader's or minutes.
func reduced(args []string) []string {
	line := strings.Join(args, " ")
	for _, skip := range []string{"runs/", "npz:", "fetch", "serve", "kernels", "import", "reproduce", "emulator", "--resume", "--against", "--peer", "--model", "cifar10"} {
		if strings.Contains(line, skip) {
			return nil
		}
	}
	switch args[0] {
	case "train":
		return append(args, "--dry-run")
	case "eval", "attack":
		if len(args) < 2 {
			return nil
		}
		if strings.Contains(line, "autoattack") { // which has no part for the structured data's own norm
			args = append(args, "--norm", "linf", "--eps", "0.1")
		}
		return append(args, "--limit", "2")
	case "graph":
		if strings.Contains(line, "--profile") && strings.Contains(line, "--dataset") {
			return nil
		}
		return args
	case "features":
		if strings.Contains(line, "--dataset") {
			return nil
		}
		return append(args, "--seeds", "1", "--set", "steps=2", "--set", "test_n=20")
	case "bench":
		return append(args, "--list")
	case "report", "export":
		if len(args) < 2 {
			return nil
		}
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
	serve := command(dir, env, "serve", "runs", "--listen", "127.0.0.1:0")
	stderr, err := serve.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer stop(t, serve)
	said, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`http://\S+/`).FindString(said)
	client := http.Client{Timeout: 20 * time.Second}
	r, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if b, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(b), "mnist-fgsm-rs") {
		t.Errorf("%v: the index lacks the run: %.300s", err, b)
	}
}

// stop interrupts a server, which has to end well.
func stop(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("serve ends with %v after an interrupt", err)
	}
}
