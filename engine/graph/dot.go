package graph

import (
	"fmt"
	"strings"
)

// DOT is the graph in Graphviz' language: a box for each value, an arrow from
// each operand to its users, a frame around a loop's body. Constants of one value
// stand in the boxes that read them.
func (g *Graph) DOT() string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %q {\n  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n", g.name)
	d := &dotter{w: &b}
	d.block(g.root, "  ")
	for _, o := range g.outputs {
		fmt.Fprintf(&b, "  %q [shape=oval]; n%d -> %q;\n", "output "+o.Name, o.Node.id, "output "+o.Name)
	}
	for _, a := range g.assigns {
		fmt.Fprintf(&b, "  n%d -> n%d [style=dashed, label=assign];\n", a.Value.id, a.State.id)
	}
	b.WriteString("}\n")
	return b.String()
}

type dotter struct{ w *strings.Builder }

func (d *dotter) block(b *Block, indent string) {
	for _, n := range b.nodes {
		if inText(n) {
			continue
		}
		if n.body != nil {
			fmt.Fprintf(d.w, "%ssubgraph cluster%d {\n%s  label=%q;\n", indent, n.id, indent, fmt.Sprintf("loop, %d times %s", n.attrs.Trips, n.label))
			for _, p := range n.body.params {
				d.box(p, indent+"  ")
			}
			d.block(n.body, indent+"  ")
			fmt.Fprintf(d.w, "%s}\n", indent)
			for _, r := range n.body.results {
				fmt.Fprintf(d.w, "%sn%d -> n%d [style=dotted];\n", indent, r.id, n.id)
			}
		}
		d.box(n, indent)
		for _, in := range n.ins {
			if !inText(in) {
				fmt.Fprintf(d.w, "%sn%d -> n%d;\n", indent, in.id, n.id)
			}
		}
	}
}

// inText reports whether a node is no box: a parameter, which its loop draws, or a
// number.
func inText(n *Node) bool {
	return n.op == OpParam || n.op == OpConst && len(n.attrs.Values) == 1
}

func (d *dotter) box(n *Node, indent string) {
	text := n.op.String()
	if a := n.attrs.text(n.op); a != "" {
		text += " " + a
	}
	for _, in := range n.ins {
		if in.op == OpConst && len(in.attrs.Values) == 1 {
			text += fmt.Sprintf(" %g", in.attrs.Values[0])
		}
	}
	text += "\n" + n.typed()
	if n.label != "" {
		text += "\n" + n.label
	}
	fmt.Fprintf(d.w, "%sn%d [label=%q];\n", indent, n.id, text)
}
