package adversarial

import (
	"math"
	"strings"
	"testing"

	"temper/engine/graph"
	"temper/engine/interp"
	"temper/engine/rng"
	"temper/nn"
)

// probe is a small network on structured data, kept as plain slices so that
// every figure of FeatureGraph can be computed again by loops.
type probe struct {
	k, m, d, p, n int
	q, rho        float64
	u, v          [][]float64   // (k,d): the unit vectors e_0 … e_2k−1
	w             [][][]float64 // (k,m,d)
	x             [][][]float64 // (n,p,d)
	robust        [][]bool      // (n,p)
	y             []int
}

func newProbe(seed uint32) *probe {
	s := rng.NewStream(seed, "test.probe", 0)
	b := &probe{k: 3, m: 4, d: 7, p: 6, n: 8, q: 3, rho: 0.5}
	vectors := func(rows int, scale float64) (out [][]float64) {
		for range rows {
			row := make([]float64, b.d)
			for i := range row {
				row[i] = scale * float64(s.Normal())
			}
			out = append(out, row)
		}
		return out
	}
	for i := range 2 * b.k {
		e := make([]float64, b.d)
		e[i] = 1
		if i < b.k {
			b.u = append(b.u, e)
		} else {
			b.v = append(b.v, e)
		}
	}
	for range b.k {
		b.w = append(b.w, vectors(b.m, 0.5))
	}
	for i := range b.n {
		b.y = append(b.y, i%b.k)
		x, robust := vectors(b.p, 0.1), make([]bool, b.p)
		for p := range x {
			robust[p] = p == i%b.p || p == (i+2)%b.p
			feature, c := b.v[b.y[i]], 0.5
			if robust[p] {
				feature, c = b.u[b.y[i]], 1.3
			}
			for j := range feature {
				x[p][j] += c * feature[j]
			}
		}
		b.x, b.robust = append(b.x, x), append(b.robust, robust)
	}
	return b
}

