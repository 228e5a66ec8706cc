package plan

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"temper/engine/graph"
)

var update = flag.Bool("update", false, "rewrite the plans under testdata")

const separator = "--- plan ---\n"

// Each file of testdata holds a graph and the plan made of it, with less traffic
// where its name says so. The CPU back
// end's tests run the same graphs against the reference interpreter.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases under testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source, want, _ := strings.Cut(string(text), separator)
			g, err := graph.Parse(source)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Base(file)
			p := Build(g, Options{LessTraffic: strings.HasPrefix(name, "less-traffic"), Branches: strings.HasPrefix(name, "branches"), Prologues: strings.HasPrefix(name, "less-traffic-prologue")})
			checkOverlap(t, p)
			checkBranches(t, p, p.Steps)
			if *update {
				if err := os.WriteFile(file, []byte(source+separator+p.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, p.String()); d != "" {
				t.Errorf("-want +got, or run with -update:\n%s", d)
			}
			for _, o := range []Options{{NoFusion: true}, {NoReuse: true}, {NoInPlace: true}, {LessTraffic: true}, {Branches: true}, {LessTraffic: true, Prologues: true, Branches: true}} {
				p := Build(g, o)
				checkOverlap(t, p)
				checkBranches(t, p, p.Steps)
			}
		})
	}
}

// checkOverlap asserts that temporaries that live at the same time lie apart,
// inside the arena.
func checkOverlap(t *testing.T, p *Plan) {
	t.Helper()
	for i := range p.Buffers {
		a := &p.Buffers[i]
		if a.Kind != Temp || a.Node == nil {
			continue
		}
		size := p.Arena
		if a.Private {
			size = p.Private
		}
		if a.Offset < 0 || a.Offset%align != 0 || a.Offset+a.Bytes() > size {
			t.Errorf("buffer %d lies at %d…%d of %d bytes", i, a.Offset, a.Offset+a.Bytes(), size)
		}
		for j := range i {
			b := &p.Buffers[j]
			if b.Kind != Temp || b.Private != a.Private || b.Node == nil || a.From > b.To || b.From > a.To {
				continue
			}
			if a.Offset < b.Offset+b.Bytes() && b.Offset < a.Offset+a.Bytes() {
				t.Errorf("buffers %d and %d live together and overlap", i, j)
			}
		}
	}
}

// checkBranches asserts that branches that may run at once share no memory that
// one of them writes.
func checkBranches(t *testing.T, p *Plan, steps []Step) {
	t.Helper()
	for i := range steps {
		if steps[i].Loop != nil {
			checkBranches(t, p, steps[i].Loop.Steps)
		}
		for k := i + 1; k < len(steps) && (steps[i].Region > 0 && steps[k].Region == steps[i].Region || steps[i].Set > 0 && steps[k].Set == steps[i].Set); k++ {
			if steps[i].Set == 0 && steps[k].Branch == steps[i].Branch {
				continue
			}
			for _, pair := range [][2]*Step{{&steps[i], &steps[k]}, {&steps[k], &steps[i]}} {
				_, writes := p.touches(pair[0])
				reads, others := p.touches(pair[1])
				for _, w := range writes {
					for _, r := range append(reads, others...) {
						a, b := &p.Buffers[w], &p.Buffers[r]
						if w == r || a.Kind == Temp && b.Kind == Temp && a.Private == b.Private && a.Offset < b.Offset+b.Bytes() && b.Offset < a.Offset+a.Bytes() {
							t.Errorf("buffer %d is written in one branch, or group of a set, while buffer %d, in its place, is used in another", w, r)
						}
					}
				}
			}
		}
	}
}

// touches lists the buffers that a step reads and writes.
func (p *Plan) touches(s *Step) (reads, writes []int) {
	read := func(i int) { reads = append(reads, i) }
	if s.Op != nil {
		for i, in := range s.Op.Ins() {
			if i > 0 || s.Prologue == nil {
				read(p.Buffer(in))
			}
		}
		if s.Prologue != nil {
			p.members(s.Prologue, read)
		}
		return reads, []int{p.Buffer(s.Op)}
	}
	p.members(s.Fused, read)
	for _, n := range s.Fused.Stored {
		writes = append(writes, p.Buffer(n))
	}
	return reads, writes
}

func TestReuseSavesMemory(t *testing.T) {
	g := graph.New("chain")
	x := g.Input("x", graph.F32, 64, 64)
	for range 10 {
		x = x.MatMul(x)
	}
	g.Output("y", x)
	with, without := Build(g, Options{}).Arena, Build(g, Options{NoReuse: true}).Arena
	if one := 64 * 64 * 4; with != 2*one || without != 10*one {
		t.Errorf("ten products in a row: arena of %d bytes with reuse, %d without; want 2 and 10 times %d", with, without, one)
	}
}
