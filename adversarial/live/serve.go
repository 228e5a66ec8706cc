package live

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"temper/adversarial/report"
	"temper/adversarial/run"
)

// Limits of a server.
const (
	mostRuns    = 200 // that the index lists, the newest
	mostMetrics = 20  // that /metrics reads
	mostKept    = 32  // whose pages and curves are in memory
	mostReaders = 1024
	look        = time.Second      // between looks at a run's files
	patience    = 20 * time.Second // for a reader that does not read
	heartbeat   = 15 * time.Second // of an idle stream of events
)

// Server shows a folder of runs. It reads and nothing else.
type Server struct {
	runs   *run.Folder
	anyone bool // requests may name any host
	mu     sync.Mutex
	kept   map[string]*shown
	clock  int64

	list   sync.Mutex // guards the index
	listed time.Time
	lines  []byte
}

// NewServer serves the runs in dir. Unless anyone is true, only requests that
// name the machine by an address or as localhost are answered: no page from
// elsewhere can read the runs through a name of its own.
func NewServer(dir string, anyone bool) (*Server, error) {
	f, err := run.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	if f.Modified(run.ConfigFile) != 0 {
		f.Close()
		return nil, fmt.Errorf("%s is a run: give the folder of runs around it", dir)
	}
	return &Server{runs: f, anyone: anyone, kept: map[string]*shown{}}, nil
}

// Close closes the folders. Nothing may be served any more.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.kept {
		r.tail.folder.Close()
	}
	s.runs.Close()
}

// Serve answers on l until ctx is done.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if h.Shutdown(late) != nil {
			h.Close()
		}
	})
	defer stop()
	err := h.Serve(&limited{Listener: l, slots: make(chan struct{}, mostReaders)})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// limited is a listener with so many connections at a time; more wait.
type limited struct {
	net.Listener
	slots chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &counted{Conn: c, done: sync.OnceFunc(func() { <-l.slots })}, nil
}

type counted struct {
	net.Conn
	done func()
}

func (c *counted) Close() error {
	defer c.done()
	return c.Conn.Close()
}

