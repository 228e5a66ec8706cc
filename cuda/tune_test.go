//go:build cgo && !windows

package cuda

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"temper/cuda/cache"
	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/optest"
	"temper/engine/plan"
)

// everyChoice lists what accepts accepts, in up to three parts, with the fewest
// and the most stages.
func everyChoice(op *tensorOp) (list []Choice) {
	tiles := slices.Clone(sm90Tiles)
	for _, t := range mmaTiles {
		tiles = append(tiles, t.tensorTile)
	}
	tiles = append(tiles, tapTiles...)
	way := op.rank()[0].Way
	for i, tile := range tiles {
		for parts := 1; parts <= 3; parts++ {
			var own []Choice
			for stages := 1; stages <= mostStages; stages++ {
				if c := (Choice{way, tile.rows, tile.columns, stages, parts}); op.accepts(c) && !slices.Contains(tiles[:i], tile) {
					own = append(own, c)
				}
			}
			if len(own) > 0 {
				list = append(list, own[0], own[len(own)-1])
			}
		}
	}
	return slices.Compact(list)
}

// TestChoices computes contractions in every way that a record may name: each
// agrees with the reference interpreter, and gives the same bits twice.
func TestChoices(t *testing.T) {
	for _, c := range []struct {
		dt         graph.DType
		capability int
		tolerance  optest.Tolerance
		least      int // choices in all
	}{
		{graph.BF16, 90, optest.Tolerance{Rel: 1, Abs: 0x1p-9}, 50},
		{graph.F32, 80, optest.Tolerance{Abs: 64}, 20},
	} {
		t.Run(fmt.Sprint(c.dt), func(t *testing.T) {
			type one struct {
				g      *graph.Graph
				p      *plan.Plan
				choice Choice
				name   string
			}
			all, kernels, ways := map[string][]one{}, map[string][]Kernel{}, []string{} // by the way
			pairs := map[string]bool{}
			graphs, n := tensorGraphs(t, c.dt, graph.PrecisionFloat32), 0
			for _, name := range []string{"conv2d/deep", "conv2d/strips of halves", "conv2d/strips in two copies", "conv2d/high strips", "conv2d-input-grad/wide strips", "conv2d-input-grad/strips of two images", "conv2d-input-grad/strips of halves", "conv2d-input-grad/deep", "conv2d-input-grad/3x3,s2", "conv2d-input-grad/first layer", "conv2d-input-grad/one channel", "conv2d-filter-grad/deep", "conv2d-filter-grad/strips of halves", "matmul/[1 5 1200][1 1200 10],ta=false,tb=false"} {
				g := graphs[name]
				p := plan.Build(g, plan.Options{})
				s := p.Steps[len(p.Steps)-1]
				for _, op := range tensorOps(s.Op, nil, target{capability: c.capability}) {
					for _, choice := range everyChoice(op) {
						o := one{g, p, choice, problem(s.Op, nil, false)}
						_, ks, err := kernelsOf(p, target{capability: c.capability, chosen: map[string]Choice{o.name: choice}})
						if err != nil {
							t.Fatal(err)
						}
						if all[choice.Way] == nil {
							ways = append(ways, choice.Way)
						}
						all[choice.Way], kernels[choice.Way] = append(all[choice.Way], o), append(kernels[choice.Way], ks...)
						if n++; op.wgmma != nil {
							pairs[op.wgmma.name+" "+string(op.pairing(choice.tile()))] = true
						}
					}
				}
			}
			if n < c.least {
				t.Fatalf("%d choices", n)
			}
			for _, name := range []string{"conv_forward_sm90", "conv_forward_strips_sm90", "conv_input_grad_sm90", "conv_input_grad_strips_sm90", "conv_filter_grad_sm90"} {
				for _, with := range []pairing{alone, sameRows, sameColumns} {
					if c.capability == 90 && !pairs[name+" "+string(with)] {
						t.Errorf("no choice has %s for %s", with, name)
					}
				}
			}
			_, dev := openEmulator(t, fmt.Sprint("capability=", c.capability))
			if c.dt == graph.BF16 && dev.Device.Info.Capability != c.capability {
				t.Skip("not for this GPU")
			}
			wants := map[string]*interp.Tensor{}
			for _, way := range ways {
				t.Run(way, func(t *testing.T) {
					if err := dev.load(kernels[way]); err != nil {
						t.Fatal(err)
					}
					for _, o := range all[way] {
						feed := uniformFeed(o.g)
						want := wants[o.name]
						if want == nil {
							want = must(interp.RunRounded(o.g, feed))(t).Outputs["y"]
							wants[o.name] = want
						}
						dev.tuner.used = map[string]Choice{o.name: o.choice}
						got := evaluate(t, dev, o.p, feed)["y"]
						if err := c.tolerance.Compare(want, got); err != nil {
							t.Errorf("%s as %v: %v", o.name, o.choice, err)
						}
						if again := evaluate(t, dev, o.p, feed)["y"]; !bytes.Equal(got.Bytes(), again.Bytes()) {
							t.Errorf("%s as %v gives other bits the second time", o.name, o.choice)
						}
					}
				})
			}
		})
	}
}

