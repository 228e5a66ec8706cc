package main

import (
	"archive/zip"
	"bytes"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"temper/datasets"
)

// TestDamagedData trains on files that break off or lie: one line, naming the
// file, and no run folder.
func TestDamagedData(t *testing.T) {
	real := realData(t)
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(real, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	mnist := map[string][]byte{}
	for _, name := range []string{"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"} {
		mnist["mnist/"+name] = read("mnist/" + name)
	}
	without := func(name string, cut int) map[string][]byte {
		files := map[string][]byte{}
		for k, v := range mnist {
			files[k] = v
		}
		files[name] = files[name][:len(files[name])-cut]
		return files
	}
	batch := read("cifar-10-batches-bin/test_batch.bin")
	cifar := func(damage func(b []byte) []byte) map[string][]byte {
		files := map[string][]byte{}
		for _, name := range []string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"} {
			files["cifar-10-batches-bin/"+name] = batch
		}
		files["cifar-10-batches-bin/data_batch_1.bin"] = damage(bytes.Clone(batch))
		return files
	}
	for _, c := range []struct {
		name, dataset string
		files         map[string][]byte
		want          []string
	}{
		{"idx images break off", "mnist", without("mnist/train-images-idx3-ubyte.gz", 5000), []string{"data/mnist: images: truncated", "temper data fetch mnist"}},
		{"idx labels break off", "mnist", without("mnist/train-labels-idx1-ubyte.gz", 100), []string{"mnist", "temper data fetch mnist"}},
		{"bin breaks off", "cifar10", cifar(func(b []byte) []byte { return b[:len(b)-1000] }), []string{"cifar-10-batches-bin: file 1 of 5, record 9999: truncated", "temper data fetch cifar10"}},
		{"wrong label", "cifar10", cifar(func(b []byte) []byte { b[3073*7] = 10; return b }), []string{"file 1 of 5, record 7: label 10 is outside 0..9"}},
		{"mat breaks off", "svhn", map[string][]byte{
			"svhn/train_32x32.mat": read("svhn-subset/official_train_32x32.mat.first2686976bytes"),
			"svhn/test_32x32.mat":  read("svhn-subset/test_32x32.mat"),
		}, []string{"train_32x32.mat", "1083"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, b := range c.files {
				path := filepath.Join(dir, "data", name)
				if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, b, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			o := temper(t, dir, nil, "train", "--dataset", c.dataset, "--data-dir", "data")
			if o.code != 1 || strings.Count(o.stderr, "\n") != 1 || o.stdout != "" || exists(filepath.Join(dir, "runs")) {
				t.Errorf("%+v", o)
			}
			for _, want := range c.want {
				if !strings.Contains(o.stderr, want) {
					t.Errorf("stderr %q lacks %q", o.stderr, want)
				}
			}
		})
	}
}

// TestSVHN trains on the real subset of SVHN, evaluates, and checks the saved
// adversarial examples against ε.
func TestSVHN(t *testing.T) {
	env := []string{"TEMPER_DATA=" + realData(t)}
	dir := t.TempDir()
	must(t, dir, env, "train", "--dataset", "svhn", "--limit", "200", "--epochs", "1", "--eps", "4/255", "--set", "eval.limit=20", "--set", "model.width=8")
	o := must(t, dir, env, "eval", "latest", "--limit", "60", "--steps", "3")
	if !strings.Contains(o.stdout, "all        60") || !strings.Contains(o.stdout, "under PGD-3, L∞ 4/255, step 2/255, loss ce") {
		t.Errorf("stdout %s", o.stdout)
	}
	must(t, dir, env, "attack", "latest", "--limit", "30", "--steps", "3", "--save", "adv.npz")
	arrays := readNPZ(t, filepath.Join(dir, "adv.npz"))
	x, adv := arrays["x"].Data.([]uint8), arrays["x_adv"].Data.([]float32)
	if len(x) != 30*3*32*32 || len(adv) != len(x) || len(arrays["y"].Data.([]int32)) != 30 {
		t.Fatalf("%d, %d", len(x), len(adv))
	}
	const image = 3 * 32 * 32
	moved := make([]int, 30) // elements of each example
	for i, v := range adv {
		d := math.Abs(float64(v) - float64(x[i])/255)
		if d > 4.0/255*(1+1e-5) || v < 0 || v > 1 {
			t.Fatalf("element %d is %v, from %d", i, v, x[i])
		}
		if d > 1e-3 {
			moved[i/image]++
		}
	}
	attacked := 0 // an example that is wrong already stays as it is
	for i, n := range moved {
		if n > 0 {
			attacked++
		}
		if n > 0 && n < image/2 {
			t.Errorf("example %d: only %d of %d elements moved", i, n, image)
		}
	}
	if attacked < 3 {
		t.Errorf("only %d of 30 examples were attacked", attacked)
	}
}

func readNPZ(t *testing.T, path string) map[string]datasets.Array {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	arrays := map[string]datasets.Array{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if arrays[strings.TrimSuffix(f.Name, ".npy")], err = datasets.ReadNPY(r); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	return arrays
}

// TestOwnData trains on an .npz file.
func TestOwnData(t *testing.T) {
	dir := t.TempDir()
	images := func(n int) datasets.Array {
		x := make([]uint8, n*8*8)
		for i := range x {
			x[i] = uint8(i / 64 % 2 * 200)
		}
		return datasets.Array{Shape: []int{n, 8, 8}, Data: x}
	}
	labels := func(n int) datasets.Array {
		y := make([]int64, n)
		for i := range y {
			y[i] = int64(i % 2)
		}
		return datasets.Array{Shape: []int{n}, Data: y}
	}
	err := datasets.SaveNPZ(filepath.Join(dir, "own.npz"), datasets.NamedArray{Name: "x_train", Array: images(64)}, datasets.NamedArray{Name: "y_train", Array: labels(64)},
		datasets.NamedArray{Name: "x_test", Array: images(20)}, datasets.NamedArray{Name: "y_test", Array: labels(20)})
	if err != nil {
		t.Fatal(err)
	}
	o := must(t, dir, nil, "train", "--dataset", "npz:own.npz", "--epochs", "6", "--batch-size", "16", "--eps", "0.1", "--set", "model.width=4")
	if !strings.Contains(o.stdout, "pgd-at   100.0 %") {
		t.Errorf("stdout %s", o.stdout)
	}
	must(t, dir, nil, "eval", "latest")
}

// TestFetch downloads MNIST from a server of its own and verifies it; a file
// that is not the published one is named.
func TestFetch(t *testing.T) {
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(realData(t), "mnist"))))
	defer server.Close()
	dir := t.TempDir()
	o := must(t, dir, nil, "data", "fetch", "mnist", "--data-dir", "data", "--mirror", server.URL+"/")
	if o.stdout != "mnist is complete in "+filepath.Join(dir, "data")+"\n" || !strings.Contains(o.stderr, "MNIST (LeCun, Cortes, Burges): CC BY-SA 3.0.\n") ||
		!strings.Contains(o.stderr, "fetching train-images-idx3-ubyte.gz, 9912422 bytes\n") {
		t.Errorf("%+v", o)
	}
	golden(t, "data-fetch", dir, o)
	golden(t, "data-verify", dir, must(t, dir, nil, "data", "verify", "--data-dir", "data"))
	golden(t, "reproduce", dir, must(t, dir, append(portable, "TEMPER_DATA=data"), "reproduce", "mnist-fast", "--seeds", "1", "--dry-run"))
	labels := filepath.Join(dir, "data", "mnist", "t10k-labels-idx1-ubyte.gz")
	if err := os.WriteFile(labels, flipped(file(labels)), 0o666); err != nil {
		t.Fatal(err)
	}
	o = temper(t, dir, nil, "data", "verify", "mnist", "--data-dir", "data")
	if o.code != 1 || !strings.Contains(o.stdout, "differs") || !strings.Contains(o.stderr, labels) {
		t.Errorf("%+v", o)
	}
	o = temper(t, dir, nil, "data", "fetch", "mnist", "--data-dir", "elsewhere", "--mirror", "http://127.0.0.1:1/")
	if o.code != 1 || strings.Count(o.stderr, "temper: ") != 1 {
		t.Errorf("%+v", o)
	}
}
