package datasets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// FetchOptions say how a set is downloaded; the zero value is good.
type FetchOptions struct {
	// Mirrors replaces the published base URLs, for a site's own copy.
	Mirrors []string
	// Client makes the requests; nil is http.DefaultClient.
	Client *http.Client
	// StallTimeout gives a mirror up that sends no byte for so long; 30 seconds
	// where it is 0.
	StallTimeout time.Duration
	// Optional also fetches the optional files.
	Optional bool
	// Progress is called with the bytes of a file that are there, about ten
	// times a second and at its end.
	Progress func(file string, done, total int64)
	// Terms is called once, before the first byte is fetched, with the owners'
	// terms; not at all where nothing is to be fetched.
	Terms func(terms string)
}

// Fetch downloads the files of a published set that are not yet under dir. Each
// file is taken from the first mirror that gives the published SHA-256, goes on
// where an earlier download broke off, and appears under its name only when it
// is whole. A file that is there but is not the published one is never
// overwritten: the error names it. Archives are unpacked and then removed if
// they were downloaded for it.
func Fetch(ctx context.Context, name, dir string, opt FetchOptions) error {
	k, err := fetchable(name)
	if err != nil {
		return err
	}
	return k.fetch(ctx, dir, opt)
}

func (k Known) fetch(ctx context.Context, dir string, opt FetchOptions) error {
	missing, err := k.missing(dir, opt.Optional)
	if err != nil || len(missing) == 0 {
		return err
	}
	f := &fetcher{known: k, opt: opt}
	if k.Archive == nil {
		for _, file := range missing {
			if err := f.file(ctx, file, filepath.Join(dir, k.Folder, file.Name)); err != nil {
				return fmt.Errorf("%s: %w", k.Name, err)
			}
		}
		return nil
	}
	archive := k.archivePath(dir)
	if err := f.file(ctx, *k.Archive, archive); err != nil {
		return fmt.Errorf("%s: %w", k.Name, err)
	}
	if err := k.unpack(archive, dir); err != nil {
		return fmt.Errorf("%s: %s: %w", k.Name, archive, err)
	}
	if f.downloaded {
		return os.Remove(archive)
	}
	return nil
}

// missing lists the files that are to be fetched; a file that differs from the
// published one is an error.
func (k Known) missing(dir string, optional bool) ([]File, error) {
	var missing []File
	for _, f := range k.Files {
		if f.Optional && !optional {
			continue
		}
		s, err := verifyFile(f, filepath.Join(dir, k.Folder, f.Name))
		if err == nil {
			err = s.refuse()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.Name, err)
		}
		if s.State == Missing {
			missing = append(missing, f)
		}
	}
	return missing, nil
}

// refuse is the error for a file in the way.
func (s FileStatus) refuse() error {
	if s.State != Differs {
		return nil
	}
	got := fmt.Sprintf("%d bytes, not %d", s.GotBytes, s.Bytes)
	if s.GotSHA256 != "" {
		got = fmt.Sprintf("SHA-256 %s, not %s", s.GotSHA256, s.SHA256)
	}
	return fmt.Errorf("%s is not the published file (%s); move it away and fetch again", s.Path, got)
}

// fetcher downloads the files of one set.
type fetcher struct {
	known      Known
	opt        FetchOptions
	downloaded bool // something was, so the terms have been shown
}

// file downloads one file to path, unless it is there.
func (f *fetcher) file(ctx context.Context, file File, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part, err := openPart(file, path)
	if err != nil || part == nil {
		return err
	}
	if !f.downloaded && f.opt.Terms != nil {
		f.opt.Terms(f.known.Terms)
	}
	f.downloaded = true
	d := &download{fetcher: f, file: file, part: part, hash: sha256.New()}
	if d.done, err = io.Copy(d.hash, part); err == nil {
		err = d.mirrors(ctx)
	}
	if err != nil {
		if d.done == 0 {
			os.Remove(part.Name())
		}
		part.Close()
		return err
	}
	return commit(part, path, nil)
}

// openPart opens and locks path's partial download. It returns nil if the file
// is there and whole, be it that another process finished it meanwhile.
func openPart(file File, path string) (*os.File, error) {
	for {
		s, err := verifyFile(file, path)
		if err == nil {
			err = s.refuse()
		}
		if err != nil || s.State != Missing {
			return nil, err
		}
		part, err := os.OpenFile(path+".part", os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if lock(part) {
			part.Close()
			return nil, fmt.Errorf("%s.part is being written by another process; wait for it or end it", path)
		}
		// Before the lock was ours its holder may have renamed the file.
		have, err := part.Stat()
		now, err2 := os.Stat(part.Name())
		if err == nil && err2 == nil && os.SameFile(have, now) {
			return part, nil
		}
		part.Close()
	}
}

// download is the state of one file: part holds done bytes, which hash has seen.
type download struct {
	*fetcher
	file File
	part *os.File
	hash hash.Hash
	done int64
	told time.Time // when Progress was last called
}

// localError is a failure of this machine's disk, which no mirror mends.
type localError struct{ error }

func (e localError) Unwrap() error { return e.error }

// mirrors tries one mirror after the other.
func (d *download) mirrors(ctx context.Context) error {
	bases := d.known.Mirrors
	if len(d.opt.Mirrors) > 0 {
		bases = d.opt.Mirrors
	}
	var failed []string
	for _, base := range bases {
		err := d.mirror(ctx, strings.TrimSuffix(base, "/")+"/"+d.file.Name)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w at %d of %d bytes; fetching again goes on from there", d.file.Name, context.Cause(ctx), d.done, d.file.Bytes)
		}
		if local := (localError{}); errors.As(err, &local) {
			return fmt.Errorf("%s: %w", d.part.Name(), local.error)
		}
		failed = append(failed, fmt.Sprintf("%s: %v", base, err))
	}
	return fmt.Errorf("cannot fetch %s: %s; try again, or put the file into %s yourself",
		d.file.Name, strings.Join(failed, "; "), filepath.Dir(d.part.Name()))
}