// What the user leaves out is no way of computing a convolution, chosen or not.
func TestLeftOut(t *testing.T) {
	s := tuningPlan(t).Steps[0]
	for _, c := range []struct{ without, want string }{
		{"", "wgmma in strips in pairs"},
		{"pairs", "wgmma in strips"},
		{"pairs, strips,turns", "wgmma"},
		{"wgmma", "mma.sync"},
	} {
		t.Setenv("TEMPER_CUDA_WITHOUT", c.without)
		of := target{capability: 90, without: must(leftOut())(t)}
		for _, op := range tensorOps(s.Op, nil, of) {
			for _, word := range of.without {
				if way := op.rank()[0].Way; strings.Contains(way, word) {
					t.Errorf("without %s: %s", c.without, way)
				}
			}
		}
		if got := newTensorOp(s.Op, nil, of, false).tiling(); !strings.HasPrefix(got, c.want+", ") {
			t.Errorf("without %q: %s", c.without, got)
		}
	}
	t.Setenv("TEMPER_CUDA_WITHOUT", "pears")
	const want = `TEMPER_CUDA_WITHOUT: nothing is called "pears": there are wgmma, strips, turns, pairs, crossed`
	if _, err := leftOut(); err == nil || err.Error() != want {
		t.Error(err)
	}
}

// tuningPlan is a convolution with a group behind it, another one that is read by
// nothing but the host, and a product in parts.
func tuningPlan(t *testing.T) *plan.Plan {
	g := graph.New("tuned")
	a := graph.Attrs{Stride: [2]int{1, 1}, Pad: [2]int{1, 1}, Dilation: [2]int{1, 1}, Layout: graph.NHWC}
	x := g.Input("x", graph.BF16, 4, 8, 8, 16)
	y := g.Make(graph.OpConv2D, a, x, g.Input("w", graph.BF16, 32, 3, 3, 16))
	g.Output("y", y.Convert(graph.F32).ReLU())
	g.Output("z", g.Make(graph.OpConv2D, a, x, g.Input("v", graph.BF16, 24, 3, 3, 16)))
	g.Output("p", g.Make(graph.OpMatMul, graph.Attrs{}, g.Input("a", graph.BF16, 16, 2048), g.Input("b", graph.BF16, 2048, 24)))
	if err := g.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.Build(g, plan.Options{})
}

// fakeClock is a clock on which the candidate of some number takes least, and
// which counts the problems that it times.
func fakeClock(fastest int, share float64, timed *int) clockFunc {
	return func(_ *plan.Plan, candidates [][]Kernel) (times []time.Duration, err error) {
		*timed++
		for i := range candidates {
			d := 100 * time.Microsecond
			if i == fastest {
				d = time.Duration(share * float64(d))
			}
			times = append(times, d)
		}
		return times, nil
	}
}

