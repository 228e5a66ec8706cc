package datasets

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
)

// walkArchive calls visit once for each of the set's files that the archive
// holds, in the archive's order. Only names that the set lists, in the set's
// folder, of the listed size and as regular files, reach visit; other members
// are passed over, and a listed name that is wrong or comes twice is an error.
// The archive is read to its end, so that its checksum is checked.
func (k Known) walkArchive(archive string, visit func(f File, r io.Reader) error) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	plain, err := gunzip(file)
	if err != nil {
		return err
	}
	members := map[string]File{}
	for _, f := range k.Files {
		members[path.Join(k.Folder, f.Name)] = f
	}
	seen := map[string]bool{}
	t := tar.NewReader(plain)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return truncated(err, "the archive breaks off")
		}
		name := path.Clean(h.Name)
		f, ok := members[name]
		switch {
		case !ok:
			continue
		case h.Typeflag != tar.TypeReg:
			return fmt.Errorf("member %s is not a regular file", name)
		case h.Size != f.Bytes:
			return fmt.Errorf("member %s has %d bytes, want %d", name, h.Size, f.Bytes)
		case seen[name]:
			return fmt.Errorf("member %s comes twice", name)
		}
		seen[name] = true
		if err := visit(f, t); err != nil {
			return fmt.Errorf("member %s: %w", name, truncated(err, "the archive breaks off"))
		}
	}
	_, err = io.Copy(io.Discard, plain)
	return truncated(err, "the archive breaks off")
}

// unpack writes those of the set's files that are not yet in its folder under
// dir. A file appears only when its size and hash are right.
func (k Known) unpack(archive, dir string) error {
	folder := filepath.Join(dir, k.Folder)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	seen := 0
	err := k.walkArchive(archive, func(f File, r io.Reader) error {
		seen++
		path := filepath.Join(folder, f.Name)
		if exists(path) {
			return nil
		}
		return writeAtomic(path, func(w io.Writer) error {
			h := sha256.New()
			if _, err := io.Copy(io.MultiWriter(w, h), r); err != nil {
				return err
			}
			if sum := hex.EncodeToString(h.Sum(nil)); f.SHA256 != "" && sum != f.SHA256 {
				return fmt.Errorf("SHA-256 is %s, not %s", sum, f.SHA256)
			}
			return nil
		})
	})
	if err == nil && seen != len(k.Files) {
		err = fmt.Errorf("%d of the %d expected members are there", seen, len(k.Files))
	}
	return err
}

// readArchive returns the named files of the set, in that order, in memory.
func (k Known) readArchive(archive string, names []string) ([]io.Reader, error) {
	found := map[string][]byte{}
	for _, n := range names {
		found[n] = nil
	}
	err := k.walkArchive(archive, func(f File, r io.Reader) (err error) {
		if _, wanted := found[f.Name]; wanted {
			found[f.Name], err = readN(r, f.Bytes)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	files := make([]io.Reader, len(names))
	for i, n := range names {
		if found[n] == nil {
			return nil, fmt.Errorf("member %s is missing", path.Join(k.Folder, n))
		}
		files[i] = bytes.NewReader(found[n])
	}
	return files, nil
}
