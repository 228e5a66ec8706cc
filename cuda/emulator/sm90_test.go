//go:build cgo && !windows

package emulator_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"temper/cuda"
	"temper/cuda/emulator"
)

// set sets an option of the emulator.
func set(t *testing.T, option string, value int) {
	t.Helper()
	if err := must(cuda.Open(must(emulator.Library())(t)))(t).SetEmulator(option, value); err != nil {
		t.Fatal(err)
	}
}

// TestPlantedBugsSM90 is TestPlantedBugs for barriers, copies and products of
// sm_90a, which are done as late as they can be, and at once.
func TestPlantedBugsSM90(t *testing.T) {
	const nothing = "nothing goes wrong if all is done at once"
	for name, says := range map[string][]string{
		"read_without_wait":    {"read of shared memory that nothing has been written to yet: byte ", "race in shared memory (read after write) at byte 0: a tensor copy at "},
		"product_without_wait": {"read of shared memory that nothing has been written to yet: byte "},
		"release_too_early":    {"race in shared memory (write after read)", nothing},
		"sums_not_waited_for":  {"ends, and nobody has waited for its products, at ", nothing},
		"registers_not_fenced": {"wgmma: no wgmma_fence since the last wgmma_wait, thread 0 "},
		"operand_not_fenced":   {"without fence_proxy_async behind it, and read at "},
		"mbarrier_not_fenced":  {"copy_tile: no fence_proxy_async behind mbarrier_init, thread 0 "},
		"mbarrier_not_seen":    {"mbarrier_wait: thread 32 of block (0,0,0) knows of no mbarrier_init"},
		"too_few_bytes":        {"deadlock in block (0,0,0): 256 threads (first 0) wait at mbarrier_wait"},
		"too_many_arrivals":    {"mbarrier_arrive: more than 1 arrivals in a phase, thread 0 "},
		"copy_not_swizzled":    {"copy_tile: the destination is no multiple of 1024 bytes, thread 0 "},
		"partner_not_ready":    {"copy_tile: thread 128 of block (0,0,0) knows of no mbarrier_init"},
		"partner_not_asked":    {"race in shared memory (write after read) at byte "},
		"partner_gone":         {"mbarrier_arrive_at: block 0 of the cluster has ended, thread 255 of block (1,0,0)"},
		"warpgroup_divergence": {"warpgroup 0 of block (0,0,0) diverges: wgmma_wait at "},
	} {
		for copies := range 2 {
			says := says[min(copies, len(says)-1)]
			if says == nothing {
				continue
			}
			t.Run(fmt.Sprint(name, " copies=", copies), func(t *testing.T) {
				dev := open(t, true)
				set(t, "copies", copies)
				m, text := load(t, dev, "bugs_sm90.cu", true)
				s := must(dev.NewStream())(t)
				x := upload(t, dev, s, make([]uint16, 256*64))
				maps := must(dev.Encode([]cuda.TensorMap{{Extents: [4]int{64, 256, 1}, Strides: [3]int{128, 128 * 256}, Box: [3]int{64, 64, 1}, Steps: [4]int{1, 1, 1}, Swizzle: 128}}, x))(t)
				out := must(dev.Alloc(1 << 16))(t)
				blocks := 1
				if strings.HasPrefix(name, "partner") {
					blocks = 2
				}
				err := launch(t, m, s, name, [3]int{blocks, 1, 1}, [3]int{256, 1, 1}, 16384+32, maps, out)
				if err == nil {
					t.Fatal("no error")
				}
				line := 1 + strings.Count(text[:strings.Index(text, "bug: "+name)], "\n")
				for _, want := range []string{"kernel " + name + ": ", says, fmt.Sprintf("bugs_sm90.cu:%d", line)} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%v\nwant it to say %q", err, want)
					}
				}
			})
		}
	}
}

