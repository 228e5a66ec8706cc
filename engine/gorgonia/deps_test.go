package gorgonia

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The command line and what it is made of do without gorgonia: it would cost
// every binary some megabytes, and its panic at start if a version of Go moves
// on. tensor, its array library, is allowed.
func TestGorgoniaStaysHere(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "temper/engine", "temper/engine/cpu", "temper/cmd/...")
	var complaints strings.Builder
	list.Stderr = &complaints
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaints.String())
	}
	deps := strings.Fields(string(out))
	if slices.Contains(deps, "gorgonia.org/gorgonia") {
		t.Error("temper/engine, temper/engine/cpu or a command imports gorgonia.org/gorgonia")
	}
	if !slices.Contains(deps, "temper/engine/cpu") || !slices.Contains(deps, "gorgonia.org/tensor") {
		t.Error("go list does not list what is known to be there")
	}
}
