package cuda

import (
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Without the tag the error must say how to get the function; with it, on a
// machine with a driver, every device must be described.
func TestGorgoniaDevices(t *testing.T) {
	devices, err := GorgoniaDevices()
	if err != nil {
		if !strings.Contains(err.Error(), "build with -tags gorgoniacu") {
			t.Error(err)
		}
		return
	}
	for i, d := range devices {
		if d.Ordinal != i || d.Name == "" || d.Capability[0] == 0 || d.Memory <= 0 {
			t.Errorf("device %d: %+v", i, d)
		}
	}
}

// TestGorgoniaCUTypes checks the types of the file under the tag against the
// sources of gorgonia.org/cu, with all that comes from C taken on trust: the
// headers of CUDA are not on every machine.
//
// build/gorgoniacu.sh compiles and runs the real thing.
func TestGorgoniaCUTypes(t *testing.T) {
	const path = "gorgonia.org/cu"
	fset := token.NewFileSet()
	sources := func(path string) []string {
		return strings.Fields(goList(t, `{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}} {{end}}{{range .CgoFiles}}{{$d}}/{{.}} {{end}}`, path))
	}
	deps := exported(t, fset, strings.Fields(goList(t, `{{range .Deps}}{{.}} {{end}}`, path, "temper/cuda")))
	lenient := types.Config{FakeImportC: true, Importer: deps, Error: func(error) {}} // constants of C are all equal to it
	cu, _ := lenient.Check(path, fset, parseAll(t, fset, sources(path)), nil)
	ours := slices.DeleteFunc(sources("temper/cuda"), func(f string) bool { return filepath.Base(f) == "gorgoniacu_off.go" })
	strict := types.Config{FakeImportC: true, Importer: oneMore{deps, cu}, Error: func(err error) {
		if e := err.(types.Error); fset.Position(e.Pos).Filename == "gorgoniacu.go" { // others have types of C
			t.Error(err)
		}
	}}
	strict.Check("temper/cuda", fset, parseAll(t, fset, append(ours, "gorgoniacu.go")), nil)
}

func goList(t *testing.T, format string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-f", format}, args...)...)
	if args[0] != "-export" {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1") // name the files that import C, compiler or not
	}
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	return string(out)
}

func parseAll(t *testing.T, fset *token.FileSet, names []string) []*ast.File {
	t.Helper()
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(fset, filepath.FromSlash(name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// exported imports packages from what the compiler exported.
func exported(t *testing.T, fset *token.FileSet, paths []string) types.Importer {
	t.Helper()
	paths = slices.DeleteFunc(paths, func(p string) bool { return p == "runtime/cgo" }) // C's side: taken on trust
	args := append([]string{"-export"}, paths...)
	file := map[string]string{}
	for line := range strings.Lines(goList(t, "{{.ImportPath}} {{.Export}}", args...)) {
		path, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		file[path] = name
	}
	return importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(file[path]) })
}

// oneMore imports one package that is already checked.
type oneMore struct {
	types.Importer
	pkg *types.Package
}

func (o oneMore) Import(path string) (*types.Package, error) {
	if path == o.pkg.Path() {
		return o.pkg, nil
	}
	return o.Importer.Import(path)
}
