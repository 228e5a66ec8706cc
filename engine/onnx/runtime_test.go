package onnx_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"temper/engine/graph"
)

// python is an interpreter with onnx and onnxruntime: TEMPER_PYTHON, or python3.
// Without one it skips the test, or fails it where TEMPER_REQUIRE lists "onnx".
func python(t *testing.T) string {
	t.Helper()
	name := os.Getenv("TEMPER_PYTHON")
	if name == "" {
		name = "python3"
	}
	if err := exec.Command(name, "-c", "import onnx, onnxruntime").Run(); err != nil {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "onnx") {
			t.Fatalf("TEMPER_REQUIRE lists onnx, but %s has no onnx and onnxruntime (TEMPER_PYTHON): %v", name, err)
		}
		t.Skipf("%s has no onnx and onnxruntime (TEMPER_PYTHON)", name)
	}
	return name
}

// runtime runs files in onnxruntime, all in one process.
type runtime struct {
	python string
	asked  []*question
}

// question is one run of a file.
type question struct {
	File    string                 `json:"file"`
	Shapes  map[string]graph.Shape `json:"shapes"`  // of the inputs
	Outputs map[string]string      `json:"outputs"` // files, by name

	answer
}

// answer is what came of it.
type answer struct {
	Declared map[string][]any       `json:"declared"`
	Got      map[string]graph.Shape `json:"shapes"`
	Error    string                 `json:"error"`
}

// ask prepares a run of the file on inputs, and writes these.
func (r *runtime) ask(t *testing.T, file string, shapes map[string]graph.Shape, inputs map[string][]byte, outputs ...string) *question {
	t.Helper()
	q := &question{File: file, Shapes: shapes, Outputs: map[string]string{}}
	for name, data := range inputs {
		if err := os.WriteFile(file+"."+name, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range outputs {
		q.Outputs[name] = file + "." + name + ".out"
	}
	r.asked = append(r.asked, q)
	return q
}

// run asks what was prepared.
func (r *runtime) run(t *testing.T) {
	t.Helper()
	var input bytes.Buffer
	for _, q := range r.asked {
		if err := json.NewEncoder(&input).Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(r.python, filepath.Join("testdata", "run.py"))
	command.Stdin, command.Stderr = &input, os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(bytes.NewReader(out))
	for _, q := range r.asked {
		if !answers.Scan() {
			t.Fatal("an answer is missing")
		}
		if err := json.Unmarshal(answers.Bytes(), &q.answer); err != nil {
			t.Fatal(err)
		}
	}
}

// output reads the elements of an output.
func (q *question) output(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(q.Outputs[name])
	if err != nil {
		t.Fatal(err)
	}
	return b
}
