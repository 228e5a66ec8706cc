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
	// Structured and Seed are the settings of the set "structured".
	Structured Structured
	Seed       uint32
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
		return OpenNPZ(file, split)
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

func openStructured(split Split, opt Options) (*Set, error) {
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

// opener finds the files of one published set.
type opener struct {
	known Known
	dir   string
}

// folders lists where the files may lie, in the order of preference. A part of
// SVHN may lie in a folder of its own name, so that it is not taken for the
// whole.
func (o opener) folders() []string {
	folders := []string{filepath.Join(o.dir, o.known.Folder)}
	if o.known.Name == "svhn" {
		folders = append(folders, filepath.Join(o.dir, "svhn-subset"))
	}
	return folders
}

// find returns the path of a file, under its own name or without ".gz".
func (o opener) find(name string) (string, error) {
	for _, folder := range o.folders() {
		for _, n := range slices.Compact([]string{name, strings.TrimSuffix(name, ".gz")}) {
			path := filepath.Join(folder, n)
			if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() {
				return path, nil
			}
		}
	}
	return "", o.missing(name)
}

func (o opener) missing(names ...string) error {
	return &MissingError{Name: o.known.Name, Folder: o.folders()[0], Files: names}
}

// decode opens files and passes them to a decoder; an error of the decoder is
// told with the path of the first file.
func (o opener) decode(names []string, decode func(files []io.Reader) (*Set, error)) (*Set, error) {
	var missing []string
	var files []io.Reader
	first := ""
	for _, name := range names {
		path, err := o.find(name)
		if err != nil {
			missing = append(missing, name)
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		files = append(files, f)
		if first == "" {
			first = path
		}
	}
	if len(missing) > 0 {
		return nil, o.missing(missing...)
	}
	set, err := decode(files)
	if err != nil {
		return nil, o.damaged(first, err)
	}
	return set, nil
}

// damaged words a decoder's error, with the way out.
func (o opener) damaged(path string, err error) error {
	return fmt.Errorf("%s: %w; move the file away and get it again with: temper data fetch %s", path, err, o.known.Name)
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
// there, from the archive.
func openCIFAR(o opener, names []string, split Split, decode func(Split, ...io.Reader) (*Set, error)) (*Set, error) {
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
