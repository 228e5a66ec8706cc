package datasets

import (
	"fmt"
	"slices"
	"strings"
)

// File is one published file.
type File struct {
	Name  string
	Bytes int64
	// SHA256 is the published hash in hexadecimal; empty where none is known.
	SHA256 string
	// Optional files are fetched only when all are asked for.
	Optional bool
}

// Known describes a published set: where its files come from and what they are.
type Known struct {
	Name   string // as given to Open
	Title  string
	Folder string // the folder of its files, under the data folder
	// Torchvision is where torchvision leaves the same images under its root, which
	// [Open] reads where Folder is not there.
	Torchvision string
	Files       []File
	// Archive is the tar.gz that the files are published in, nil where they are
	// published one by one. It unpacks into Folder.
	Archive *File
	Mirrors []string // base URLs, in the order in which they are tried
	Terms   string   // licence and citation, as the owners state them

	info func(split Split) Info
	open func(files opener, split Split) (*Set, error)
}

// The licences and citations, as the owners state them.
const (
	mnistTerms = "MNIST (LeCun, Cortes, Burges): CC BY-SA 3.0."
	cifarTerms = "(Krizhevsky, Nair, Hinton): no licence stated; the owners ask to cite Krizhevsky, \"Learning Multiple Layers of Features from Tiny Images\", 2009."
	svhnTerms  = "SVHN: for non-commercial use only; cite Netzer, Wang, Coates, Bissacco, Wu, Ng, \"Reading Digits in Natural Images with Unsupervised Feature Learning\", NIPS workshop 2011."
)

