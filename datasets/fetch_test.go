package datasets

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// onefile is a set of one file, d/f.bin.
func onefile(content []byte) Known {
	return Known{Name: "one", Folder: "d", Terms: "terms of one",
		Files: []File{{Name: "f.bin", Bytes: int64(len(content)), SHA256: sum(content)}}}
}

// mirror is a test server; behave may answer itself and return true, otherwise
// the file is served properly. It records the Range headers.
type mirror struct {
	*httptest.Server
	mu     sync.Mutex
	ranges []string
}

func serve(t *testing.T, content []byte, behave func(w http.ResponseWriter, r *http.Request, request int) bool) *mirror {
	m := &mirror{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.ranges = append(m.ranges, r.Header.Get("Range"))
		n := len(m.ranges)
		m.mu.Unlock()
		if behave == nil || !behave(w, r, n) {
			http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, bytes.NewReader(content))
		}
	}))
	t.Cleanup(m.Close)
	return m
}

// asked returns the Range header of each request so far.
func (m *mirror) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ranges)
}

// cutAt sends the first bytes of a full answer and drops the connection.
func cutAt(w http.ResponseWriter, content []byte, n int) bool {
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	w.Write(content[:n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestFetch(t *testing.T) {
	content := noise(300000)
	wrong := edit(content, 200000, content[200000]^1)
	type answer = func(w http.ResponseWriter, r *http.Request, n int) bool
	status := func(code int) answer {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.WriteHeader(code)
			return true
		}
	}
	corrupt := func(w http.ResponseWriter, r *http.Request, _ int) bool {
		http.ServeContent(w, r, "f.bin", time.Time{}, bytes.NewReader(wrong))
		return true
	}
	html := func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>moved</html>")
		return true
	}
	cutOnce := func(w http.ResponseWriter, _ *http.Request, n int) bool { return n == 1 && cutAt(w, content, 100000) }
	ignoreRange := func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			return cutAt(w, content, 100000)
		}
		w.Write(content)
		return true
	}
	wrongRange := func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			return cutAt(w, content, 100000)
		}
		if r.Header.Get("Range") == "" {
			return false
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(content)
		return true
	}
	stall := func(w http.ResponseWriter, r *http.Request, n int) bool {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:50000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	silent := func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		<-r.Context().Done()
		return true
	}
	tooLong := func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.(http.Flusher).Flush() // chunked: no length is announced
		w.Write(content)
		w.Write(content)
		return true
	}
	tooShort := func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.(http.Flusher).Flush()
		w.Write(content[:1000])
		return true
	}
	for _, c := range []struct {
		name    string
		mirrors []answer
		part    []byte   // what an earlier download left
		err     string   // of the whole fetch
		ranges  []string // that the last mirror was asked for
		left    int      // bytes of the part that stay
	}{
		{name: "plain", mirrors: []answer{nil}, ranges: []string{""}},
		{name: "cut and resumed", mirrors: []answer{cutOnce}, ranges: []string{"", "bytes=100000-"}},
		{name: "resumed by the next mirror", mirrors: []answer{stall, nil}, ranges: []string{"bytes=50000-"}},
		{name: "part of an earlier run", mirrors: []answer{nil}, part: content[:123456], ranges: []string{"bytes=123456-"}},
		{name: "whole part", mirrors: []answer{nil}, part: content},
		{name: "part too long", mirrors: []answer{nil}, part: append(slices.Clone(content), 1), ranges: []string{""}},
		{name: "corrupt part", mirrors: []answer{nil}, part: wrong[:250000], ranges: []string{"bytes=250000-", ""}},
		{name: "corrupt whole part", mirrors: []answer{nil}, part: wrong, ranges: []string{""}},
		{name: "range ignored", mirrors: []answer{ignoreRange}, ranges: []string{"", "bytes=100000-"}},
		{name: "range answered wrongly", mirrors: []answer{wrongRange}, ranges: []string{"", "bytes=100000-", ""}},
		{name: "range refused", mirrors: []answer{status(416)}, part: content[:9], ranges: []string{"bytes=9-", ""},
			err: "it does not resume"},
		{name: "second mirror", mirrors: []answer{status(404), nil}, ranges: []string{""}},
		{name: "corrupt then good", mirrors: []answer{corrupt, nil}, ranges: []string{""}},
		{name: "html then good", mirrors: []answer{html, nil}, ranges: []string{""}},
		{name: "too long then good", mirrors: []answer{tooLong, nil}, ranges: []string{""}},
		{name: "silent then good", mirrors: []answer{silent, nil}, ranges: []string{""}},

		{name: "404", mirrors: []answer{status(404)}, ranges: []string{""}, err: "HTTP 404 Not Found"},
		{name: "html", mirrors: []answer{html}, ranges: []string{""}, err: "it offers 18 bytes of text/html, want 300000"},
		{name: "corrupt", mirrors: []answer{corrupt}, ranges: []string{""}, err: "SHA-256 is " + sum(wrong) + ", not " + sum(content)},
		{name: "too long", mirrors: []answer{tooLong}, ranges: []string{""}, err: "it sends more than 300000 bytes"},
		{name: "silent", mirrors: []answer{silent}, ranges: []string{""}, err: "no bytes arrive for 100ms"},
		{name: "too short", mirrors: []answer{tooShort}, ranges: []string{"", "bytes=1000-"},
			err: "the connection ended at 1000 of 300000 bytes", left: 1000},
		{name: "all fail", mirrors: []answer{status(403), status(500)}, ranges: []string{""}, err: "HTTP 500 Internal Server Error; try again, or put the file into "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			dest := filepath.Join(dir, "d", "f.bin")
			if c.part != nil {
				os.Mkdir(filepath.Dir(dest), 0o755)
				os.WriteFile(dest+".part", c.part, 0o644)
			}
			var bases []string
			var last *mirror
			for _, b := range c.mirrors {
				last = serve(t, content, b)
				bases = append(bases, last.URL)
			}
			var done, total int64
			terms := 0
			err := onefile(content).fetch(context.Background(), dir, FetchOptions{
				Mirrors: bases, StallTimeout: 100 * time.Millisecond,
				Progress: func(_ string, d, t int64) { done, total = d, t },
				Terms:    func(s string) { terms += len(s) },
			})
			wantError(t, err, c.err)
			if !slices.Equal(last.asked(), c.ranges) {
				t.Errorf("the last mirror was asked for %q, want %q", last.asked(), c.ranges)
			}
			if terms != len("terms of one") {
				t.Error("the terms were not told once")
			}
			got, _ := os.ReadFile(dest)
			part, _ := os.ReadFile(dest + ".part")
			if err == nil && (!bytes.Equal(got, content) || part != nil) {
				t.Errorf("%d bytes fetched, %d of the part left", len(got), len(part))
			}
			if err == nil && len(c.ranges) > 0 && (done != 300000 || total != 300000) {
				t.Errorf("progress ended at %d of %d", done, total)
			}
			if err != nil && (got != nil || len(part) != c.left) {
				t.Errorf("%d bytes and a part of %d after a failure", len(got), len(part))
			}
		})
	}
}

