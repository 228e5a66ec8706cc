package datasets

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// put writes files under a folder.
func put(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// pickled is a file that cPickle of Python 2.7 with NumPy 1.16 wrote, as the
// published ones were: two images of bytes 7i mod 251, of the labels 3 and 7
// (CIFAR-100: 99 and 0; coarse 1 and 2).
func pickled(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What torchvision has downloaded is read where it lies: the same images and labels.
func TestTorchvision(t *testing.T) {
	dir := t.TempDir()
	ten, hundred := pickled(t, "cifar10.pickle"), pickled(t, "cifar100.pickle")
	files := map[string][]byte{"cifar-100-python/train": hundred, "cifar-100-python/test": hundred, "cifar-10-batches-py/test_batch": ten}
	for _, n := range []string{"1", "2", "3", "4", "5"} {
		files["cifar-10-batches-py/data_batch_"+n] = ten
	}
	for _, prefix := range []string{"train", "t10k"} { // unpacked, as torchvision leaves it
		files["MNIST/raw/"+prefix+"-images-idx3-ubyte"] = idx(noise(2*28*28), 2, 28, 28)
		files["MNIST/raw/"+prefix+"-labels-idx1-ubyte"] = idx([]byte{4, 9}, 2)
	}
	put(t, dir, files)
	images := make([]byte, 2*cifarPixels)
	for i := range images {
		images[i] = byte(i * 7 % 251)
	}
	for _, c := range []struct {
		name   string
		split  Split
		pixels []byte
		labels []int32
	}{
		{"cifar10", Train, bytes.Repeat(images, 5), []int32{3, 7, 3, 7, 3, 7, 3, 7, 3, 7}},
		{"cifar10", Test, images, []int32{3, 7}},
		{"cifar100", Train, images, []int32{99, 0}},
		{"mnist", Test, noise(2 * 28 * 28), []int32{4, 9}},
	} {
		set, err := Open(c.name, dir, c.split, Options{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var labels []int32
		for i := range set.Len() {
			labels = append(labels, set.Label(i))
		}
		if diff := cmp.Diff(c.labels, labels); diff != "" || !bytes.Equal(set.values.U8, c.pixels) {
			t.Errorf("%s %s: %s; %d bytes of images, want %d that are the same", c.name, c.split, diff, len(set.values.U8), len(c.pixels))
		}
	}
	for name, want := range map[string]bool{"mnist": true, "cifar10": true, "cifar100": true, "svhn": false} {
		k, err := Lookup(name)
		if err != nil || Present(k, dir) != want {
			t.Errorf("%s is present: %v, want %v; %v", name, !want, want, err)
		}
	}
	if states, err := Verify("cifar10", dir); err != nil || len(states) != 6 || states[5].State != Unknown || states[5].Path != filepath.Join(dir, "cifar-10-batches-py", "test_batch") {
		t.Errorf("verified: %+v, %v", states, err)
	}
	if states, err := Verify("mnist", dir); err != nil || len(states) != 4 || states[0].State != Unknown || states[0].Path != filepath.Join(dir, "MNIST/raw/train-images-idx3-ubyte") {
		t.Errorf("verified: %+v, %v", states, err)
	}
	// temper's own folder goes first, even if a file lacks there: sets are not mixed.
	put(t, dir, map[string][]byte{"mnist/t10k-images-idx3-ubyte": idx(noise(28*28), 1, 28, 28)})
	_, err := Open("mnist", dir, Test, Options{})
	wantError(t, err, "t10k-labels-idx1-ubyte.gz not found in "+filepath.Join(dir, "mnist"))
}

// Pickles that are not CIFAR's are refused in one line, whatever they are.
func TestTorchvisionRefuses(t *testing.T) {
	good := pickled(t, "cifar10.pickle")
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"cut off":       {good[:len(good)/2], "test_batch: file 1 of 1: it is no pickle of CIFAR: truncated: it has no end; move it away"},
		"empty":         {nil, "truncated: it has no end"},
		"no pickle":     {[]byte("hello"), "it is no pickle of CIFAR"},
		"another class": {bytes.Replace(good, []byte("numpy.core.multiarray\n_reconstruct"), []byte("os\nsystem"), 1), "a pickle of CIFAR has no os.system"},
		"another shape": {bytes.Replace(good, []byte("K\x02M\x00\x0c\x86"), []byte("K\x03M\x00\x0c\x86"), 1), "2 labels for an array of 3×3072 in 6144 bytes"},
		"a label":       {bytes.Replace(good, []byte("K\x03K\x07e"), []byte("K\x03K\x0ae"), 1), "label 10 is outside 0..9"},
		"another key":   {bytes.Replace(good, []byte("U\x06labels"), []byte("U\x06labelz"), 1), "it is no pickle of CIFAR"},
		"a huge string": {[]byte("\x80\x02T\xff\xff\xff\xffabc."), "it is no pickle of CIFAR"},
	} {
		dir := t.TempDir()
		files := map[string][]byte{"cifar-10-batches-py/test_batch": c.file}
		for _, n := range []string{"1", "2", "3", "4", "5"} {
			files["cifar-10-batches-py/data_batch_"+n] = good
		}
		put(t, dir, files)
		_, err := Open("cifar10", dir, Test, Options{})
		t.Run(name, func(t *testing.T) { wantError(t, err, c.want) })
	}
}