var catalog = []Known{
	{
		Name: "mnist", Title: "MNIST handwritten digits, 28x28 grey, 10 classes, 60,000 + 10,000",
		Folder: "mnist", Torchvision: "MNIST/raw",
		Files: []File{
			{Name: "train-images-idx3-ubyte.gz", Bytes: 9912422, SHA256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"},
			{Name: "train-labels-idx1-ubyte.gz", Bytes: 28881, SHA256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"},
			{Name: "t10k-images-idx3-ubyte.gz", Bytes: 1648877, SHA256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"},
			{Name: "t10k-labels-idx1-ubyte.gz", Bytes: 4542, SHA256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"},
		},
		Mirrors: []string{
			"https://ossci-datasets.s3.amazonaws.com/mnist/",
			"https://storage.googleapis.com/cvdf-datasets/mnist/",
			"http://yann.lecun.com/exdb/mnist/",
		},
		Terms: mnistTerms,
		info:  mnistInfo,
		open:  openMNIST,
	},
	{
		Name: "cifar10", Title: "CIFAR-10 tiny images, 32x32 colour, 10 classes, 50,000 + 10,000",
		Folder: "cifar-10-batches-bin", Torchvision: "cifar-10-batches-py",
		Files: []File{
			{Name: "data_batch_1.bin", Bytes: 30730000, SHA256: "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"},
			{Name: "data_batch_2.bin", Bytes: 30730000, SHA256: "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"},
			{Name: "data_batch_3.bin", Bytes: 30730000, SHA256: "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"},
			{Name: "data_batch_4.bin", Bytes: 30730000, SHA256: "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"},
			{Name: "data_batch_5.bin", Bytes: 30730000, SHA256: "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"},
			{Name: "test_batch.bin", Bytes: 30730000, SHA256: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"},
		},
		Archive: &File{Name: "cifar-10-binary.tar.gz", Bytes: 170052171, SHA256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
		Mirrors: []string{"https://www.cs.toronto.edu/~kriz/"},
		Terms:   "CIFAR-10 " + cifarTerms,
		info:    cifar10Info,
		open: func(files opener, split Split) (*Set, error) {
			names := []string{"test_batch.bin"}
			if split == Train {
				names = []string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"}
			}
			return openCIFAR(files, names, split, "labels", DecodeCIFAR10)
		},
	},
	{
		Name: "cifar100", Title: "CIFAR-100 tiny images, 32x32 colour, 100 classes, 50,000 + 10,000",
		Folder: "cifar-100-binary", Torchvision: "cifar-100-python",
		// No hash of the members is published; the archive's covers them.
		Files: []File{
			{Name: "train.bin", Bytes: 153700000},
			{Name: "test.bin", Bytes: 30740000},
		},
		Archive: &File{Name: "cifar-100-binary.tar.gz", Bytes: 168513733, SHA256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"},
		Mirrors: []string{"https://www.cs.toronto.edu/~kriz/"},
		Terms:   "CIFAR-100 " + cifarTerms,
		info:    cifar100Info,
		open: func(files opener, split Split) (*Set, error) {
			return openCIFAR(files, []string{string(split) + ".bin"}, split, "fine_labels", DecodeCIFAR100)
		},
	},
	{
		Name: "svhn", Title: "SVHN street-view house numbers, 32x32 colour, 10 classes, 73,257 + 26,032 (+ 531,131 extra)",
		Folder: "svhn", Torchvision: ".",
		Files: []File{
			{Name: "train_32x32.mat", Bytes: 182040794, SHA256: "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"},
			{Name: "test_32x32.mat", Bytes: 64275384, SHA256: "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"},
			{Name: "extra_32x32.mat", Bytes: 1329278602, SHA256: "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3", Optional: true},
		},
		Mirrors: []string{
			"http://ufldl.stanford.edu/housenumbers/",
			"https://ufldl.stanford.edu/housenumbers/",
		},
		Terms: svhnTerms,
		info:  svhnInfo,
		open:  openSVHN,
	},
}

// published holds the number of examples of each published split.
var published = map[string]map[Split]int{
	"mnist":    {Train: 60000, Test: 10000},
	"cifar10":  {Train: 50000, Test: 10000},
	"cifar100": {Train: 50000, Test: 10000},
	"svhn":     {Train: 73257, Test: 26032, Extra: 531131},
}

func mnistInfo(split Split) Info {
	return Info{Name: "mnist", Split: split, Channels: 1, Height: 28, Width: 28,
		Classes: numbered(10), Published: published["mnist"][split], Terms: mnistTerms}
}

func cifar10Info(split Split) Info {
	return Info{Name: "cifar10", Split: split, Channels: 3, Height: 32, Width: 32,
		Classes: strings.Fields(cifar10Classes), Published: published["cifar10"][split], Terms: "CIFAR-10 " + cifarTerms}
}

func cifar100Info(split Split) Info {
	return Info{Name: "cifar100", Split: split, Channels: 3, Height: 32, Width: 32,
		Classes: strings.Fields(cifar100Classes), Published: published["cifar100"][split], Terms: "CIFAR-100 " + cifarTerms}
}

func svhnInfo(split Split) Info {
	return Info{Name: "svhn", Split: split, Channels: 3, Height: 32, Width: 32,
		Classes: numbered(10), Published: published["svhn"][split], Terms: svhnTerms}
}

const cifar10Classes = "airplane automobile bird cat deer dog frog horse ship truck"

const cifar100Classes = `
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle
bowl boy bridge bus butterfly camel can castle caterpillar cattle
chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket
rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm`

// List describes the published sets.
func List() []Known { return slices.Clone(catalog) }

// Lookup returns the published set of a name. The error for an unknown name
// lists the nearest known ones.
func Lookup(name string) (Known, error) {
	for _, k := range catalog {
		if k.Name == name {
			return k, nil
		}
	}
	names := []string{structuredName}
	for _, k := range catalog {
		names = append(names, k.Name)
	}
	var near []string
	for _, n := range names {
		if editDistance(strings.ToLower(name), n) <= 2 {
			near = append(near, n)
		}
	}
	hint := ""
	if len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return Known{}, fmt.Errorf("unknown dataset %q%s (known: %s, npz:FILE)", name, hint, strings.Join(names, ", "))
}

// editDistance is the number of insertions, deletions and replacements of a
// byte that turn a into b (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
