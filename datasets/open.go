package datasets

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Options are what some sets need to be opened.
type Options struct {
	// Structured and Seed are the settings of the set "structured"; a zero
	// Structured stands for DefaultStructured.
	Structured Structured
	Seed       uint32
	// NPZ is for "npz:FILE".
	NPZ NPZ
}

// MissingError says which files of a published set are not there. It wraps
// fs.ErrNotExist.
type MissingError struct {
	Name   string   // of the set
	Folder string   // where the files should be
	Files  []string // those that are missing
}

// Error names the files, the folder and the command that fetches them.
func (e *MissingError) Error() string {
	return fmt.Sprintf("%s: %s not found in %s; get it with: temper data fetch %s",
		e.Name, strings.Join(e.Files, ", "), e.Folder, e.Name)
}

// Unwrap returns fs.ErrNotExist.
func (e *MissingError) Unwrap() error { return fs.ErrNotExist }

// Open reads a split of a set by name: a published one from dir (see [List]),
// "structured", or "npz:FILE" (see [OpenNPZ]). Files are decoded strictly but
// not hashed; [Verify] does that. Where they are missing, the error is a
// [*MissingError].
func Open(name, dir string, split Split, opt Options) (*Set, error) {
	if file, ok := strings.CutPrefix(name, "npz:"); ok {
		return OpenNPZ(file, split, opt.NPZ)
	}
	if name == structuredName {
		return openStructured(split, opt)
	}
	k, err := Lookup(name)
	if err != nil {
		return nil, err
	}
	if published[name][split] == 0 {
		return nil, fmt.Errorf("%s has no split %q", name, split)
	}
	return k.open(opener{k, dir}, split)
}

// Describe tells what Open would give, for a published set without its files, for
// own data whatever their SHA-256: what is needed to build a program for it.
func Describe(name, dir string, split Split, opt Options) (Info, error) {
	if k, err := Lookup(name); err == nil && published[name][split] > 0 {
		return k.info(split), nil
	}
	opt.NPZ.SHA256 = ""
	set, err := Open(name, dir, split, opt)
	if err != nil {
		return Info{}, err
	}
	return set.Info(), nil
}

func openStructured(split Split, opt Options) (*Set, error) {
	if opt.Structured == (Structured{}) {
		opt.Structured = DefaultStructured()
	}
	train, test, err := opt.Structured.Generate(opt.Seed)
	switch {
	case err != nil:
		return nil, err
	case split == Train:
		return train.Set, nil
	case split == Test:
		return test.Set, nil
	default:
		return nil, fmt.Errorf("structured has no split %q", split)
	}
}

// opener finds the files of one published set under a data folder.
type opener struct {
	known Known
	dir   string
}

// folder returns where the files lie, or should. A part of SVHN may lie in a
// folder of its own name; files of two folders are never mixed.
func (o opener) folder() string {
	switch k := o.known; {
	case Partial(k, o.dir):
		return filepath.Join(o.dir, partOfSVHN)
	case k.byTorchvision(o.dir):
		return filepath.Join(o.dir, k.Torchvision)
	}
	return filepath.Join(o.dir, o.known.Folder)
}

// byTorchvision reports whether a data folder has the set as torchvision leaves it,
// and not as temper fetches it.
func (k Known) byTorchvision(dir string) bool {
	if exists(filepath.Join(dir, k.Folder)) || exists(k.archivePath(dir)) {
		return false
	}
	return !slices.ContainsFunc(k.Files, func(f File) bool {
		path := filepath.Join(dir, k.Torchvision, torchvisionName(f.Name))
		return !f.Optional && !exists(path) && !exists(strings.TrimSuffix(path, ".gz"))
	})
}

// torchvisionName is what torchvision calls a file: it has CIFAR in pickles.
func torchvisionName(name string) string { return strings.TrimSuffix(name, ".bin") }

