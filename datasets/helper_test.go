package datasets

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"temper/engine/rng"
)

// realData returns the folder of real data. Without one it skips the test, or
// fails it where TEMPER_REQUIRE lists "data".
func realData(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("TEMPER_DATA")
	if dir == "" {
		if slices.Contains(strings.Split(os.Getenv("TEMPER_REQUIRE"), ","), "data") {
			t.Fatal("TEMPER_REQUIRE lists data, but TEMPER_DATA is not set")
		}
		t.Skip("TEMPER_DATA is not set")
	}
	return dir
}

// wantError checks that err is one line that contains want; "" wants no error.
func wantError(t testing.TB, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("unexpected error: %v", err)
	case want == "":
	case err == nil:
		t.Errorf("no error, want one with %q", want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("error %q, want one with %q", err, want)
	case strings.Contains(err.Error(), "\n"):
		t.Errorf("error of several lines: %q", err)
	}
}

// noise returns n bytes that do not compress; fewer are the beginning of more.
func noise(n int) []byte {
	s := rng.NewStream(1, "test", 0)
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.Uint32())
	}
	return b
}

// idx encodes data as an IDX file of unsigned bytes.
func idx(data []byte, dims ...int) []byte {
	b := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, uint32(d))
	}
	return append(b, data...)
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// edit returns a copy of b with byte i set to v.
func edit(b []byte, i int, v byte) []byte {
	c := slices.Clone(b)
	c[i] = v
	return c
}

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }
