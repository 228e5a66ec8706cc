package datasets

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// State is what [Verify] found of a file.
type State string

// The states of a file.
const (
	OK       State = "ok"        // size and SHA-256 are the published ones
	SizeOnly State = "size only" // the size is right; no hash is published
	Missing  State = "missing"
	Unknown  State = "unknown" // there unpacked, or in torchvision's form, of which no hash is known
	Differs  State = "differs"
)

// FileStatus is the result of verifying one file.
type FileStatus struct {
	File            // what is published
	Path     string // where it is, or should be
	State    State
	GotBytes int64
	// GotSHA256 is the hash found, in hexadecimal; empty where the file is
	// missing or its size already differs.
	GotSHA256 string
}

// fetchable returns a set that is published as files.
func fetchable(name string) (Known, error) {
	if name == structuredName || strings.HasPrefix(name, "npz:") {
		return Known{}, fmt.Errorf("%s: not a published set, there are no files to fetch or verify", name)
	}
	return Lookup(name)
}

// Verify compares the files of a published set under dir with the published
// sizes and hashes. A set of which only the archive is there is verified by the
// archive. It returns an error only for an unknown name or a file that cannot
// be read; what differs or is missing stands in the states.
func Verify(name, dir string) ([]FileStatus, error) {
	k, err := fetchable(name)
	if err != nil {
		return nil, err
	}
	if archive := k.archivePath(dir); archive != "" && !exists(filepath.Join(dir, k.Folder)) && exists(archive) {
		s, err := verifyFile(*k.Archive, archive)
		return []FileStatus{s}, err
	}
	var all []FileStatus
	if k.Archive != nil && k.byTorchvision(dir) {
		for _, f := range k.Files {
			f.Name, f.SHA256 = torchvisionName(f.Name), ""
			all = append(all, FileStatus{File: f, Path: filepath.Join(dir, k.Torchvision, f.Name), State: Unknown})
		}
		return all, nil
	}
	for _, f := range k.Files {
		s, err := verifyFile(f, filepath.Join(opener{k, dir}.folder(), f.Name))
		if err != nil {
			return nil, err
		}
		if plain := strings.TrimSuffix(s.Path, ".gz"); s.State == Missing && plain != s.Path && exists(plain) {
			s.Path, s.State = plain, Unknown
		}
		all = append(all, s)
	}
	return all, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// archivePath returns where the set's archive lies, "" if it has none.
func (k Known) archivePath(dir string) string {
	if k.Archive == nil {
		return ""
	}
	return filepath.Join(dir, k.Archive.Name)
}

// verifyFile compares the file at path with f.
func verifyFile(f File, path string) (FileStatus, error) {
	s := FileStatus{File: f, Path: path, State: Differs}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		s.State = Missing
		return s, nil
	}
	if err != nil {
		return s, err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return s, err
	}
	s.GotBytes = fi.Size()
	if s.GotBytes != f.Bytes {
		return s, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return s, err
	}
	s.GotSHA256 = hex.EncodeToString(h.Sum(nil))
	switch f.SHA256 {
	case s.GotSHA256:
		s.State = OK
	case "":
		s.State = SizeOnly
	}
	return s, nil
}