// Present reports whether the files of a set, its archive, or what torchvision has
// left of it, lie under a data folder.
func Present(k Known, dir string) bool {
	if exists(k.archivePath(dir)) || k.byTorchvision(dir) {
		return true
	}
	return !slices.ContainsFunc(k.Files, func(f File) bool {
		path := filepath.Join(dir, k.Folder, f.Name)
		return !f.Optional && !exists(path) && !exists(strings.TrimSuffix(path, ".gz"))
	})
}

// partOfSVHN is the folder of files in SVHN's format that hold fewer images than
// the published ones.
const partOfSVHN = "svhn-subset"

// Partial reports whether only a part of a published set lies under a data
// folder, which [Open] then reads.
func Partial(k Known, dir string) bool {
	return k.Name == "svhn" && !exists(filepath.Join(dir, k.Folder)) && exists(filepath.Join(dir, partOfSVHN))
}

// find returns the path of a file, which may lie there without its ".gz".
func (o opener) find(name string) (path string, ok bool) {
	path = filepath.Join(o.folder(), name)
	if exists(path) {
		return path, true
	}
	plain := strings.TrimSuffix(path, ".gz")
	return plain, plain != path && exists(plain)
}

// decode opens files and passes them to a decoder. A decoder's error is told
// with the path of the file or, where there are several, of their folder.
func (o opener) decode(names []string, decode func(files []io.Reader) (*Set, error)) (*Set, error) {
	var missing []string
	var files []io.Reader
	for _, name := range names {
		path, ok := o.find(name)
		if !ok {
			missing = append(missing, name)
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		files = append(files, f)
	}
	if len(missing) > 0 {
		return nil, &MissingError{Name: o.known.Name, Folder: o.folder(), Files: missing}
	}
	set, err := decode(files)
	if err != nil {
		place := o.folder()
		if len(names) == 1 {
			place = filepath.Join(place, names[0])
		}
		return nil, o.damaged(place, err)
	}
	return set, nil
}

// damaged words a decoder's error, with the way out.
func (o opener) damaged(path string, err error) error {
	return fmt.Errorf("%s: %w; move it away and get it again with: temper data fetch %s", path, err, o.known.Name)
}

func openMNIST(o opener, split Split) (*Set, error) {
	prefix := "train"
	if split == Test {
		prefix = "t10k"
	}
	names := []string{prefix + "-images-idx3-ubyte.gz", prefix + "-labels-idx1-ubyte.gz"}
	return o.decode(names, func(files []io.Reader) (*Set, error) {
		return DecodeMNIST(split, files[0], files[1])
	})
}

func openSVHN(o opener, split Split) (*Set, error) {
	return o.decode([]string{string(split) + "_32x32.mat"}, func(files []io.Reader) (*Set, error) {
		return DecodeSVHN(split, files[0])
	})
}

// openCIFAR reads the named members from the folder or, where the folder is not
// there, from the archive or torchvision's pickles, which have the labels under a key.
func openCIFAR(o opener, names []string, split Split, labelKey string, decode func(Split, ...io.Reader) (*Set, error)) (*Set, error) {
	if o.known.byTorchvision(o.dir) {
		var pickles []string
		for _, n := range names {
			pickles = append(pickles, torchvisionName(n))
		}
		return o.decode(pickles, func(files []io.Reader) (*Set, error) {
			return decodeCIFARPickles(o.known.info(split), labelKey, files)
		})
	}
	set, err := o.decode(names, func(files []io.Reader) (*Set, error) { return decode(split, files...) })
	missing, ok := err.(*MissingError)
	if !ok || len(missing.Files) < len(names) {
		return set, err
	}
	archive := o.known.archivePath(o.dir)
	if !exists(archive) {
		return nil, missing
	}
	files, err := o.known.readArchive(archive, names)
	if err == nil {
		set, err = decode(split, files...)
	}
	if err != nil {
		return nil, o.damaged(archive, err)
	}
	return set, nil
}