// Handler answers
//
//	/                    the index of runs
//	/runs/NAME/          the page of a run
//	/runs/NAME/events    server-sent events, one whenever there is something new
//	/metrics             the newest runs' numbers in Prometheus' text format
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("GET /runs/{name}/{$}", s.page)
	mux.HandleFunc("GET /runs/{name}/events", s.events)
	mux.HandleFunc("GET /metrics", s.metrics)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.anyone && !local(r.Host) {
			http.Error(w, "this server answers to its address alone", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

// local reports whether a request names the machine by an address.
func local(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil
}

// policy lets pages run the one script that they have.
var policy = func() string {
	sum := sha256.Sum256([]byte(report.LiveScript))
	return "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; script-src 'sha256-" +
		base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

// shown is a run that somebody looks at.
type shown struct {
	mu      sync.Mutex
	tail    *tail
	looked  time.Time
	version uint64 // of what was seen at the last look
	page    []byte // of pageOf
	pageOf  uint64
	used    int64 // the server's clock
}

// open finds a run by its name, which is one part of a path.
func (s *Server) open(name string) (*shown, error) {
	if name == "" || name != path.Base(name) || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\\x00") {
		return nil, fmt.Errorf("no run %q", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	if r := s.kept[name]; r != nil {
		r.used = s.clock
		return r, nil
	}
	f, err := s.runs.Folder(name)
	if err != nil || f.Modified(run.ConfigFile) == 0 {
		if err == nil {
			f.Close()
		}
		return nil, fmt.Errorf("no run %q", name)
	}
	if len(s.kept) == mostKept {
		s.forget()
	}
	r := &shown{tail: newTail(f), used: s.clock}
	s.kept[name] = r
	return r, nil
}

// forget drops the run that was asked for the longest time ago.
func (s *Server) forget() {
	oldest := ""
	for name, r := range s.kept {
		if oldest == "" || r.used < s.kept[oldest].used {
			oldest = name
		}
	}
	r := s.kept[oldest]
	delete(s.kept, oldest)
	go func() { // a reader may still be at it
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tail.folder.Close()
	}()
}

// see looks at the files, once a second at most, and says which version of them
// it saw.
func (r *shown) see() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.looked) < look {
		return r.version
	}
	r.looked = time.Now()
	h := fnv.New64a()
	f := r.tail.folder
	for _, name := range []string{run.ConfigFile, run.MetricsFile, run.FactsFile, run.PicturesFile, run.FindingsFile, run.EnvironmentFile, "evaluations", "figures"} {
		fmt.Fprintln(h, name, f.Modified(name))
	}
	fmt.Fprintln(h, f.Active())
	r.version = h.Sum64()
	return r.version
}

// html is the run's page. All readers of a second get the same one.
func (r *shown) html() ([]byte, error) {
	version := r.see()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.page != nil && r.pageOf == version {
		return r.page, nil
	}
	loaded, err := report.Load(r.tail.folder)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := loaded.WriteLive(&b); err != nil {
		return nil, err
	}
	r.page, r.pageOf = b.Bytes(), version
	return r.page, nil
}

// answer writes what is ready; a reader has to take it in some time.
func answer(w http.ResponseWriter, contentType string, b []byte) {
	w.Header().Set("Content-Type", contentType)
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
	w.Write(b)
}

func (s *Server) page(w http.ResponseWriter, q *http.Request) {
	r, err := s.open(q.PathValue("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	page, err := r.html()
	if err != nil {
		http.Error(w, "the run cannot be read", http.StatusInternalServerError)
		return
	}
	answer(w, "text/html; charset=utf-8", page)
}

// events sends one event at once and one whenever the run has something new.
func (s *Server) events(w http.ResponseWriter, q *http.Request) {
	name := q.PathValue("name")
	r, err := s.open(name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	c := http.NewResponseController(w)
	send := func(format string, args ...any) bool {
		c.SetWriteDeadline(time.Now().Add(patience))
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && c.Flush() == nil
	}
	sent, at := r.see(), time.Now()
	if !send("retry: 3000\n\n") {
		return
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-q.Context().Done():
			return
		case <-tick.C:
		}
		if r, err = s.open(name); err != nil {
			return
		}
		switch version := r.see(); {
		case version != sent:
			if !send("data: %d\n\n", version) {
				return
			}
			sent, at = version, time.Now()
		case time.Since(at) >= heartbeat:
			if !send(":\n\n") {
				return
			}
			at = time.Now()
		}
	}
}

// names lists the runs, the newest first.
func (s *Server) names(limit int) []string {
	all, err := s.runs.List(".", mostRuns)
	if err != nil {
		return nil
	}
	all = slices.DeleteFunc(all, func(name string) bool { return name == "latest" || strings.HasPrefix(name, ".") })
	slices.Reverse(all)
	return all[:min(len(all), limit)]
}

// entry is a run in the index.
type entry struct{ Name, Href, State, Lead, Clean, Robust, Attack string }

//go:embed index.html
var files embed.FS

var indexTemplate = template.Must(template.ParseFS(files, "index.html"))

// index writes the list of runs, which is made once a second at most.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	s.list.Lock()
	if time.Since(s.listed) >= look {
		s.lines, s.listed = s.makeIndex(), time.Now()
	}
	page := s.lines
	s.list.Unlock()
	answer(w, "text/html; charset=utf-8", page)
}

func (s *Server) makeIndex() []byte {
	var list []entry
	for _, name := range s.names(mostRuns) {
		f, err := s.runs.Folder(name)
		if err != nil {
			continue
		}
		if brief, err := report.LoadBrief(f); err == nil {
			e := entry{Name: name, Href: "runs/" + url.PathEscape(name) + "/", Lead: brief.Lead()}
			if brief.Active {
				e.State = "running"
			}
			if b := brief.Best(); b != nil {
				e.Clean, e.Robust, e.Attack = b.CleanAccuracy.String(), b.RobustAccuracy.String(), b.Under()
			}
			list = append(list, e)
		}
		f.Close()
	}
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(b.State, a.State) }) // running ones first
	var b bytes.Buffer
	if err := indexTemplate.Execute(&b, list); err != nil {
		panic("BUG: live: " + err.Error())
	}
	return b.Bytes()
}

// metrics writes what the newest runs say of themselves.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	var active, step, steps, value strings.Builder
	for _, name := range s.names(mostMetrics) {
		r, err := s.open(name)
		if err != nil {
			continue
		}
		r.mu.Lock()
		err = r.tail.poll()
		label := `run="` + escape(name) + `"`
		fmt.Fprintf(&active, "temper_run_active{%s} %d\n", label, map[bool]int{true: 1}[r.tail.folder.Active()])
		fmt.Fprintf(&step, "temper_run_step{%s} %d\n", label, r.tail.curves.Step)
		if n := r.tail.facts.Steps; n > 0 {
			fmt.Fprintf(&steps, "temper_run_steps{%s} %d\n", label, n)
		}
		for _, series := range r.tail.curves.Names() {
			if c := r.tail.curves.Get(series); c != nil && err == nil {
				fmt.Fprintf(&value, "temper_run_value{%s,name=\"%s\"} %g\n", label, escape(series), c.Last)
			}
		}
		r.mu.Unlock()
	}
	var b bytes.Buffer
	for _, m := range []struct {
		name, help string
		lines      *strings.Builder
	}{
		{"temper_run_active", "Whether a process is writing the run.", &active}, {"temper_run_step", "Steps done.", &step},
		{"temper_run_steps", "Steps of the whole run.", &steps}, {"temper_run_value", "The latest finite value of a number in metrics.jsonl.", &value},
	} {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n%s", m.name, m.help, m.name, m.lines)
	}
	answer(w, "text/plain; version=0.0.4; charset=utf-8", b.Bytes())
}

// escape writes a label's value as Prometheus reads it.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
}
