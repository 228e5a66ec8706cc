package graph

import (
	"fmt"
	"strconv"
	"strings"
)

// Parse reads the canonical text form. Blank lines and comments behind "#" are
// skipped; value numbers may be any, as long as each is defined before use.
func Parse(text string) (*Graph, error) {
	p := &parser{vals: map[string]*Node{}}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(stripComment(line))
		if line == "" {
			continue
		}
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("graph text, line %d: %w", i+1, err)
		}
		if p.g != nil && p.g.err != nil {
			return nil, fmt.Errorf("graph text, line %d: %w", i+1, p.g.err)
		}
	}
	if !p.closed {
		return nil, fmt.Errorf("graph text ends before its closing brace")
	}
	return p.g, nil
}

func stripComment(line string) string {
	quoted := false
	for i := range len(line) {
		switch {
		case line[i] == '"' && (i == 0 || line[i-1] != '\\'):
			quoted = !quoted
		case line[i] == '#' && !quoted:
			return line[:i]
		}
	}
	return line
}

type parser struct {
	g      *Graph
	vals   map[string]*Node
	open   []openLoop
	closed bool
}

// openLoop is a loop whose body is being read.
type openLoop struct {
	ref   string
	attrs Attrs
	ins   []*Node
	body  *Block
}

func (p *parser) line(s string) error {
	word, rest, _ := strings.Cut(s, " ")
	switch {
	case p.closed:
		return fmt.Errorf("text behind the closing brace")
	case p.g == nil:
		name, err := strconv.Unquote(strings.TrimSuffix(rest, " {"))
		if word != "graph" || err != nil {
			return fmt.Errorf(`want: graph "name" {`)
		}
		p.g = New(name)
		return nil
	case s == "}":
		if len(p.open) > 0 {
			return fmt.Errorf("a loop has no yield")
		}
		p.closed = true
		return nil
	case word == "yield":
		return p.yield(rest)
	case word == "output":
		return p.output(rest)
	case word == "assign":
		return p.assign(rest)
	}
	ref, def, ok := strings.Cut(s, " = ")
	if !ok || !strings.HasPrefix(ref, "%") {
		return fmt.Errorf("want: %%n = op …, got %q", s)
	}
	if p.vals[ref] != nil {
		return fmt.Errorf("%s is defined twice", ref)
	}
	if strings.HasPrefix(def, "loop ") {
		return p.loop(ref, def)
	}
	return p.node(ref, def)
}

func (p *parser) node(ref, def string) error {
	head, typ, ok := cutLast(def, " : ")
	if !ok {
		return fmt.Errorf("%s has no type", ref)
	}
	dtype, shape, err := parseType(typ)
	if err != nil {
		return err
	}
	name, rest, _ := strings.Cut(head, " ")
	op, ok := opByName[name]
	if !ok || op == OpInvalid || op == OpParam {
		return fmt.Errorf("unknown operation %q", name)
	}
	refs, attrText, _ := strings.Cut(rest, "{")
	ins, err := p.refs(refs)
	if err != nil {
		return err
	}
	attrs, err := parseAttrs(op, strings.TrimSuffix(attrText, "}"))
	if err != nil {
		return err
	}
	n := p.g.MakeTyped(op, attrs, dtype, shape, ins...)
	if p.g.err == nil && (n.dtype != dtype || !n.shape.Equal(shape)) {
		return fmt.Errorf("%s is declared %s: it is %s", ref, typ, n.typed())
	}
	p.vals[ref] = n
	return nil
}

