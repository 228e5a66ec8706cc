package datasets

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOpenNames(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, split, err string }{
		{"cifar-10", "train", `unknown dataset "cifar-10"; did you mean cifar10 or cifar100? (known: structured, mnist, cifar10, cifar100, svhn, npz:FILE)`},
		{"MNIST", "train", `did you mean mnist?`},
		{"imagenet", "train", `unknown dataset "imagenet" (known:`},
		{"mnist", "extra", `mnist has no split "extra"`},
		{"mnist", "train", "mnist: train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz not found in " + filepath.Join(dir, "mnist") + "; get it with: temper data fetch mnist"},
		{"svhn", "extra", "svhn: extra_32x32.mat not found"},
		{"cifar100", "test", "cifar100: test.bin not found"},
		{"structured", "extra", `structured has no split "extra"`},
		{"npz:" + filepath.Join(dir, "none.npz"), "train", "no such file"},
	} {
		_, err := Open(c.name, dir, Split(c.split), Options{Structured: DefaultStructured()})
		wantError(t, err, c.err)
	}
	_, err := Open("cifar10", dir, Train, Options{})
	var missing *MissingError
	if !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) || len(missing.Files) != 5 {
		t.Errorf("error %v, want a MissingError of five files", err)
	}
}

// What is told without the files is what the files hold.
func TestDescribe(t *testing.T) {
	for _, k := range List() {
		in, err := Describe(k.Name, t.TempDir(), Test, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if in.Name != k.Name || in.Split != Test || len(in.Classes) < 10 || in.Published == 0 {
			t.Errorf("%s without files: %+v", k.Name, in)
		}
	}
	_, err := Describe("npz:"+filepath.Join(t.TempDir(), "none.npz"), "", Train, Options{})
	wantError(t, err, "no such file")
	set, err := Open("mnist", realData(t), Test, Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := Describe("mnist", t.TempDir(), Test, Options{})
	if d := cmp.Diff(set.Info(), in); err != nil || d != "" {
		t.Errorf("mnist: %v\n%s", err, d)
	}
}

func TestOpenStructured(t *testing.T) {
	s, err := Open("structured", "", Test, Options{Seed: 4})
	if err != nil {
		t.Fatal(err)
	}
	_, want, _ := DefaultStructured().Generate(4)
	if !slices.Equal(s.Values().F32, want.Values().F32) {
		t.Error("Open and Generate differ")
	}
}

// A training set of one folder and a test set of the other would overlap: the
// subset's test images are official training images.
func TestOpenNeverMixesSVHNWithItsSubset(t *testing.T) {
	dir := t.TempDir()
	file := join(little.header("IM"), little.x(noise(2*svhnPixels)), little.y([]byte{1, 2}))
	put := func(folder, name string) {
		os.MkdirAll(filepath.Join(dir, folder), 0o755)
		os.WriteFile(filepath.Join(dir, folder, name), file, 0o644)
	}
	put("svhn-subset", "test_32x32.mat")
	if _, err := Open("svhn", dir, Test, Options{}); err != nil {
		t.Error(err)
	}
	svhn, _ := Lookup("svhn")
	if !Partial(svhn, dir) {
		t.Error("the subset is not a part")
	}
	put("svhn", "train_32x32.mat")
	if Partial(svhn, dir) {
		t.Error("the published folder is a part")
	}
	_, err := Open("svhn", dir, Test, Options{})
	wantError(t, err, "svhn: test_32x32.mat not found in "+filepath.Join(dir, "svhn"))
}

func TestOpenDamagedFileNamesIt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "svhn", "test_32x32.mat")
	os.Mkdir(filepath.Dir(path), 0o755)
	os.WriteFile(path, []byte("<html>"), 0o644)
	_, err := Open("svhn", dir, Test, Options{})
	wantError(t, err, path+": truncated: the header has 6 of 128 bytes; move it away and get it again with: temper data fetch svhn")
}

func TestOpenPlainMNIST(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "mnist"), 0o755)
	os.WriteFile(filepath.Join(dir, "mnist", "t10k-images-idx3-ubyte"), idx(noise(784), 1, 28, 28), 0o644)
	os.WriteFile(filepath.Join(dir, "mnist", "t10k-labels-idx1-ubyte.gz"), gz(idx([]byte{5}, 1)), 0o644)
	s, err := Open("mnist", dir, Test, Options{})
	if err != nil || s.Len() != 1 || s.Label(0) != 5 {
		t.Errorf("%v, %v", s, err)
	}
}

// What is known of the published sets, counted by many before.
func TestRealData(t *testing.T) {
	dir := realData(t)
	for _, c := range []struct {
		name  string
		split Split
		count []int
		mean  []float64 // of each channel, over 255
	}{
		{"mnist", Train, []int{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949}, []float64{0.1307}},
		{"mnist", Test, []int{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009}, []float64{0.1325}},
		{"cifar10", Train, slices.Repeat([]int{5000}, 10), []float64{0.4914, 0.4822, 0.4465}},
		{"cifar10", Test, slices.Repeat([]int{1000}, 10), []float64{0.4942, 0.4851, 0.4504}},
	} {
		t.Run(c.name+" "+string(c.split), func(t *testing.T) {
			start := time.Now()
			s, err := Open(c.name, dir, c.split, Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("decoded in %v", time.Since(start))
			if s.Len() != s.Info().Published {
				t.Errorf("%d examples, want %d", s.Len(), s.Info().Published)
			}
			if n := histogram(s); !slices.Equal(n, c.count) {
				t.Errorf("label counts %v, want %v", n, c.count)
			}
			for ch, m := range channelMeans(s) {
				if math.Abs(m-c.mean[ch]) > 6e-5 {
					t.Errorf("mean of channel %d is %.4f, want %.4f", ch, m, c.mean[ch])
				}
			}
		})
	}
}

func histogram(s Source) []int {
	n := make([]int, len(s.Info().Classes))
	for i := range s.Len() {
		n[s.Label(i)]++
	}
	return n
}

func channelMeans(s *Set) []float64 {
	in := s.Info()
	sum := make([]float64, in.Channels)
	plane := in.Height * in.Width
	for i, v := range s.Values().U8 {
		sum[i/plane%in.Channels] += float64(v)
	}
	for c := range sum {
		sum[c] /= 255 * float64(s.Len()*plane)
	}
	return sum
}

func TestLookupListsWhatIsKnown(t *testing.T) {
	for _, k := range List() {
		if k.Terms == "" || len(k.Mirrors) == 0 || len(k.Files) == 0 {
			t.Errorf("%s lacks terms, mirrors or files", k.Name)
		}
		for _, m := range k.Mirrors {
			if !strings.HasSuffix(m, "/") {
				t.Errorf("mirror %s does not end with a slash", m)
			}
		}
		if _, err := Lookup(k.Name); err != nil {
			t.Error(err)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"mnist", "mnist", 0}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
