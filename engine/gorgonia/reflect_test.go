package gorgonia

import (
	"reflect"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"
)

// TestFieldsExist finds each field of the table in a value of its type, taken
// from the graphs of the audit. It fails when a release of gorgonia renames one.
func TestFieldsExist(t *testing.T) {
	samples := map[string]reflect.Value{}
	for _, a := range audit {
		n, _, err := a.theirs(a.values())
		must(t, err)
		for _, n := range n.Graph().AllNodes() {
			samples["Node"] = reflect.ValueOf(n).Elem()
			if n.Op() != nil {
				samples[typeName(n.Op())] = reflect.Indirect(reflect.ValueOf(n.Op()))
			}
		}
	}
	for name, list := range fields {
		v, ok := samples[name]
		if !ok {
			t.Errorf("no graph of the audit has a %s", name)
			continue
		}
		for f, kind := range list {
			if got := v.FieldByName(f).Kind(); got != kind {
				t.Errorf("gorgonia's %s.%s is of kind %v, Import reads %v", name, f, got, kind)
			}
		}
	}
	for name := range rules {
		if _, ok := samples[name]; !ok {
			t.Errorf("there is a rule for %s, and no graph of the audit has one", name)
		}
	}
}

// What a renamed field does: the table is made to list one that is not there.
func TestMissingField(t *testing.T) {
	g := G.NewGraph()
	x := G.NewMatrix(g, G.Float32, G.WithShape(2, 3), G.WithName("x"))
	loss, err := G.Sum(x)
	must(t, err)
	for name, field := range map[string]string{"sumOp": "along", "Node": "children"} {
		list := fields[name]
		fields[name] = map[string]reflect.Kind{field: reflect.Int}
		_, err = Import(loss, x)
		fields[name] = list
		if want := "gorgonia's " + name + " has no field " + field + " of kind int: this is not gorgonia v0.9.18"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// A type of another package must not pass for gorgonia's of the same name.
func TestTypeName(t *testing.T) {
	type sumOp struct{}
	for want, v := range map[string]any{"Node": &G.Node{}, "temper/engine/gorgonia.sumOp": sumOp{}, ".int": 1} {
		if got := typeName(v); got != want {
			t.Errorf("%T is called %q, want %q", v, got, want)
		}
	}
}