func TestFetchLeavesWhatIsThere(t *testing.T) {
	content := noise(1000)
	k := onefile(content)
	dir := t.TempDir()
	dest := filepath.Join(dir, "d", "f.bin")
	m := serve(t, content, nil)
	terms := false
	opt := FetchOptions{Mirrors: []string{m.URL + "/"}, Terms: func(string) { terms = true }}
	os.Mkdir(filepath.Dir(dest), 0o755)
	for _, c := range []struct {
		have []byte
		err  string
	}{
		{content, ""},
		{content[:10], dest + " is not the published file (10 bytes, not 1000); move it away"},
		{edit(content, 5, content[5]^1), "is not the published file (SHA-256 "},
	} {
		os.WriteFile(dest, c.have, 0o644)
		wantError(t, k.fetch(t.Context(), dir, opt), c.err)
		if now, _ := os.ReadFile(dest); !bytes.Equal(now, c.have) {
			t.Error("the file was changed")
		}
	}
	if terms || len(m.asked()) > 0 {
		t.Error("something was fetched")
	}
}

func TestFetchCancelled(t *testing.T) {
	content := noise(1000)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	m := serve(t, content, func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n > 1 {
			return false
		}
		w.Header().Set("Content-Length", "1000")
		w.Write(content[:400])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	opt := FetchOptions{Mirrors: []string{m.URL}, Progress: func(_ string, done, _ int64) {
		if done == 400 {
			cancel()
		}
	}}
	err := onefile(content).fetch(ctx, dir, opt)
	wantError(t, err, "one: f.bin: context canceled at 400 of 1000 bytes; fetching again goes on from there")
	if err := onefile(content).fetch(t.Context(), dir, opt); err != nil {
		t.Fatal(err)
	}
	if want := []string{"", "bytes=400-"}; !slices.Equal(m.asked(), want) {
		t.Errorf("asked for %q, want %q", m.asked(), want)
	}
}

func TestFetchLocks(t *testing.T) {
	content := noise(1000)
	dir := t.TempDir()
	started := make(chan bool)
	release := make(chan bool)
	m := serve(t, content, func(http.ResponseWriter, *http.Request, int) bool {
		started <- true
		<-release
		return false
	})
	opt := FetchOptions{Mirrors: []string{m.URL}}
	first := make(chan error)
	go func() { first <- onefile(content).fetch(context.Background(), dir, opt) }()
	<-started
	wantError(t, onefile(content).fetch(t.Context(), dir, opt), "f.bin.part is being written by another process")
	release <- true
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestFetchOptional(t *testing.T) {
	content := noise(100)
	k := onefile(content)
	k.Files = append(k.Files, File{Name: "extra.bin", Bytes: 100, SHA256: sum(content), Optional: true})
	dir := t.TempDir()
	m := serve(t, content, nil)
	for _, c := range []struct {
		optional bool
		files    int
	}{{false, 1}, {true, 2}} {
		if err := k.fetch(t.Context(), dir, FetchOptions{Mirrors: []string{m.URL}, Optional: c.optional}); err != nil {
			t.Fatal(err)
		}
		if entries, _ := os.ReadDir(filepath.Join(dir, "d")); len(entries) != c.files {
			t.Errorf("optional %v: %d files, want %d", c.optional, len(entries), c.files)
		}
	}
}

func TestFetchNames(t *testing.T) {
	for name, want := range map[string]string{
		"structured": "not a published set",
		"npz:a.npz":  "not a published set",
		"mnits":      "did you mean mnist?",
	} {
		wantError(t, Fetch(t.Context(), name, t.TempDir(), FetchOptions{}), want)
		_, err := Verify(name, t.TempDir())
		wantError(t, err, want)
	}
}

type member struct {
	header tar.Header
	body   []byte
}

func targz(members ...member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.header.Size, m.header.Mode = int64(len(m.body)), 0o644
		w.WriteHeader(&m.header)
		w.Write(m.body)
	}
	w.Close()
	return gz(b.Bytes())
}

func file(name string, body []byte) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg}, body}
}