// TestProducts multiplies operands that lie as the PTX manual says, in lines of
// each length along k and across it.
func TestProducts(t *testing.T) {
	for _, checked := range []bool{false, true} {
		dev := open(t, checked)
		set(t, "copies", 2)
		m, text := load(t, dev, "sound_sm90.cu", checked)
		s := must(dev.NewStream())(t)
		for _, line := range strings.Split(text, "\n") {
			var span, n int
			var a, b string
			if !strings.HasPrefix(line, "PRODUCTS(") {
				continue
			}
			if _, err := fmt.Sscanf(strings.NewReplacer("(", " ", ",", "", ")", "").Replace(line), "PRODUCTS %d %s %s %d", &span, &a, &b, &n); err != nil {
				t.Fatal(line, err)
			}
			var x []uint16
			for _, v := range floats((64 + n) * 64) {
				x = append(x, bf16(v))
			}
			d := must(dev.Alloc(4 * 64 * n))(t)
			name := fmt.Sprint("products_", span, a, b, n)
			if err := launch(t, m, s, name, [3]int{1, 1, 1}, [3]int{128, 1, 1}, 8192+2*n*64, upload(t, dev, s, x[:64*64]), upload(t, dev, s, x[64*64:]), d); err != nil {
				t.Fatal(err)
			}
			for i, got := range download[float32](t, s, d, 64*n) {
				want, abs := dot(x[i/n*64:][:64], x[64*64+i%n*64:][:64])
				if math.Abs(float64(got)-want) > 1e-6*abs {
					t.Fatalf("%s: element %d is %v, want %v", name, i, got, want)
				}
			}
		}
	}
}

// TestTensorCopies copies boxes and pixels, within tensors and across their edges.
func TestTensorCopies(t *testing.T) {
	const images, height, width, channels = 3, 5, 6, 24
	x := make([]uint16, images*height*width*channels)
	for i := range x {
		x[i] = uint16(i + 1)
	}
	at := func(n, h, w, c int) uint16 { // 0 outside
		if n < 0 || n >= images || h < 0 || h >= height || w < 0 || w >= width || c < 0 || c >= channels {
			return 0
		}
		return x[((n*height+h)*width+w)*channels+c]
	}
	dev := open(t, true)
	m, _ := load(t, dev, "sound_sm90.cu", true)
	s := must(dev.NewStream())(t)
	p, out := upload(t, dev, s, x), must(dev.Alloc(1<<15))(t)
	compare := func(what string, got, want []uint16) {
		t.Helper()
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%s: element %d is %d, want %d", what, i, got[i], want[i])
			}
		}
	}

	const rows, planes = 4, 2 // of 32 channels
	tile := cuda.TensorMap{Extents: [4]int{channels, width, height * images}, Strides: [3]int{2 * channels, 2 * channels * width},
		Box: [3]int{32, rows, planes}, Steps: [4]int{1, 1, 1}, Swizzle: 64}
	for _, begin := range [][3]int{{0, 0, 0}, {0, -1, 3}, {8, 4, 13}, {16, 5, 14}} {
		if err := launch(t, m, s, "tile_64", [3]int{1, 1, 1}, [3]int{128, 1, 1}, 32768+8, must(dev.Encode([]cuda.TensorMap{tile}, p))(t), out,
			uint32(rows*planes), int32(begin[0]), int32(begin[1]), int32(begin[2])); err != nil {
			t.Fatal(err)
		}
		var want []uint16
		for i := range rows * planes * 32 {
			c, w, h := begin[0]+i%32, begin[1]+i/32%rows, begin[2]+i/32/rows
			if h < height*images {
				want = append(want, at(h/height, h%height, w, c))
			} else {
				want = append(want, 0)
			}
		}
		compare(fmt.Sprint("tile at ", begin), download[uint16](t, s, out, len(want)), want)
	}

	// Each of a pair of blocks brings half of what both get: an image's first line.
	lines := cuda.TensorMap{Extents: [4]int{channels, width, images}, Strides: [3]int{2 * channels, 2 * channels * width * height}, Box: [3]int{32, 8, 1}, Steps: [4]int{1, 1, 1}, Swizzle: 64}
	line := cuda.TensorMap{Pixels: true, Extents: [4]int{channels, width, height, images}, Strides: [3]int{2 * channels, 2 * channels * width, 2 * channels * width * height},
		Box: [3]int{32, 8}, Steps: [4]int{1, 1, 1, 1}, Swizzle: 64}
	for copies := range 2 {
		set(t, "copies", copies)
		if err := launch(t, m, s, "halves", [3]int{4, 1, 1}, [3]int{128, 1, 1}, 32768+8, must(dev.Encode([]cuda.TensorMap{lines}, p))(t), must(dev.Encode([]cuda.TensorMap{line}, p))(t), out, uint32(8)); err != nil {
			t.Fatal(err)
		}
		var want []uint16
		for i := range 4 * 4 * 8 * 32 {
			c, w, n := i%32, i/32%8, i/256%4
			switch {
			case n < 2: // a tile ends with its line, pixels go on with the next one
				want = append(want, at(n, 0, w, c))
			default:
				want = append(want, at(n-2, w/width, w%width, c))
			}
		}
		compare(fmt.Sprint("halves, copies=", copies), download[uint16](t, s, out, len(want)), want)
	}

	for _, g := range []struct{ taps, stride, pad, dilation int }{{3, 1, 1, 1}, {3, 2, 1, 1}, {1, 2, 0, 1}, {3, 1, 2, 2}, {2, 3, 0, 1}} {
		extent := func(in int) int { return (in+2*g.pad-(g.taps-1)*g.dilation-1)/g.stride + 1 }
		down, across := extent(height), extent(width)
		const count = 21
		pixels := cuda.TensorMap{Pixels: true, Extents: [4]int{channels, width, height, images}, Strides: [3]int{2 * channels, 2 * channels * width, 2 * channels * width * height},
			Box: [3]int{16, count}, Steps: [4]int{1, g.stride, g.stride, 1}, Lower: [2]int{-g.pad, -g.pad},
			Upper: [2]int{g.pad - (g.taps-1)*g.dilation, g.pad - (g.taps-1)*g.dilation}, Swizzle: 32}
		maps := must(dev.Encode([]cuda.TensorMap{pixels, pixels}, p))(t)
		for first := 0; first < images*down*across; first += 13 {
			for tap := range g.taps * g.taps {
				n, h, w := first/(down*across), first/across%down*g.stride-g.pad, first%across*g.stride-g.pad
				r, q := tap/g.taps*g.dilation, tap%g.taps*g.dilation
				if err := launch(t, m, s, "pixels_32", [3]int{1, 1, 1}, [3]int{128, 1, 1}, 32768+8, maps, out, uint32(count), int32(16), int32(w), int32(h), int32(n), uint32(q), uint32(r)); err != nil {
					t.Fatal(err)
				}
				var want []uint16
				for i := range count * 16 {
					k := first + i/16
					want = append(want, at(k/(down*across), k/across%down*g.stride-g.pad+r, k%across*g.stride-g.pad+q, 16+i%16))
				}
				compare(fmt.Sprint(g, " from ", first, " tap ", tap), download[uint16](t, s, out, len(want)), want)
			}
		}
	}
}

