package graph

import (
	"strings"
	"testing"
)

func TestRetype(t *testing.T) {
	g, err := Retype(pgd(), F32, F64)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(g); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(g.String()) {
		outside := strings.Contains(line, "input") || strings.Contains(line, "scalar") || strings.Contains(line, "convert")
		if strings.Contains(line, "f32") && !outside {
			t.Errorf("float32 is left: %s", line)
		}
	}
	for _, o := range g.Outputs() {
		if o.Node.DType() != F64 {
			t.Errorf("output %s is %v", o.Name, o.Node.DType())
		}
	}
	for _, a := range g.Assigns() {
		if a.State.DType() != F64 {
			t.Errorf("state %s is %v", a.State.Attrs().Name, a.State.DType())
		}
	}
	if _, err := Retype(pgd(), F32, I32); err == nil {
		t.Error("retyping floats as integers went through")
	}
}