// packedCIFAR is CIFAR-10 with two records a file, in an archive with strange
// members besides.
func packedCIFAR() (Known, []byte) {
	k, _ := Lookup("cifar10")
	k.Files = slices.Clone(k.Files)
	members := []member{
		{tar.Header{Name: k.Folder + "/", Typeflag: tar.TypeDir}, nil},
		file(k.Folder+"/readme.html", []byte("hello")),
		file("../escape", []byte("x")),
		file("/etc/passwd", []byte("x")),
		{tar.Header{Name: k.Folder + "/link", Typeflag: tar.TypeSymlink, Linkname: "/"}, nil},
	}
	for i := range slices.Backward(k.Files) {
		f := &k.Files[i]
		body := cifarRecords(2, func(int) []byte { return []byte{byte(i)} })
		f.Bytes, f.SHA256 = int64(len(body)), sum(body)
		members = append(members, file("./"+k.Folder+"/"+f.Name, body))
	}
	archive := targz(members...)
	k.Archive = &File{Name: "cifar-10-binary.tar.gz", Bytes: int64(len(archive)), SHA256: sum(archive)}
	return k, archive
}

func TestFetchArchive(t *testing.T) {
	k, archive := packedCIFAR()
	for _, own := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "data")
		os.Mkdir(dir, 0o755)
		path := filepath.Join(dir, k.Archive.Name)
		if own {
			os.WriteFile(path, archive, 0o644)
		}
		m := serve(t, archive, nil)
		for range 2 { // the second time there is nothing to do
			if err := k.fetch(t.Context(), dir, FetchOptions{Mirrors: []string{m.URL}}); err != nil {
				t.Fatal(err)
			}
		}
		if requests := len(m.asked()); own == (requests == 1) {
			t.Errorf("%d requests; archive there before: %v", requests, own)
		}
		if exists(path) != own {
			t.Errorf("archive there before: %v, and after: %v", own, !own)
		}
		entries, _ := os.ReadDir(filepath.Join(dir, k.Folder))
		if len(entries) != len(k.Files) {
			t.Errorf("%v unpacked, want the %d data files alone", entries, len(k.Files))
		}
		if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
			t.Errorf("files outside the data folder: %v", entries)
		}
		s, err := Open("cifar10", dir, Train, Options{})
		if err != nil || !slices.Equal(s.Labels(), []int32{0, 0, 1, 1, 2, 2, 3, 3, 4, 4}) {
			t.Errorf("%v", err)
		}
	}
}