func inner(a, b []float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// margin is F_y − max_{j≠y} F_j, by the definition of the network.
func (b *probe) margin(x [][]float64, y int) float64 {
	f := make([]float64, b.k)
	for i := range b.w {
		for _, w := range b.w[i] {
			for _, patch := range x {
				z := inner(w, patch)
				switch {
				case z > b.rho:
					f[i] += z - (1-1/b.q)*b.rho
				case z > 0:
					f[i] += math.Pow(z, b.q) / (b.q * math.Pow(b.rho, b.q-1))
				}
			}
		}
	}
	other := math.Inf(-1)
	for j, v := range f {
		if j != y {
			other = math.Max(other, v)
		}
	}
	return f[y] - other
}

// over maps f over the patches of every sample, and gives accuracy and mean
// margin there.
func (b *probe) over(f func(n, p int, x []float64) []float64) (acc, margin float64) {
	for n := range b.x {
		var moved [][]float64
		for p, x := range b.x[n] {
			moved = append(moved, f(n, p, x))
		}
		m := b.margin(moved, b.y[n])
		margin += m / float64(b.n)
		if m > 0 {
			acc += 1 / float64(b.n)
		}
	}
	return acc, margin
}

// erase projects x off the span of vectors.
func erase(x []float64, span [][]float64) []float64 {
	out := append([]float64{}, x...)
	for _, s := range span {
		c := inner(out, s)
		for i := range out {
			out[i] -= c * s[i]
		}
	}
	return out
}

func plus(x []float64, c float64, v []float64) []float64 {
	out := append([]float64{}, x...)
	for i := range out {
		out[i] += c * v[i]
	}
	return out
}

func (b *probe) graph(t *testing.T, threat ThreatModel, attack Attack) *graph.Graph {
	t.Helper()
	m, err := nn.Lookup("patchcnn", nn.Config{Input: graph.Shape{b.d, 1, b.p}, Classes: b.k, Filters: b.m, Q: b.q, Rho: b.rho})
	must(t, err)
	g, err := FeatureGraph(FeatureProbe{Model: m, Threat: threat, Trained: attack, Search: SearchAttack()}, b.n)
	must(t, err)
	return g
}

func (b *probe) feed(eps, alpha, beta float64) interp.Feed {
	tensor := func(dt graph.DType, at func(i int) float64, shape ...int) *interp.Tensor {
		x := interp.New(dt, shape)
		for i := range x.Data {
			x.Data[i] = at(i)
		}
		return x
	}
	f := interp.Feed{
		"state conv.weight": tensor(graph.F32, func(i int) float64 { return b.w[i/b.d/b.m][i/b.d%b.m][i%b.d] }, b.k*b.m, b.d, 1, 1),
		"input x":           tensor(graph.F32, func(i int) float64 { return b.x[i/b.p/b.d][i%b.p][i/b.p%b.d] }, b.n, b.d, 1, b.p),
		"input y":           tensor(graph.I32, func(i int) float64 { return float64(b.y[i]) }, b.n),
		"input ids":         tensor(graph.U32, func(i int) float64 { return float64(i) }, b.n),
		"input u":           tensor(graph.F32, func(i int) float64 { return b.u[i/b.d][i%b.d] }, b.k, b.d),
		"input v":           tensor(graph.F32, func(i int) float64 { return b.v[i/b.d][i%b.d] }, b.k, b.d),
		"input robust": tensor(graph.Bool, func(i int) float64 {
			if b.robust[i/b.p][i%b.p] {
				return 1
			}
			return 0
		}, b.n, b.p),
		"scalar seed": interp.New(graph.U32, nil, 7),
	}
	for name, v := range map[string]float64{"eps": eps, "alpha": alpha, "search_alpha": eps / 8, "beta": beta} {
		f["scalar "+name] = interp.New(graph.F32, nil, v)
	}
	return f
}

var patchThreat = ThreatModel{Norm: PatchL2, Epsilon: MustEpsilon("0.6"), Domain: Unbounded}

// TestFeatureGraph computes the figures again by loops.
func TestFeatureGraph(t *testing.T) {
	const eps, beta = 0.6, 0.5
	for seed := range uint32(4) {
		b := newProbe(seed)
		g := b.graph(t, patchThreat, Attack{Name: "ascent", StepSize: MustEpsilon("2")})
		out := eval(t, g, b.feed(eps, 2, beta)).Outputs
		same := func(name string, want ...float64) {
			t.Helper()
			got := out[name].Data
			for i := range want {
				if len(got) != len(want) || math.Abs(got[i]-want[i]) > 1e-9 {
					t.Fatalf("seed %d: %s = %v, want %v", seed, name, got, want)
				}
			}
		}
		align := func(features [][]float64) (largest, average []float64) {
			for i, class := range b.w {
				top, sum := math.Inf(-1), 0.0
				for _, w := range class {
					z := inner(w, features[i])
					top, sum = math.Max(top, z), sum+z
				}
				largest, average = append(largest, top), append(average, sum/float64(b.m))
			}
			return largest, average
		}
		top, average := align(b.u)
		same("u_max", top...)
		same("u_mean", average...)
		top, average = align(b.v)
		same("v_max", top...)
		same("v_mean", average...)

		part := func(suffix string, f func(n, p int, x []float64) []float64) {
			t.Helper()
			acc, margin := b.over(f)
			same("acc"+suffix, acc)
			same("margin"+suffix, margin)
		}
		part("", func(_, _ int, x []float64) []float64 { return x })
		part("_u", func(n, p int, x []float64) []float64 {
			if b.robust[n][p] {
				return x
			}
			return erase(x, b.v)
		})
		part("_v", func(n, p int, x []float64) []float64 {
			if b.robust[n][p] {
				return erase(x, b.u)
			}
			return x
		})
		oracle := func(name string, f func(n, p int, x []float64) []float64) {
			t.Helper()
			acc, _ := b.over(f)
			same("robust_"+name, acc)
		}
		oracle("minus_v", func(n, p int, x []float64) []float64 {
			if b.robust[n][p] {
				return x
			}
			return plus(x, -eps, b.v[b.y[n]])
		})
		oracle("minus_vu", func(n, p int, x []float64) []float64 {
			if b.robust[n][p] {
				return plus(x, -eps, b.u[b.y[n]])
			}
			return plus(x, -eps, b.v[b.y[n]])
		})
		// y' is the graph's draw: it must be one of the other classes, so the
		// accuracy lies between the two extremes.
		between := func(name string, f func(n, p, other int, x []float64) []float64) {
			t.Helper()
			low, high := 0.0, 0.0
			for n := range b.x {
				worst, best := math.Inf(1), math.Inf(-1)
				for other := range b.k {
					if other == b.y[n] {
						continue
					}
					var moved [][]float64
					for p, x := range b.x[n] {
						moved = append(moved, f(n, p, other, x))
					}
					m := b.margin(moved, b.y[n])
					worst, best = math.Min(worst, m), math.Max(best, m)
				}
				if worst > 0 {
					low += 1 / float64(b.n)
				}
				if best > 0 {
					high += 1 / float64(b.n)
				}
			}
			if got := out["robust_"+name].Data[0]; got < low-1e-9 || got > high+1e-9 {
				t.Errorf("seed %d: %s = %v, must be in [%v, %v]", seed, name, got, low, high)
			}
		}
		between("inject_u", func(n, p, other int, x []float64) []float64 {
			if b.robust[n][p] {
				return x
			}
			return plus(x, eps, b.u[other])
		})
		between("swap_v", func(n, p, other int, x []float64) []float64 {
			if b.robust[n][p] {
				return x
			}
			return plus(plus(x, -beta, b.v[b.y[n]]), math.Sqrt(eps*eps-beta*beta), b.v[other])
		})
		if size := out["size"].Data[0]; math.Abs(size-eps) > 1e-6 {
			t.Errorf("seed %d: the largest perturbation is %v, want ε", seed, size)
		}
	}
}

// TestFeatureCosines sets the network so that the attack's direction is known:
// filters along v alone are attacked along −v alone.
func TestFeatureCosines(t *testing.T) {
	b := newProbe(1)
	for i := range b.w {
		for r := range b.w[i] {
			b.w[i][r] = plus(make([]float64, b.d), 0.2, b.v[i])
		}
	}
	g := b.graph(t, patchThreat, Attack{Name: "ascent", StepSize: MustEpsilon("2")})
	for _, x := range b.x { // no noise: other classes' filters stay silent
		for p := range x {
			x[p] = make([]float64, b.d)
		}
	}
	for n := range b.x {
		for p := range b.x[n] {
			if b.robust[n][p] {
				b.x[n][p] = plus(b.x[n][p], 1.3, b.u[b.y[n]])
			} else {
				b.x[n][p] = plus(b.x[n][p], 0.5, b.v[b.y[n]])
			}
		}
	}
	out := eval(t, g, b.feed(0.6, 2, 0.5)).Outputs
	for name, want := range map[string]float64{"cos_minus_v": 1, "cos_plus_v": 0, "cos_minus_u": 0, "cos_plus_u": 0, "acc_v": 1, "acc_u": 0} {
		if got := out[name].Data[0]; math.Abs(got-want) > 1e-9 {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
}

// TestFeatureNorms: in every norm all attacks use the whole ball and no more.
func TestFeatureNorms(t *testing.T) {
	b := newProbe(2)
	for _, n := range Norms() {
		threat := patchThreat
		threat.Norm = n
		g := b.graph(t, threat, Attack{Name: "fgsm"})
		out := eval(t, g, b.feed(0.6, 0.6, 0.5)).Outputs
		if size := out["size"].Data[0]; !threat.Allows(size) || size < 0.599 {
			t.Errorf("%s: the largest perturbation is %v of 0.6", n, size)
		}
	}
}

// TestOracles computes by hand how far every oracle moves each patch, and along
// what, before it is projected: in each norm as far as its ball lets a patch go
// that is moved with the others of J_N.
func TestOracles(t *testing.T) {
	b := newProbe(3)
	dense := float64(b.p - 2) // patches of J_N
	const eps = 0.6
	for norm, reach := range map[Norm]float64{PatchL2: eps, L2: eps / math.Sqrt(dense), Linf: eps * math.Sqrt(float64(b.d))} {
		threat := patchThreat
		threat.Norm = norm
		for _, beta := range []float64{reach / 2, 3 * reach} { // an oracle takes no more of v away than there is, or than it may
			m, err := nn.Lookup("patchcnn", nn.Config{Input: graph.Shape{b.d, 1, b.p}, Classes: b.k, Filters: b.m, Q: b.q, Rho: b.rho})
			must(t, err)
			g := graph.New("oracles")
			f, err := newFeatures(g, FeatureProbe{Model: m, Threat: threat, Trained: SearchAttack(), Search: SearchAttack()}, b.n)
			must(t, err)
			for i, delta := range f.oracles(threat) {
				g.Output(OracleNames()[i], delta)
			}
			g.Output("other", f.other())
			out := eval(t, g, b.feed(eps, 0, beta)).Outputs
			back := math.Min(beta, reach)
			drawn := map[int]bool{} // how far the other class is from the sample's own
			for n := range b.x {
				other := int(out["other"].Data[n])
				if other == b.y[n] || other < 0 || other >= b.k {
					t.Fatalf("sample %d of class %d: the other class is %d", n, b.y[n], other)
				}
				drawn[(other-b.y[n]+b.k)%b.k] = true
				for p := range b.p {
					nothing := make([]float64, b.d)
					minusV := plus(nothing, -reach, b.v[b.y[n]])
					want := map[string][]float64{
						"minus_v": minusV, "minus_vu": minusV, "inject_u": plus(nothing, reach, b.u[other]),
						"swap_v": plus(plus(nothing, -back, b.v[b.y[n]]), math.Sqrt(reach*reach-back*back), b.v[other]),
					}
					if b.robust[n][p] {
						want = map[string][]float64{"minus_v": nothing, "minus_vu": plus(nothing, -reach, b.u[b.y[n]]), "inject_u": nothing, "swap_v": nothing}
					}
					at := func(name string) []float64 {
						moved := make([]float64, b.d)
						for j := range moved {
							moved[j] = out[name].Data[(n*b.d+j)*b.p+p]
						}
						return moved
					}
					for name, w := range want {
						if diff, _ := apart(at(name), w); !(diff < 1e-7) {
							t.Errorf("%s, β %v, sample %d, patch %d: %s is %v, want %v", norm, beta, n, p, name, at(name), w)
						}
					}
					if r := at("random"); math.Abs(math.Sqrt(inner(r, r))-reach) > 1e-6 {
						t.Errorf("%s: a random direction of length %v, want %v", norm, math.Sqrt(inner(r, r)), reach)
					}
				}
			}
			if len(drawn) != b.k-1 {
				t.Errorf("%s: of %d other classes %v are drawn", norm, b.k-1, drawn)
			}
		}
	}
}

// TestCosines computes by loops the cosines of random perturbations with the patterns.
func TestCosines(t *testing.T) {
	b := newProbe(5)
	delta := newProbe(6).x // some perturbation, (n,p,d)
	m, err := nn.Lookup("patchcnn", nn.Config{Input: graph.Shape{b.d, 1, b.p}, Classes: b.k, Filters: b.m, Q: b.q, Rho: b.rho})
	must(t, err)
	g := graph.New("cosines")
	f, err := newFeatures(g, FeatureProbe{Model: m, Threat: patchThreat, Trained: SearchAttack(), Search: SearchAttack()}, b.n)
	must(t, err)
	f.cosines(g.Input("delta", graph.F32, b.n, b.d, 1, b.p))
	feed := b.feed(0.6, 0, 0.5)
	moved := *b
	moved.x = delta
	feed["input delta"] = moved.feed(0.6, 0, 0.5)["input x"]
	out := eval(t, g, feed).Outputs

	cos := func(n int, feature []float64, robust bool) float64 {
		dot, size, count := 0.0, 0.0, 0.0
		for p, patch := range delta[n] {
			size += inner(patch, patch)
			if b.robust[n][p] == robust {
				dot, count = dot+inner(patch, feature), count+1
			}
		}
		return dot / math.Sqrt(count*size)
	}
	want := map[string]float64{}
	for n := range b.x {
		plusV, plusU := math.Inf(-1), math.Inf(-1)
		for j := range b.k {
			if j != b.y[n] {
				plusV, plusU = math.Max(plusV, cos(n, b.v[j], false)), math.Max(plusU, cos(n, b.u[j], false))
			}
		}
		share := 1 / float64(b.n)
		want["cos_minus_v"] -= share * cos(n, b.v[b.y[n]], false)
		want["cos_minus_u"] -= share * cos(n, b.u[b.y[n]], true)
		want["cos_plus_v"] += share * plusV
		want["cos_plus_u"] += share * plusU
	}
	for name, w := range want {
		if got := out[name].Data[0]; math.Abs(got-w) > 1e-9 {
			t.Errorf("%s is %v, want %v", name, got, w)
		}
	}
}

// The training attack is measured on the margin, whatever loss it trains with: the
// cross-entropy's gradient vanishes as training converges.
func TestFeatureAttackIsOnTheMargin(t *testing.T) {
	b := newProbe(1)
	margin := b.graph(t, patchThreat, Attack{Name: "ascent", StepSize: MustEpsilon("2"), Loss: "lse-margin"})
	for _, loss := range []string{"", "ce", "cw"} {
		if b.graph(t, patchThreat, Attack{Name: "ascent", StepSize: MustEpsilon("2"), Loss: loss}).String() != margin.String() {
			t.Errorf("loss %q makes another graph", loss)
		}
	}
}

func TestFeatureGraphRefuses(t *testing.T) {
	image, err := nn.Lookup("mnist-wong", nn.Config{Input: graph.Shape{1, 28, 28}, Classes: 10})
	must(t, err)
	patch, err := nn.Lookup("patchcnn", nn.Config{Input: graph.Shape{7, 1, 6}, Classes: 3})
	must(t, err)
	ascent := Attack{Name: "ascent"}
	for _, c := range []struct {
		p    FeatureProbe
		want string
	}{
		{FeatureProbe{image, patchThreat, ascent, SearchAttack()}, "patch CNN"},
		{FeatureProbe{patch, patchThreat, Attack{Name: "bim"}, SearchAttack()}, "unknown attack"},
		{FeatureProbe{patch, ThreatModel{}, ascent, SearchAttack()}, "norm"},
	} {
		if _, err := FeatureGraph(c.p, 4); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want an error with %q", err, c.want)
		}
	}
}