// tuned opens the emulator with a clock, and without a record in the cache but
// what is in content.
func tuned(t *testing.T, clock clockFunc, content []byte) (g *gpu, file string, notes *[]string) {
	t.Helper()
	_, g = openEmulator(t, "")
	notes = new([]string)
	g.tuner.clock = clock
	g.tuner.note = func(line string) { *notes = append(*notes, line) }
	file = filepath.Join(must(cache.Dir())(t), g.cacheName())
	t.Cleanup(func() { os.Remove(file) })
	os.Remove(file)
	if content != nil {
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return g, file, notes
}

// TestTune chooses by time: once, for all programs and processes; whoever listens
// hears of it, and the record is one that people can read.
func TestTune(t *testing.T) {
	p, timed := tuningPlan(t), 0
	g, file, notes := tuned(t, fakeClock(1, 0.5, &timed), nil)
	var record []byte
	if err := g.OnChoice(func() error { record = g.Record(record); return nil }); err != nil || record != nil {
		t.Fatalf("a record of no choices: %q, %v", record, err)
	}
	must(g.Load(p))(t).Close()
	if timed != 3 || len(*notes) != 1 || !strings.HasPrefix((*notes)[0], "timing kernels for 3 contractions on emulated GPU") {
		t.Fatalf("%d problems were timed; notes %q", timed, *notes)
	}
	cached := must(os.ReadFile(file))(t)
	if !bytes.Equal(cached, record) {
		t.Errorf("the cache has\n%s\nand the run\n%s", cached, record)
	}
	for _, want := range []string{`"device": "emulated GPU"`, `"conv2d of bf16[4,8,8,16] [32,3,3,16] -> [4,8,8,32], stride [1 1], pad [1 1], dilation [1 1], with what follows": "wgmma`} {
		if !strings.Contains(string(record), want) {
			t.Errorf("the record lacks %s:\n%s", want, record)
		}
	}
	first := must(ParseTuning(record))(t)["sm_90a"].Choices
	list := tunablesOf(p, target{capability: 90})
	for _, c := range list {
		if first[c.problem] != c.list[1] {
			t.Errorf("%s: %v, want %v", c.problem, first[c.problem], c.list[1])
		}
	}
	of, _, err := kernelsOf(p, g.target())
	if err != nil || !strings.Contains(fmt.Sprint(of), ", the fastest of ") {
		t.Errorf("nothing says that kernels were chosen by time: %v", err)
	}

	must(g.Load(p))(t).Close()
	again, _, notes := tuned(t, fakeClock(2, 0.5, &timed), cached)
	must(again.Load(p))(t).Close()
	if timed != 3 || len(*notes) != 0 || !maps.Equal(again.tuner.used, first) {
		t.Errorf("the next process: %d problems timed, notes %q, choices %v", timed, *notes, again.tuner.used)
	}

	timed = 0
	noise, _, _ := tuned(t, fakeClock(1, 0.99, &timed), nil)
	must(noise.Load(p))(t).Close()
	for _, c := range list {
		if noise.tuner.used[c.problem] != c.list[0] {
			t.Errorf("%s: a hundredth makes a choice: %v", c.problem, noise.tuner.used[c.problem])
		}
	}
}

// TestTuneRecords holds broken and foreign records to one line, and goes on.
func TestTuneRecords(t *testing.T) {
	p, timed := tuningPlan(t), 0
	g, _, _ := tuned(t, fakeClock(1, 0.5, &timed), nil)
	must(g.Load(p))(t).Close()
	record := g.Record(nil)
	for what, c := range map[string]struct{ content, says string }{
		"torn":                       {string(record[:len(record)/2]), "no record of choices between kernels: unexpected end of JSON input"},
		"text":                       {"tuning", "no record of choices between kernels: invalid character"},
		"empty":                      {"{}", "it is of another device, driver or build"},
		"no architecture":            {`{"fast": {"choices": {}}}`, `nothing for "fast"`},
		"nothing":                    {`{"sm_90a": null}`, `nothing for "sm_90a"`},
		"no choice":                  {strings.Replace(string(record), "tiles of", "tilings of", 1), "is no choice like"},
		"of another driver":          {strings.Replace(string(record), `"driver": "`, `"driver": "1`, 1), "it is of another device, driver or build"},
		"choice that cannot be made": {strings.Replace(string(record), "tiles of 128 x ", "tiles of 96 x ", 1), ""},
	} {
		t.Run(what, func(t *testing.T) {
			timed = 0
			g, file, notes := tuned(t, fakeClock(1, 0.5, &timed), []byte(c.content))
			must(g.Load(p))(t).Close()
			if c.says == "" {
				if timed != 1 {
					t.Errorf("%d problems timed, want the one", timed)
				}
				return
			}
			if timed != 3 || len(*notes) != 2 || !strings.Contains((*notes)[0], file+": ") || !strings.Contains((*notes)[0], c.says) || !strings.HasSuffix((*notes)[0], ": kernels are timed again") {
				t.Errorf("%d problems timed, notes %q; want one with %q", timed, *notes, c.says)
			}
			if now := must(os.ReadFile(file))(t); !bytes.Equal(now, record) {
				t.Errorf("the record is now\n%s", now)
			}
		})
	}
}

// TestRecall makes the choices of a run, whatever the cache or the clock says.
func TestRecall(t *testing.T) {
	p, timed := tuningPlan(t), 0
	g, _, _ := tuned(t, fakeClock(1, 0.5, &timed), nil)
	must(g.Load(p))(t).Close()
	record, cached := g.Record(nil), must(os.ReadFile(filepath.Join(must(cache.Dir())(t), g.cacheName())))(t)

	timed = 0
	none := strings.ReplaceAll(string(cached), "128 x", "256 x")
	other, _, _ := tuned(t, fakeClock(2, 0.5, &timed), []byte(none))
	if err := other.Recall(record); err != nil {
		t.Fatal(err)
	}
	must(other.Load(p))(t).Close()
	if timed != 0 || !maps.Equal(other.tuner.used, g.tuner.used) {
		t.Errorf("%d problems timed; %v, want %v", timed, other.tuner.used, g.tuner.used)
	}

	// Without a clock, what is not recalled is the cost model's, and recorded too.
	still, _, notes := tuned(t, nil, cached)
	list := tunablesOf(p, target{capability: 90})
	one := Tuning{"sm_90a": {Choices: map[string]Choice{list[0].problem: list[0].list[1], list[1].problem: {onWGMMA, 96, 96, 4, 1}}}}
	if err := still.Recall(one.Bytes()); err != nil {
		t.Fatal(err)
	}
	must(still.Load(p))(t).Close()
	want := map[string]Choice{list[0].problem: list[0].list[1], list[1].problem: list[1].list[0], list[2].problem: list[2].list[0]}
	if !maps.Equal(still.tuner.used, want) {
		t.Errorf("%v, want %v", still.tuner.used, want)
	}
	if len(*notes) != 1 || !strings.Contains((*notes)[0], "is none that this build can make: it is made anew") {
		t.Errorf("notes %q", *notes)
	}

	for content, says := range map[string]string{
		"{":                          "no record of choices between kernels",
		`{"sm_80": {"choices": {}}}`: "its choices between kernels were made on sm_80: on sm_90a they are made anew",
	} {
		if err := still.Recall([]byte(content)); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", content, err, says)
		}
	}
	both := must(ParseTuning(still.Record([]byte(`{"sm_80": {"device": "A100", "choices": {}}}`))))(t)
	if both["sm_80"] == nil || both["sm_80"].Device != "A100" || !maps.Equal(both["sm_90a"].Choices, want) {
		t.Errorf("the choices of two devices: %s", both.Bytes())
	}
}

