package run

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tempPrefix starts the name of every file that is not finished yet.
const tempPrefix = ".tmp-"

// WriteFileAtomic makes write's output the content of path, or leaves path as
// it was. The bytes go to a temporary name in the same folder, are fsynced,
// and are renamed into place; then the folder is fsynced. On any error the
// temporary file is removed and the error names path. Only a killed process
// leaves a temporary file behind; [Create] and [Resume] sweep those up.
func WriteFileAtomic(path string, write func(w io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("write %s: there is a folder of this name", path)
	}
	temp := tempName(path)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fileError("write", path, err)
	}
	renamed := false
	defer func() { // also when write panics
		if !renamed {
			f.Close()
			os.Remove(temp)
		}
	}()
	b := bufio.NewWriterSize(f, 64<<10)
	for _, step := range []func() error{
		func() error { return write(b) },
		b.Flush,
		f.Sync,
		f.Close,
		func() error { return os.Rename(temp, path) },
	} {
		if err := step(); err != nil {
			return fileError("write", path, err)
		}
	}
	renamed = true
	return syncDir(filepath.Dir(path))
}

// UpdateFile makes what change returns for path's content, nil if there is no such
// file, its content. Other processes that update a file of that folder wait
// meanwhile, so that no update is lost. If nothing changes, nothing is written.
func UpdateFile(path string, change func(old []byte) (content []byte)) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fileError("update", path, err)
	}
	defer d.Close() // gives the lock back
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return fileError("update", path, err)
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileError("update", path, err)
	}
	content := change(old)
	if bytes.Equal(content, old) {
		return nil
	}
	return WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// tempName is a fresh name beside path that sweep recognises.
func tempName(path string) string {
	dir, base := filepath.Split(path)
	return dir + tempPrefix + rand.Text() + "-" + base
}

// sweep removes the temporary files that killed processes left in dir. The
// caller holds the run's lock, so none of them is being written.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fileError("read", dir, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fileError("clean up", dir, err)
			}
		}
	}
	return nil
}

// syncDir makes the names in dir durable. File systems that cannot fsync a
// folder say EINVAL or ENOTSUP; there a rename is as durable as it gets.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fileError("sync", dir, err)
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fileError("sync", dir, err)
	}
	return nil
}

// fileError is one line: the operation, the path the user knows (never a
// temporary name), the cause, and the remedy where there is one.
func fileError(op, path string, err error) error {
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr) && (strings.HasPrefix(pathErr.Path, path) || strings.HasSuffix(path, pathErr.Path) || strings.Contains(pathErr.Path, tempPrefix)):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	remedy := ""
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		remedy = "; free some space: what was there before is unchanged"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		remedy = "; choose a folder you can write to"
	}
	return fmt.Errorf("%s %s: %w%s", op, path, err, remedy)
}
