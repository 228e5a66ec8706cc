package graph

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// attrField is how one field of Attrs stands in the text form.
type attrField struct {
	print func(*Attrs) string // "" if the field has its zero value
	parse func(*Attrs, string) error
}

func intField(p func(*Attrs) *int) attrField {
	return attrField{
		func(a *Attrs) string { return strconv.Itoa(*p(a)) },
		func(a *Attrs, s string) (err error) { *p(a), err = strconv.Atoi(s); return },
	}
}

func intsField(p func(*Attrs) *[]int) attrField {
	return attrField{
		func(a *Attrs) string { return Shape(*p(a)).String() },
		func(a *Attrs, s string) (err error) { *p(a), err = parseInts(s); return },
	}
}

func pairField(p func(*Attrs) *[2]int) attrField {
	return attrField{
		func(a *Attrs) string { v := *p(a); return Shape(v[:]).String() },
		func(a *Attrs, s string) error {
			v, err := parseInts(s)
			if err != nil || len(v) != 2 {
				return fmt.Errorf("want a pair, got %s", s)
			}
			*p(a) = [2]int(v)
			return nil
		},
	}
}

func boolField(p func(*Attrs) *bool) attrField {
	return attrField{
		func(a *Attrs) string {
			if *p(a) {
				return "true"
			}
			return ""
		},
		func(a *Attrs, s string) (err error) { *p(a), err = strconv.ParseBool(s); return },
	}
}

var attrFields = map[string]attrField{
	"name": {
		func(a *Attrs) string { return strconv.Quote(a.Name) },
		func(a *Attrs, s string) (err error) { a.Name, err = strconv.Unquote(s); return },
	},
	"values": {
		func(a *Attrs) string {
			parts := make([]string, len(a.Values))
			for i, v := range a.Values {
				parts[i] = strconv.FormatFloat(v, 'g', -1, 64)
			}
			return "[" + strings.Join(parts, ",") + "]"
		},
		parseValues,
	},
	"axis":     intField(func(a *Attrs) *int { return &a.Axis }),
	"axes":     intsField(func(a *Attrs) *[]int { return &a.Axes }),
	"lo":       intsField(func(a *Attrs) *[]int { return &a.Lo }),
	"hi":       intsField(func(a *Attrs) *[]int { return &a.Hi }),
	"step":     intsField(func(a *Attrs) *[]int { return &a.Step }),
	"size":     intsField(func(a *Attrs) *[]int { return &a.Size }),
	"kernel":   pairField(func(a *Attrs) *[2]int { return &a.Kernel }),
	"stride":   pairField(func(a *Attrs) *[2]int { return &a.Stride }),
	"pad":      pairField(func(a *Attrs) *[2]int { return &a.Pad }),
	"dilation": pairField(func(a *Attrs) *[2]int { return &a.Dilation }),
	"layout": {
		func(a *Attrs) string {
			if a.Layout == NCHW {
				return ""
			}
			return a.Layout.String()
		},
		func(a *Attrs, s string) (err error) { a.Layout, err = parseLayout(s); return },
	},
	"algorithm": {
		func(a *Attrs) string {
			if a.Algorithm == Direct {
				return ""
			}
			return a.Algorithm.String()
		},
		func(a *Attrs, s string) (err error) { a.Algorithm, err = parseAlgorithm(s); return },
	},
	"pool": {
		func(a *Attrs) string {
			if a.Pool == [2]int{} {
				return ""
			}
			return Shape(a.Pool[:]).String()
		},
		pairField(func(a *Attrs) *[2]int { return &a.Pool }).parse,
	},
	"precision": {
		func(a *Attrs) string {
			if a.Precision == PrecisionFloat32 {
				return ""
			}
			return a.Precision.String()
		},
		func(a *Attrs, s string) (err error) { a.Precision, err = ParsePrecision(s); return },
	},
	"input-grad": boolField(func(a *Attrs) *bool { return &a.InputGrad }),
	"ta":         boolField(func(a *Attrs) *bool { return &a.TA }),
	"tb":         boolField(func(a *Attrs) *bool { return &a.TB }),
	"descending": boolField(func(a *Attrs) *bool { return &a.Descending }),
	"trips":      intField(func(a *Attrs) *int { return &a.Trips }),
	"carry":      intField(func(a *Attrs) *int { return &a.Carry }),
	"index":      intField(func(a *Attrs) *int { return &a.Index }),
}

