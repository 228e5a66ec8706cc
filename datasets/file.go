package datasets

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
)

// readN reads exactly n bytes. Memory grows with the bytes that arrive, so that
// a file cannot make it allocate what it only announces. Where the data end
// early, it returns what there was and io.ErrUnexpectedEOF.
func readN(r io.Reader, n int64) ([]byte, error) {
	buf := make([]byte, 0, min(n, 1<<20))
	for int64(len(buf)) < n {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(n, 2*int64(cap(buf))))
			copy(grown, buf)
			buf = grown
		}
		m, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// truncated turns an early end into an error that says how far the data went;
// other errors pass.
func truncated(err error, format string, args ...any) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return fmt.Errorf("truncated: "+format, args...)
	}
	return err
}

// expectEOF refuses bytes after the end of a format. Reading on to the end is
// also what makes decompressors check their checksums.
func expectEOF(r io.Reader) error {
	var b [1]byte
	switch _, err := io.ReadFull(r, b[:]); err {
	case io.EOF:
		return nil
	case nil:
		return errors.New("trailing bytes after the data")
	default:
		return err
	}
}

// gunzip returns the plain content of r, which may be gzip or not: the two
// magic bytes decide.
func gunzip(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	magic, err := b.Peek(2)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &oneMember{member: z, file: b}, nil
}

// oneMember reads a gzip member and refuses anything that follows it. The error
// sticks, because a reader that has all it wants drops one that comes with its
// last bytes.
type oneMember struct {
	member *gzip.Reader
	file   *bufio.Reader
	err    error
}

func (o *oneMember) Read(p []byte) (n int, err error) {
	if o.err != nil {
		return 0, o.err
	}
	n, o.err = o.member.Read(p)
	if o.err == io.EOF {
		if tail := expectEOF(o.file); tail != nil {
			o.err = tail
		}
	}
	return n, o.err
}

// writeAtomic writes a file under a temporary name beside path, flushes it to
// the disk and renames it, so that path never holds half a file.
func writeAtomic(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(f, 1<<16)
	err = write(b)
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = f.Chmod(0o644) // CreateTemp made it private
	}
	if err = commit(f, path, err); err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// commit flushes f to the disk, closes it and renames it to path. It closes f
// in any case, and does no more than that where err is already set.
func commit(f *os.File, path string, err error) error {
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in dir survive a power cut, where the file system can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, os.ErrInvalid) {
		return err
	}
	return nil
}