// loop reads "loop %a, %b {trips=3 carry=1} (%1 i32[], %2 f32[4]) do".
func (p *parser) loop(ref, def string) error {
	refs, rest, ok := strings.Cut(strings.TrimPrefix(def, "loop "), "{")
	attrText, rest, ok2 := strings.Cut(rest, "} (")
	params, ok3 := strings.CutSuffix(rest, ") do")
	if !ok || !ok2 || !ok3 {
		return fmt.Errorf("want: loop operands {attributes} (parameters) do")
	}
	l := openLoop{ref: ref}
	var err error
	if l.ins, err = p.refs(refs); err != nil {
		return err
	}
	if l.attrs, err = parseAttrs(OpLoop, attrText); err != nil {
		return err
	}
	var names []string
	var dtypes []DType
	var shapes []Shape
	for _, param := range strings.Split(params, ", ") {
		name, typ, _ := strings.Cut(param, " ")
		t, s, err := parseType(typ)
		if err != nil {
			return err
		}
		if p.vals[name] != nil {
			return fmt.Errorf("%s is defined twice", name)
		}
		names, dtypes, shapes = append(names, name), append(dtypes, t), append(shapes, s)
	}
	if dtypes[0] != I32 || len(shapes[0]) != 0 {
		return fmt.Errorf("the first parameter is the index, i32[]")
	}
	l.body = p.g.OpenBody(dtypes[1:], shapes[1:])
	for i, name := range names {
		p.vals[name] = l.body.params[i]
	}
	p.open = append(p.open, l)
	return nil
}

func (p *parser) yield(rest string) error {
	if len(p.open) == 0 {
		return fmt.Errorf("yield outside a loop")
	}
	l := p.open[len(p.open)-1]
	p.open = p.open[:len(p.open)-1]
	results, err := p.refs(rest)
	if err != nil {
		return err
	}
	p.g.CloseBody(results...)
	p.vals[l.ref] = p.g.MakeLoop(l.attrs.Trips, l.attrs.Carry, l.body, l.ins...)
	return nil
}

func (p *parser) output(rest string) error {
	name, ref, ok := cutLast(rest, " ")
	label, err := strconv.Unquote(name)
	if !ok || err != nil {
		return fmt.Errorf(`want: output "name" %%n`)
	}
	ns, err := p.refs(ref)
	if err != nil || len(ns) != 1 {
		return fmt.Errorf("output %q of %q", label, ref)
	}
	p.g.Output(label, ns[0])
	return nil
}

func (p *parser) assign(rest string) error {
	ns, err := p.refs(strings.ReplaceAll(rest, " ", ", "))
	if err != nil || len(ns) != 2 {
		return fmt.Errorf("want: assign %%state %%value")
	}
	p.g.Assign(ns[0], ns[1])
	return nil
}

func (p *parser) refs(s string) ([]*Node, error) {
	var ns []*Node
	for _, r := range strings.Split(s, ",") {
		if r = strings.TrimSpace(r); r == "" {
			continue
		}
		n := p.vals[r]
		if n == nil {
			return nil, fmt.Errorf("%s is not defined", r)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

func parseType(s string) (DType, Shape, error) {
	i := strings.IndexByte(s, '[')
	if i < 0 {
		return InvalidType, nil, fmt.Errorf("want a type such as f32[2,3], got %q", s)
	}
	t, err := ParseDType(s[:i])
	if err != nil {
		return t, nil, err
	}
	shape, err := parseInts(s[i:])
	return t, shape, err
}

func parseAttrs(op Op, s string) (Attrs, error) {
	var a Attrs
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		key, rest, _ := strings.Cut(s, "=")
		end := attrEnd(rest)
		f, ok := attrFields[key]
		if !ok || !strings.Contains(" "+opTable[op].attrs+" ", " "+key+" ") {
			return a, fmt.Errorf("%v has no attribute %q", op, key)
		}
		if err := f.parse(&a, rest[:end]); err != nil {
			return a, fmt.Errorf("attribute %s: %w", key, err)
		}
		s = rest[end:]
	}
	return a, nil
}

// attrEnd is the length of the value at the start of s.
func attrEnd(s string) int {
	if strings.HasPrefix(s, `"`) {
		if q, err := strconv.QuotedPrefix(s); err == nil {
			return len(q)
		}
	}
	if i := strings.IndexByte(s, ' '); i >= 0 {
		return i
	}
	return len(s)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