// TestTensorMaps asks for maps that the driver does not make.
func TestTensorMaps(t *testing.T) {
	dev := open(t, false)
	p := must(dev.Alloc(1 << 16))(t)
	sound := cuda.TensorMap{Pixels: true, Extents: [4]int{32, 8, 8, 4}, Strides: [3]int{64, 64 * 8, 64 * 64}, Box: [3]int{32, 64}, Steps: [4]int{1, 1, 1, 1}, Swizzle: 64}
	for what, change := range map[string]func(m *cuda.TensorMap, at *cuda.Ptr){
		"sound":                 nil,
		"channels":              func(m *cuda.TensorMap, _ *cuda.Ptr) { m.Strides[0] = 72 },
		"address":               func(_ *cuda.TensorMap, at *cuda.Ptr) { *at += 8 },
		"beyond the allocation": func(m *cuda.TensorMap, _ *cuda.Ptr) { m.Extents[3] = 100 },
		"corner":                func(m *cuda.TensorMap, _ *cuda.Ptr) { m.Lower[0] = -129 },
		"empty":                 func(m *cuda.TensorMap, _ *cuda.Ptr) { m.Upper[1] = -8 },
		"step":                  func(m *cuda.TensorMap, _ *cuda.Ptr) { m.Steps[1] = 9 },
		"pixels":                func(m *cuda.TensorMap, _ *cuda.Ptr) { m.Box[1] = 1025 },
		"swizzle":               func(m *cuda.TensorMap, _ *cuda.Ptr) { m.Box[0] = 16 },
		"box": func(m *cuda.TensorMap, _ *cuda.Ptr) {
			*m = cuda.TensorMap{Extents: [4]int{32, 64, 4}, Strides: [3]int{64, 64 * 64}, Box: [3]int{32, 257, 1}, Steps: [4]int{1, 1, 1}, Swizzle: 64}
		},
	} {
		m, at := sound, p
		if change != nil {
			change(&m, &at)
		}
		if _, err := dev.Encode([]cuda.TensorMap{m}, at); (err == nil) != (change == nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
	set(t, "capability", 80)
	defer set(t, "capability", 90)
	if _, err := dev.Encode([]cuda.TensorMap{sound}, p); err == nil || !strings.Contains(err.Error(), "cuTensorMapEncode: CUDA_ERROR_INVALID_VALUE") {
		t.Errorf("on sm_80: %v", err)
	}
}

// TestEarly launches kernels before the one before them has ended: those that
// wait for their turn first are right, the others are caught.
func TestEarly(t *testing.T) {
	for _, checked := range []bool{true, false} {
		t.Run(fmt.Sprint("checked=", checked), func(t *testing.T) { testEarly(t, checked) })
	}
}

func testEarly(t *testing.T, checked bool) {
	dev := open(t, checked)
	m, text := load(t, dev, "bugs_sm90.cu", checked)
	x := make([]uint16, 256*64)
	for name, says := range map[string]string{
		"turns":                         "",
		"reads_before_its_turn":         "read of global memory before wait_for_turn, while the kernel before this one may still run, ",
		"writes_before_its_turn":        "write of global memory before wait_for_turn, ",
		"copies_before_its_turn":        "copy_tile before wait_for_turn, ",
		"copies_chunks_before_its_turn": "cp.async before wait_for_turn, ",
		"never_waits_for_its_turn":      "thread 0 of block (0,0,0) ends without wait_for_turn: ",
	} {
		t.Run(name, func(t *testing.T) {
			set(t, "reset", 1)
			s := must(dev.NewStream())(t)
			maps := must(dev.Encode([]cuda.TensorMap{{Extents: [4]int{64, 256, 1}, Strides: [3]int{128, 128 * 256}, Box: [3]int{64, 64, 1}, Steps: [4]int{1, 1, 1}, Swizzle: 128}}, upload(t, dev, s, x)))(t)
			out := upload(t, dev, s, make([]float32, 1<<14))
			first := must(must(m.Function("turns"))(t).Prepare([3]int{1, 1, 1}, [3]int{256, 1, 1}, 16384+32, maps, out))(t)
			second := must(must(m.Function(name))(t).Prepare([3]int{1, 1, 1}, [3]int{256, 1, 1}, 16384+32, maps, out))(t)
			defer first.Close()
			defer second.Close()
			second.Early()
			if err := s.Synchronize(); err != nil {
				t.Fatal(err)
			}
			err := s.Launch(first)
			if err == nil {
				err = s.Launch(second)
			}
			if err == nil {
				err = s.Synchronize()
			}
			switch {
			case says == "" || !checked && strings.Contains(says, " of global memory "): // accesses are seen in checked mode alone
				if err != nil {
					t.Error(err)
				}
			case err == nil || !strings.Contains(err.Error(), "kernel "+name+": ") || !strings.Contains(err.Error(), says):
				t.Errorf("%v\nwant it to say %q", err, says)
			case strings.Contains(text, "bug: "+name):
				line := 1 + strings.Count(text[:strings.Index(text, "bug: "+name)], "\n")
				if want := fmt.Sprintf("bugs_sm90.cu:%d", line); !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nwant it to say %q", err, want)
				}
			}
		})
	}
}

// A kernel that is to begin early has to stand behind a kernel, on a device that
// knows how.
func TestEarlyBehind(t *testing.T) {
	dev := open(t, false)
	m, _ := load(t, dev, "bugs_sm90.cu", false)
	s := must(dev.NewStream())(t)
	out := must(dev.Alloc(1 << 16))(t)
	maps := must(dev.Encode([]cuda.TensorMap{{Extents: [4]int{64, 256, 1}, Strides: [3]int{128, 128 * 256}, Box: [3]int{64, 64, 1}, Steps: [4]int{1, 1, 1}, Swizzle: 128}}, out))(t)
	l := must(must(m.Function("turns"))(t).Prepare([3]int{1, 1, 1}, [3]int{256, 1, 1}, 16384+32, maps, out))(t)
	defer l.Close()
	l.Early()
	if err := s.Fill(out, 0, 1<<16); err != nil {
		t.Fatal(err)
	}
	if err := s.Launch(l); err == nil || !strings.Contains(err.Error(), "cuLaunchKernel turns: CUDA_ERROR_INVALID_VALUE") {
		t.Errorf("behind a fill: %v", err)
	}
	set(t, "capability", 80)
	defer set(t, "capability", 90)
	if err := s.Synchronize(); err != nil {
		t.Fatal(err)
	}
	if err := s.Launch(l); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_INVALID_VALUE") {
		t.Errorf("on sm_80: %v", err)
	}
}