func TestOpenArchive(t *testing.T) {
	real, archive := packedCIFAR()
	dir := t.TempDir()
	path := filepath.Join(dir, real.Archive.Name)
	os.WriteFile(path, archive, 0o644)
	s, err := real.open(opener{real, dir}, Train)
	if err != nil {
		t.Fatal(err)
	}
	if want := []int32{0, 0, 1, 1, 2, 2, 3, 3, 4, 4}; !slices.Equal(s.Labels(), want) {
		t.Errorf("labels %v, want %v: the files in their order, not the archive's", s.Labels(), want)
	}
	_, err = Open("cifar10", dir, Test, Options{})
	wantError(t, err, path+": member cifar-10-batches-bin/test_batch.bin has 6146 bytes, want 30730000; move it away")
}

func TestUnpackRefuses(t *testing.T) {
	content := noise(5000)
	k := onefile(content)
	good := targz(file("d/f.bin", content))
	for _, c := range []struct {
		name    string
		archive []byte
		err     string
	}{
		{"good", good, ""},
		{"missing", targz(file("d/g.bin", content)), "0 of the 1 expected members"},
		{"other folder", targz(file("e/f.bin", content)), "0 of the 1 expected members"},
		{"size", targz(file("d/f.bin", content[:99])), "member d/f.bin has 99 bytes, want 5000"},
		{"hash", targz(file("d/f.bin", edit(content, 0, content[0]^1))), "SHA-256 is"},
		{"link", targz(member{tar.Header{Name: "d/f.bin", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, nil}), "not a regular file"},
		{"twice", targz(file("d/f.bin", content), file("d/x/../f.bin", content)), "comes twice"},
		{"truncated", good[:2000], "truncated: the archive breaks off"},
		{"trailing", join(good, []byte("x")), "trailing bytes"},
		{"html", []byte("<html></html>"), "the archive breaks off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a.tar.gz")
			os.WriteFile(path, c.archive, 0o644)
			err := k.unpack(path, dir)
			wantError(t, err, c.err)
			entries, _ := os.ReadDir(filepath.Join(dir, "d"))
			for _, e := range entries {
				got, _ := os.ReadFile(filepath.Join(dir, "d", e.Name()))
				if e.Name() != "f.bin" || !bytes.Equal(got, content) {
					t.Errorf("%s left behind", e.Name())
				}
			}
		})
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "svhn-subset"), 0o755)
	os.WriteFile(filepath.Join(dir, "svhn-subset", "test_32x32.mat"), []byte("x"), 0o644)
	os.Mkdir(filepath.Join(dir, "cifar-100-binary"), 0o755)
	big, err := os.Create(filepath.Join(dir, "cifar-100-binary", "test.bin"))
	if err != nil {
		t.Fatal(err)
	}
	big.Truncate(30740000) // sparse
	big.Close()
	os.WriteFile(filepath.Join(dir, "cifar-10-binary.tar.gz"), []byte("abc"), 0o644)
	for name, want := range map[string][]State{
		"mnist":    {Missing, Missing, Missing, Missing},
		"svhn":     {Missing, Differs, Missing},
		"cifar100": {Missing, SizeOnly},
		"cifar10":  {Differs},
	} {
		got, err := Verify(name, dir)
		if err != nil {
			t.Fatal(err)
		}
		var states []State
		for _, s := range got {
			states = append(states, s.State)
			if !strings.HasPrefix(s.Path, dir) {
				t.Errorf("path %s", s.Path)
			}
		}
		if !slices.Equal(states, want) {
			t.Errorf("%s: %v, want %v", name, states, want)
		}
	}
}

func TestVerifyRealData(t *testing.T) {
	dir := realData(t)
	for _, name := range []string{"mnist", "cifar10"} {
		got, err := Verify(name, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range got {
			if s.State != OK {
				t.Errorf("%s is %s: %d bytes, %s", s.Path, s.State, s.GotBytes, s.GotSHA256)
			}
		}
	}
	// The subset opens, but is not the published set.
	got, err := Verify("svhn", dir)
	if err != nil || got[0].State != Differs || got[0].GotBytes != 2167103 || got[2].State != Missing {
		t.Errorf("%+v, %v", got, err)
	}
}
