package passes

import (
	"fmt"
	"os"
	"testing"

	"temper/engine/graph"
)

func TestTmp(t *testing.T) {
	text, err := os.ReadFile(os.Getenv("TMP_GRAPH"))
	if err != nil {
		t.Skip()
	}
	g, err := graph.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var kb int
	fmt.Sscan(os.Getenv("TMP_KB"), &kb)
	h, err := rows(g, Target{RowBytes: kb << 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := graph.Verify(h); err != nil {
		t.Fatal(err)
	}
	os.WriteFile("/tmp/rows/after.txt", []byte(h.String()), 0o644)
}