// TestMeasure times candidates as on a GPU, in checked mode.
func TestMeasure(t *testing.T) {
	p := tuningPlan(t)
	_, g := openEmulator(t, "checked,memory=256")
	list := tunablesOf(p, target{capability: 90})
	for _, c := range list[:2] {
		c.list = c.list[:2]
		candidates := must(c.kernels(p, 90))(t)
		if err := g.load(slices.Concat(candidates...)); err != nil {
			t.Fatal(err)
		}
		unused, _, err := g.Memory()
		if err != nil {
			t.Fatal(err)
		}
		times := must(g.measure(p, candidates))(t)
		if len(times) != 2 || slices.Min(times) <= 0 {
			t.Errorf("%s: %v", c.problem, times)
		}
		if left, _, _ := g.Memory(); left != unused {
			t.Errorf("%s: %d bytes are not given back", c.problem, unused-left)
		}
	}
}

func TestChoiceText(t *testing.T) {
	want := Choice{onWGMMA, 128, 160, 5, 14}
	var got Choice
	if text := "wgmma: tiles of 128 x 160, 5 stages, 14 parts"; got.UnmarshalText([]byte(text)) != nil || got != want || want.String() != text {
		t.Errorf("%v", got)
	}
	for _, text := range []string{"", "wgmma", "wgmma: tiles of 128 x 160, 5 stages", "wgmma: tiles of 128 x 160, 5 stages, 14 parts more", "wgmma: tiles of 128 x 0160, 5 stages, 14 parts"} {
		if err := got.UnmarshalText([]byte(text)); err == nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
