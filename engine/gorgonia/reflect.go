package gorgonia

import (
	"fmt"
	"reflect"

	G "gorgonia.org/gorgonia"
)

// fields lists every unexported field that Import reads, by the type of
// gorgonia's that has it.
var fields = map[string]map[string]reflect.Kind{
	"Node":        {"children": reflect.Slice}, // ExprGraph.From uses an index that RemoveNode leaves stale
	"elemBinOp":   {"retSame": reflect.Bool},
	"linAlgBinOp": {"āBinaryOperator": reflect.Uint8, "transA": reflect.Bool, "transB": reflect.Bool},
	"sizeOp":      {"axis": reflect.Int},
	"sumOp":       {"along": reflect.Slice},
	"maxOp":       {"along": reflect.Slice},
	"transposeOp": {"pattern": reflect.Slice},
	"sliceOp":     {"along": reflect.Int},
	"concatOp":    {"axis": reflect.Int},
	"softmaxOp":   {"axis": reflect.Int, "isLog": reflect.Bool},
	"im2colOp": {"h": reflect.Int, "w": reflect.Int, "padH": reflect.Int, "padW": reflect.Int,
		"strideH": reflect.Int, "strideW": reflect.Int, "dilationH": reflect.Int, "dilationW": reflect.Int},
	"maxPoolOp": {"h": reflect.Int, "w": reflect.Int, "padNorth": reflect.Int, "padSouth": reflect.Int,
		"padWest": reflect.Int, "padEast": reflect.Int, "strideH": reflect.Int, "strideW": reflect.Int},
	"avgPoolOp": {"h": reflect.Int, "w": reflect.Int, "padNorth": reflect.Int, "padSouth": reflect.Int,
		"padWest": reflect.Int, "padEast": reflect.Int, "strideH": reflect.Int, "strideW": reflect.Int},
	"upsampleOp": {"stride": reflect.Int},
}

// typeName is the name of v's type, without its package if that is gorgonia.
func typeName(v any) string {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.PkgPath() == "gorgonia.org/gorgonia" {
		return t.Name()
	}
	return t.PkgPath() + "." + t.Name()
}

// field reads an unexported field that the table lists.
func field(v any, name string) (reflect.Value, error) {
	kind, listed := fields[typeName(v)][name]
	if !listed {
		panic(fmt.Sprintf("BUG: gorgonia: field %s of %T is not in the table", name, v))
	}
	f := reflect.Indirect(reflect.ValueOf(v)).FieldByName(name)
	if f.Kind() != kind {
		return f, fmt.Errorf("gorgonia's %s has no field %s of kind %v: this is not gorgonia v0.9.18, which temper knows", typeName(v), name, kind)
	}
	return f, nil
}

// children are a node's operands. Import has found that the field is there.
func children(n *G.Node) []*G.Node {
	f, _ := field(n, "children")
	out := make([]*G.Node, f.Len())
	for i := range out {
		out[i] = (*G.Node)(f.Index(i).UnsafePointer())
	}
	return out
}
