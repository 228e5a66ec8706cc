package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// asTemper makes the test binary be temper.
const asTemper = "TEMPER_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asTemper) == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// portable asks for the kernels that give the same bits on every machine.
var portable = []string{"TEMPER_CPU=portable"}

// command prepares temper with a clean environment.
func command(dir string, env []string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.Command(self, args...)
	c.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TEMPER_") && !strings.HasPrefix(v, "XDG_") {
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(c.Env, asTemper+"=1", "HOME=/home/none", "XDG_CACHE_HOME=/home/none/.cache", "TEMPER_DEVICE=cpu")
	c.Env = append(c.Env, env...)
	return c
}

// output is what a finished command left.
type output struct {
	stdout, stderr string
	code           int
}

// temper runs temper in dir.
func temper(t *testing.T, dir string, env []string, args ...string) output {
	t.Helper()
	c := command(dir, env, args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return output{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// must is temper that has to succeed.
func must(t *testing.T, dir string, env []string, args ...string) output {
	t.Helper()
	o := temper(t, dir, env, args...)
	if o.code != 0 {
		t.Fatalf("temper %s: exit code %d\n%s%s", strings.Join(args, " "), o.code, o.stdout, o.stderr)
	}
	return o
}

// realData returns the folder of real data. Without one it skips the test, or
// fails it where TEMPER_REQUIRE lists "data".
func realData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TEMPER_DATA")
	if dir == "" {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "data") {
			t.Fatal("TEMPER_REQUIRE lists data, but TEMPER_DATA is not set")
		}
		t.Skip("TEMPER_DATA is not set")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// What differs from run to run and from machine to machine.
var varying = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`\d{8}-\d{6}(-\d+)?`), "DATE"},
	{regexp.MustCompile(`-\d+\.json`), ".json"}, // the second of a second
	{regexp.MustCompile(`\d+ images/s  \S+`), "SPEED"},
	{regexp.MustCompile(`127\.0\.0\.1:[1-9]\d+/`), "127.0.0.1:PORT/"},
	{regexp.MustCompile(`(?m)^images/s .*$`), "images/s SPEED"},
	{regexp.MustCompile(`(?m)^memory  .*$`), "memory STATE"},
	{regexp.MustCompile(`(?m)^a step .*$`), "a step TIME"},
	{regexp.MustCompile(`(?m)^device        cpu: .*$`), "device DEVICE"},
	{regexp.MustCompile(`\d+ bytes`), "N bytes"}, // of files that hold all settings
	{regexp.MustCompile(`"bytes":\d+`), `"bytes":0`},
	{regexp.MustCompile(`"seconds":[0-9.e-]+`), `"seconds":0`},
	{regexp.MustCompile(`"date":"[^"]*"`), `"date":""`},
	{regexp.MustCompile(`cpu: .*as asked`), "DEVICE"},
	{regexp.MustCompile(`(?m)^(emulator|cuda:|no CUDA driver|the emulator needs) .*\n`), ""},
	{regexp.MustCompile(`(?m)^cpu .*kernels portable;`), "cpu DEVICE;"},
	{regexp.MustCompile(`(?m)^temper \S+ .*go\S+ \S+$`), "temper VERSION"},
}

func settle(s, dir string) string {
	s = strings.ReplaceAll(s, dir, "DIR")
	for _, v := range varying {
		s = v.pattern.ReplaceAllString(s, v.replacement)
	}
	return s
}

// golden compares output with testdata/NAME.txt.
func golden(t *testing.T, name, dir string, o output) {
	t.Helper()
	got := settle("stdout:\n"+o.stdout+"stderr:\n"+o.stderr, dir)
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); run with -update to accept:\n%s", path, diff)
	}
}
