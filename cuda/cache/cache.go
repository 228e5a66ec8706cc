// Package cache keeps what compilers made in a folder on disk. Entries are
// named by what they were made of, so that they never become stale; several
// processes may share the folder.
package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/singleflight"
)

// Key names an entry by everything that decides its content.
func Key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Dir is the folder: $TEMPER_CACHE, else "temper" in the user's cache folder.
func Dir() (string, error) {
	if d := os.Getenv("TEMPER_CACHE"); d != "" {
		return d, nil
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder for compiled kernels: %w: set TEMPER_CACHE to one", err)
	}
	return filepath.Join(d, "temper"), nil
}

var flight singleflight.Group

// Entry returns the content of the entry of that name and, if it could be
// stored, the file that holds it: the content and its SHA-256 behind it. What
// is not there, or was damaged, is made first. A folder that cannot be written
// costs the file, not the content: why is in unsaved.
func Entry(name string, build func() ([]byte, error)) (content []byte, file string, unsaved, err error) {
	type result struct {
		content []byte
		file    string
		unsaved error
	}
	v, err, _ := flight.Do(name, func() (any, error) {
		dir, unsaved := Dir()
		file := filepath.Join(dir, name)
		if unsaved == nil {
			if content := load(file); content != nil {
				return result{content, file, nil}, nil
			}
		}
		content, err := build()
		if err != nil {
			return nil, err
		}
		if unsaved == nil {
			unsaved = save(file, content)
		}
		if unsaved != nil {
			file = ""
		}
		return result{content, file, unsaved}, nil
	})
	if err != nil {
		return nil, "", nil, err
	}
	r := v.(result)
	return r.content, r.file, r.unsaved, nil
}

// load returns nil for a file that is not there or not whole.
func load(file string) []byte {
	b, err := os.ReadFile(file)
	if err != nil || len(b) < sha256.Size {
		return nil
	}
	content, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if want := sha256.Sum256(content); !bytes.Equal(sum, want[:]) {
		return nil
	}
	return content
}

// save writes the file and its SHA-256 behind it.
func save(file string, content []byte) error {
	sum := sha256.Sum256(content)
	return write(file, append(content[:len(content):len(content)], sum[:]...))
}

// write writes the file under another name first.
func write(file string, content []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(0o644); err != nil { // a cache may be filled by one user for all
		return errors.Join(err, f.Close())
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// Read returns the content of a file of the folder that is no entry, but for people
// to read too, and its path.
func Read(name string) (content []byte, file string, err error) {
	dir, err := Dir()
	if err != nil {
		return nil, "", err
	}
	file = filepath.Join(dir, name)
	content, err = os.ReadFile(file)
	return content, file, err
}

// Write writes what Read reads.
func Write(name string, content []byte) error {
	dir, err := Dir()
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, name), content)
}

// Newest returns the content of the whole entry that matches a pattern of
// filepath.Match and whose name sorts last; nil if there is none.
func Newest(pattern string) []byte {
	dir, err := Dir()
	if err != nil {
		return nil
	}
	files, _ := filepath.Glob(filepath.Join(dir, pattern)) // sorted
	for _, file := range slices.Backward(files) {
		if content := load(file); content != nil {
			return content
		}
	}
	return nil
}