// mirror downloads from one URL until the file is whole and its hash right. A
// connection that breaks is taken up again as long as it brought something, and
// a mirror that does not resume is asked from the start. If the hash is wrong
// and the beginning came from elsewhere, that is a try from the start, too.
func (d *download) mirror(ctx context.Context, url string) error {
	const maxBreaks = 5
	foreign := d.done > 0
	for breaks := 0; ; breaks++ {
		before := d.done
		if err := d.request(ctx, url); err != nil {
			another := d.done > before || d.done == 0 && before > 0
			if another && breaks < maxBreaks && ctx.Err() == nil && !errors.As(err, &localError{}) {
				continue
			}
			return err
		}
		sum := hex.EncodeToString(d.hash.Sum(nil))
		if sum == d.file.SHA256 {
			return nil
		}
		err := d.reject(fmt.Errorf("SHA-256 is %s, not %s", sum, d.file.SHA256))
		if !foreign || errors.As(err, &localError{}) {
			return err
		}
		foreign = false
	}
}

// reject throws away what has arrived, and returns why.
func (d *download) reject(why error) error {
	if err := d.restart(); err != nil {
		return err
	}
	return why
}

// restart throws away what has arrived.
func (d *download) restart() error {
	if err := d.part.Truncate(0); err != nil {
		return localError{err}
	}
	if _, err := d.part.Seek(0, io.SeekStart); err != nil {
		return localError{err}
	}
	d.hash.Reset()
	d.done = 0
	return nil
}

var errStalled = errors.New("no bytes arrive")

// request makes one request for the bytes that are missing and writes what
// comes. It returns nil when the file has its size.
func (d *download) request(ctx context.Context, url string) error {
	if d.done > d.file.Bytes {
		if err := d.restart(); err != nil {
			return err
		}
	}
	if d.done == d.file.Bytes {
		return nil
	}
	timeout := d.opt.StallTimeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(timeout, func() { cancel(fmt.Errorf("%w for %v", errStalled, timeout)) })
	defer stall.Stop()

	resp, err := d.get(ctx, url)
	if err != nil {
		return plainError(ctx, err)
	}
	defer resp.Body.Close()
	if err := d.accept(resp); err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			stall.Reset(timeout)
			if err := d.write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF && d.done == d.file.Bytes:
			return nil
		case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("the connection ended at %d of %d bytes", d.done, d.file.Bytes)
		case err != nil:
			return plainError(ctx, err)
		}
	}
}

// get asks for the file from byte done on.
func (d *download) get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity") // the bytes as published
	if d.done > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.done))
	}
	client := d.opt.Client
	if client == nil {
		client = http.DefaultClient
	}
	return client.Do(req)
}

// accept checks that the response brings the missing bytes of a file of the
// published size. A server that sends the whole file although asked for its end
// makes the download begin anew.
func (d *download) accept(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-%d/%d", d.done, d.file.Bytes-1, d.file.Bytes)
		if got := resp.Header.Get("Content-Range"); got != want {
			return d.reject(fmt.Errorf("it resumes with %q, want %q", got, want))
		}
		return nil
	case http.StatusOK:
		if n := resp.ContentLength; n >= 0 && n != d.file.Bytes {
			return fmt.Errorf("it offers %d bytes of %s, want %d", n, resp.Header.Get("Content-Type"), d.file.Bytes)
		}
		return d.restart()
	case http.StatusRequestedRangeNotSatisfiable:
		return d.reject(errors.New("it does not resume"))
	default:
		return fmt.Errorf("HTTP %s", resp.Status)
	}
}

// write appends bytes to the part.
func (d *download) write(b []byte) error {
	if d.done+int64(len(b)) > d.file.Bytes {
		return d.reject(fmt.Errorf("it sends more than %d bytes", d.file.Bytes))
	}
	if _, err := d.part.Write(b); err != nil {
		return localError{err}
	}
	d.hash.Write(b)
	d.done += int64(len(b))
	if now := time.Now(); d.opt.Progress != nil && (d.done == d.file.Bytes || now.Sub(d.told) >= 100*time.Millisecond) {
		d.told = now
		d.opt.Progress(d.file.Name, d.done, d.file.Bytes)
	}
	return nil
}

// plainError strips the URL, which the caller states, and the cancellation,
// whose cause says more.
func plainError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return cause
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}