func parseInts(s string) ([]int, error) {
	parts, err := list(s)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(parts))
	for i, p := range parts {
		if out[i], err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("want integers, got %s", s)
		}
	}
	return out, nil
}

func parseValues(a *Attrs, s string) error {
	parts, err := list(s)
	if err != nil {
		return err
	}
	a.Values = make([]float64, len(parts))
	for i, p := range parts {
		if a.Values[i], err = strconv.ParseFloat(p, 64); err != nil {
			return fmt.Errorf("want numbers, got %s", s)
		}
	}
	return nil
}

// list splits "[a,b]".
func list(s string) ([]string, error) {
	if len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']' {
		return nil, fmt.Errorf("want a list in brackets, got %s", s)
	}
	if s == "[]" {
		return nil, nil
	}
	return strings.Split(s[1:len(s)-1], ","), nil
}

// text writes the attributes that op has: "stride=[1,1] pad=[0,0]".
func (a *Attrs) text(op Op) string {
	var parts []string
	for _, k := range strings.Fields(opTable[op].attrs) {
		if v := attrFields[k].print(a); v != "" {
			parts = append(parts, k+"="+v)
		}
	}
	return strings.Join(parts, " ")
}

// String is the canonical text form, which Parse reads. Values are numbered in
// the order of the listing; a label stands behind its line as a comment.
func (g *Graph) String() string {
	var b strings.Builder
	p := &printer{w: &b, num: map[*Node]int{}}
	fmt.Fprintf(&b, "graph %q {\n", g.name)
	p.block(g.root, "  ")
	for _, o := range g.outputs {
		fmt.Fprintf(&b, "  output %q %s\n", o.Name, p.ref(o.Node))
	}
	for _, a := range g.assigns {
		fmt.Fprintf(&b, "  assign %s %s\n", p.ref(a.State), p.ref(a.Value))
	}
	b.WriteString("}\n")
	return b.String()
}

type printer struct {
	w   io.Writer
	num map[*Node]int
}

func (p *printer) def(n *Node) string {
	p.num[n] = len(p.num)
	return p.ref(n)
}

func (p *printer) ref(n *Node) string { return "%" + strconv.Itoa(p.num[n]) }

func (p *printer) refs(ns []*Node) string {
	parts := make([]string, len(ns))
	for i, n := range ns {
		parts[i] = p.ref(n)
	}
	return strings.Join(parts, ", ")
}

func (p *printer) block(b *Block, indent string) {
	for _, n := range b.nodes {
		switch n.op {
		case OpParam:
		case OpLoop:
			p.loop(n, indent)
		default:
			p.node(n, indent)
		}
	}
}

func (p *printer) node(n *Node, indent string) {
	ins := p.refs(n.ins)
	if ins != "" {
		ins = " " + ins
	}
	attrs := n.attrs.text(n.op)
	if attrs != "" {
		attrs = " {" + attrs + "}"
	}
	fmt.Fprintf(p.w, "%s%s = %v%s%s : %s%s\n", indent, p.def(n), n.op, ins, attrs, n.typed(), comment(n))
}

func comment(n *Node) string {
	if n.label == "" {
		return ""
	}
	return "  # " + n.label
}

func (p *printer) loop(n *Node, indent string) {
	ins := p.refs(n.ins)
	ref := p.def(n)
	params := make([]string, len(n.body.params))
	for i, q := range n.body.params {
		params[i] = p.def(q) + " " + q.typed()
	}
	fmt.Fprintf(p.w, "%s%s = loop %s {%s} (%s) do%s\n", indent, ref, ins, n.attrs.text(n.op), strings.Join(params, ", "), comment(n))
	p.block(n.body, indent+"  ")
	fmt.Fprintf(p.w, "%s  yield %s\n", indent, p.refs(n.body.results))
}
