package kernel

import (
	"testing"

	"temper/engine/rng"
)

func TestTranspose(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		fence, s := newFence[float32](t), rng.NewStream(1, "transpose", 0)
		for _, c := range []struct{ rows, cols, ld int }{
			{1, 1, 1}, {9, 512, 9}, {512, 9, 512}, {8, 8, 8}, {7, 23, 10}, {25, 64, 25}, {33, 17, 40}, {3, 5, 3}, {100, 8, 100},
		} {
			src := fence.copy(random[float32](s, (c.cols-1)*c.ld+c.rows))
			dst := fence.new(c.rows * c.cols)
			Transpose(dst, src, c.rows, c.cols, c.ld)
			for i := range c.rows {
				for j := range c.cols {
					if got, want := dst[i*c.cols+j], src[j*c.ld+i]; got != want {
						t.Fatalf("%+v: element %d,%d is %v, want %v", c, i, j, got, want)
					}
				}
			}
		}
	})
}
