package live

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"temper/adversarial/run"
)

const config = "[training]\nmethod = 'pgd-at'\n[model]\nname = 'cifar-small'\n[data]\nname = 'cifar10'\n"

// writer is a training in progress, as far as its folder shows.
type writer struct {
	t *testing.T
	*run.Run
	metrics *run.Metrics
	step    int
}

func startRun(t *testing.T, root, name string) *writer {
	t.Helper()
	r, err := run.Create(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{t: t, Run: r}
	w.file(run.ConfigFile, config)
	if err := run.WriteFacts(r.Dir, run.Facts{Steps: 100, PerEpoch: 10, Batch: 50, Device: "cpu: a processor (2 threads); as asked", StateBytes: 3000, ProgramBytes: 5_000_000}); err != nil {
		t.Fatal(err)
	}
	if w.metrics, err = run.OpenMetrics(r.Dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.metrics.Close(); w.Close() })
	return w
}

func (w *writer) file(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.Dir, name), []byte(text), 0o666); err != nil {
		w.t.Fatal(err)
	}
}

// train does so many steps, and evaluates after each tenth.
func (w *writer) train(steps int) {
	w.t.Helper()
	for range steps {
		w.step++
		w.write(run.Field{Name: "train/loss", Value: 2 / float64(w.step)}, run.Field{Name: "train/lr", Value: 0.1})
		if w.step%10 == 0 {
			w.write(run.Field{Name: "test/clean", Value: 0.5}, run.Field{Name: "test/robust", Value: 0.25}, run.Field{Name: "time/step", Value: 0.1}, run.Field{Name: "time/attack", Value: 0.06})
		}
	}
}

func (w *writer) write(fields ...run.Field) {
	w.t.Helper()
	if err := w.metrics.Write(run.Record{Step: int64(w.step), Epoch: w.step / 10, Fields: fields}); err != nil {
		w.t.Fatal(err)
	}
}

// TestWatch follows a run to its end, plain and on a terminal, and shows one that
// was stopped.
func TestWatch(t *testing.T) {
	w := startRun(t, t.TempDir(), "run")
	w.train(20)
	var b bytes.Buffer
	if err := Watch(context.Background(), &b, w.Dir, WatchOptions{Once: true}); err != nil {
		t.Fatal(err)
	}
	want := `run  running
pgd-at · cifar-small · cifar10
step 20/100  epoch 2/10  500 images/s  ETA 8s
loss          0.1        █▄▃▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
clean         50.0 %     ▅▅
robust        25.0 %     ▃▃
learning rate 0.1        ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
a step        100 ms  attack 60 %
memory        3 kB of state, 5 MB a step beside it
device        cpu: a processor (2 threads)
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	facts := run.Facts{Steps: 100, PerEpoch: 10, Batch: 50, Device: "cuda:0: a GPU", DeviceBytes: 150_000_000_000}
	if err := run.WriteFacts(w.Dir, facts); err != nil {
		t.Fatal(err)
	}
	w.write(run.Field{Name: run.MemoryUsed, Value: 12_300_000_000})
	b.Reset()
	if err := Watch(context.Background(), &b, w.Dir, WatchOptions{Once: true}); err != nil || !strings.Contains(b.String(), "device memory 12.3 GB of 150 GB in use (8 %)\n") {
		t.Errorf("%v; the device's memory is missing in\n%s", err, b.String())
	}
	for width, marks := range map[int][]string{0: {"step 20/100  epoch 2/10  clean 50.0 %  robust 25.0 %", "step 30/100  epoch 3/10", "run  stopped before its end\n", "go on with: temper train --resume "}, 60: {"\x1b[J", "A\x1b[J", "stopped before"}} {
		w := startRun(t, t.TempDir(), "run")
		w.train(20)
		var out bytes.Buffer
		done := make(chan error)
		go func() {
			o := WatchOptions{Interval: 10 * time.Millisecond}
			if width > 0 {
				o.Size = func() (int, int) { return width, 40 }
			}
			done <- Watch(context.Background(), &out, w.Dir, o)
		}()
		time.Sleep(100 * time.Millisecond)
		w.train(10)
		time.Sleep(100 * time.Millisecond)
		w.Close()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("watch goes on after the run's end")
		}
		for _, m := range marks {
			if !strings.Contains(out.String(), m) {
				t.Errorf("width %d: the output lacks %q:\n%q", width, m, out.String())
			}
		}
		if width > 0 {
			shown, _, _ := strings.Cut(out.String(), "go on with: ") // which may wrap
			for line := range strings.Lines(shown) {
				if n := len([]rune(strings.TrimPrefix(line[strings.LastIndex(line, "\x1b[")+1:], "[J"))); n > width+1 {
					t.Errorf("a line of %d columns on a terminal of %d: %q", n, width, line)
				}
			}
		}
	}
}

// TestWatchIsSafe shows names that would take over a terminal as dots.
// TestWatchJSON follows a run to its end, an object a line.
func TestWatchJSON(t *testing.T) {
	w := startRun(t, t.TempDir(), "run")
	w.train(20)
	var out bytes.Buffer
	done := make(chan error)
	go func() {
		done <- Watch(context.Background(), &out, w.Dir, WatchOptions{JSON: true, Interval: 10 * time.Millisecond})
	}()
	time.Sleep(100 * time.Millisecond)
	w.train(10)
	time.Sleep(100 * time.Millisecond)
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var seen []Progress
	for line := range strings.Lines(out.String()) {
		var p Progress
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		seen = append(seen, p)
	}
	if len(seen) < 2 {
		t.Fatalf("%d objects: %s", len(seen), &out)
	}
	first, last := seen[0], seen[len(seen)-1]
	if first.Run != "run" || first.State != "running" || first.Step != 20 || first.Steps != 100 || first.Epoch != 2 || math.Abs(first.Seconds-8) > 1e-9 || first.Values["test/robust"] != 0.25 || first.Values["train/loss"] != 0.1 {
		t.Errorf("first: %+v", first)
	}
	if last.State != "stopped before its end" || last.Step != 30 || last.Seconds != 0 {
		t.Errorf("last: %+v", last)
	}
}

// TestWatchResized redraws the view on terminals that change their size: what is
// left of the old lines, wrapped by a narrower terminal, is taken away, and no more
// is drawn than a low one has room for.
func TestWatchResized(t *testing.T) {
	w := startRun(t, t.TempDir(), "run")
	w.train(20)
	f, err := run.OpenFolder(w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v := &view{tail: newTail(f), name: "run", lead: strings.Repeat("x", 100)}
	if err := v.poll(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ columns, rows, up, lines int }{
		{90, 40, 0, 10},
		{90, 40, 10, 10},
		{40, 40, 10 + 7, 10}, // one line was wrapped twice, five once
		{40, 6, 5, 5},
		{90, 40, 5, 10},
	} {
		var b bytes.Buffer
		v.redraw(&b, true, func() (int, int) { return c.columns, c.rows })
		move := "\x1b[J"
		if c.up > 0 {
			move = fmt.Sprintf("\x1b[%dA\x1b[J", c.up)
		}
		if rest, ok := strings.CutPrefix(b.String(), move); !ok || strings.Count(rest, "\n") != c.lines || strings.Contains(rest, "\x1b") {
			t.Errorf("%+v: %q", c, b.String())
		}
	}
}

func TestWatchIsSafe(t *testing.T) {
	w := startRun(t, t.TempDir(), "run")
	w.file(run.FactsFile, `{"steps":5,"device":"\u001b]0;owned\u0007\u009b"}`)
	w.file(run.ConfigFile, "[training]\nmethod = \"\\u001b[2J\"\n")
	w.file(run.MetricsFile, `{"step":1,"epoch":0,"train/loss":"NaN"}`+"\n")
	var b bytes.Buffer
	if err := Watch(context.Background(), &b, w.Dir, WatchOptions{Once: true}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\x07\u009b") || !strings.Contains(b.String(), "train/loss was not finite 1 times, first at step 1") {
		t.Errorf("%q", b.String())
	}
}

func TestRewoundRunIsReadAgain(t *testing.T) {
	w := startRun(t, t.TempDir(), "run")
	w.train(30)
	f, err := run.OpenFolder(w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v := newTail(f)
	if err := v.poll(); err != nil || v.curves.Step != 30 {
		t.Fatal(err, v.curves.Step)
	}
	if err := w.Rewind(20, false); err != nil {
		t.Fatal(err)
	}
	if err := v.poll(); err != nil || v.curves.Step != 20 || len(v.curves.Get("test/clean").Points) != 2 {
		t.Errorf("%v, step %d", err, v.curves.Step)
	}
}

// get asks a server of runs.
func get(t *testing.T, h http.Handler, target, host string) *httptest.ResponseRecorder {
	t.Helper()
	q := httptest.NewRequest("GET", "/", nil)
	q.RequestURI = target
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	q.URL, q.Host = u, host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	return w
}

// sample is a line of Prometheus' text format, version 0.0.4: a metric's name, its
// labels, whose values escape \, " and line ends, and a number.
var sample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\[\\"n])*",?)*\})? (\S+)$`)

// TestPrometheus reads what /metrics says as the format's specification has it, with
// names of runs and of numbers that need care.
func TestPrometheus(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"20261123-a", `20261123-"b`, "20261123-c\nd", "latest"} {
		startRun(t, root, name).train(10)
	}
	odd := startRun(t, root, "odd")
	odd.file(run.MetricsFile, `{"step":1,"epoch":0,"a \"name\\":1e-300,"nan":"NaN","inf":"Infinity"}`+"\n")
	got := get(t, newTestServer(t, root).Handler(), "/metrics", "localhost")
	if kind := got.Header().Get("Content-Type"); kind != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("content type %q", kind)
	}
	family, seen := "", map[string]bool{}
	for line := range strings.Lines(got.Body.String()) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			if kind != "gauge" || seen[name] || family != name {
				t.Errorf("%q: want a gauge that its help was just given for, once", line)
			}
			seen[name] = true
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			family, _, _ = strings.Cut(rest, " ")
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil || m[1] != family || seen[m[1]+m[2]] {
			t.Errorf("%q is no sample of %s, or a second one", line, family)
			continue
		}
		seen[m[1]+m[2]] = true
		if v, err := strconv.ParseFloat(m[3], 64); err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			t.Errorf("%q: %v, %v", line, v, err)
		}
	}
	for _, want := range []string{`temper_run_step{run="20261123-\"b"}`, `temper_run_step{run="20261123-c\nd"}`, `temper_run_value{run="odd",name="a \"name\\"}`} {
		if !seen[want] {
			t.Errorf("no sample %s in %s", want, got.Body)
		}
	}
}

func newTestServer(t *testing.T, root string) *Server {
	t.Helper()
	s, err := NewServer(root, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestServer(t *testing.T) {
	root := t.TempDir()
	w := startRun(t, root, "20261123-a")
	w.train(20)
	if err := os.Mkdir(filepath.Join(w.Dir, "evaluations"), 0o777); err != nil {
		t.Fatal(err)
	}
	w.file("evaluations/training.json", `{"attack":"PGD-7","n":100,"clean_accuracy":{"value":0.5,"low":0.4,"high":0.6},"robust_accuracy":{"value":0.25,"low":0.17,"high":0.35},"settings":{"split":"test"}}`)
	h := newTestServer(t, root).Handler()
	const host = "127.0.0.1:8080"
	for target, want := range map[string][]string{
		"/":                  {`<a href="runs/20261123-a/">20261123-a</a>`, "running", "pgd-at · cifar-small", ">25.0 % [17.0, 35.0]<", ">PGD-7, 100 test examples<"},
		"/runs/20261123-a/":  {"<title>temper: 20261123-a</title>", `new EventSource("events")`, "Training loss. a step: 2 at step 1"},
		"/metrics":           {"# TYPE temper_run_value gauge", `temper_run_active{run="20261123-a"} 1`, `temper_run_step{run="20261123-a"} 20`, `temper_run_value{run="20261123-a",name="train/loss"} 0.1`},
		"/runs/none/":        {`no run "none"`},
		"/runs/20261123-a/x": {"404"},
	} {
		got := get(t, h, target, host)
		for _, part := range want {
			if !strings.Contains(got.Body.String(), part) {
				t.Errorf("%s: %d, lacks %q:\n%.500s", target, got.Code, part, got.Body)
			}
		}
		if csp := got.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "script-src 'sha256-") {
			t.Errorf("%s: policy %q", target, csp)
		}
	}
	for host, code := range map[string]int{"localhost:8080": 200, "[::1]:8080": 200, "10.0.0.7": 200, "evil.example:8080": 421, "": 421} {
		if got := get(t, h, "/", host); got.Code != code {
			t.Errorf("host %q: %d, want %d", host, got.Code, code)
		}
	}
	q := httptest.NewRequest("POST", "/runs/20261123-a/", strings.NewReader("x"))
	q.Host = host
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, q)
	if answer.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", answer.Code)
	}
	if _, err := NewServer(w.Dir, false); err == nil || !strings.HasSuffix(err.Error(), "is a run: give the folder of runs around it") {
		t.Errorf("serving a run: %v", err)
	}
}

// TestTraversal asks for what lies outside the folder in every way that is known.
func TestTraversal(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "runs")
	startRun(t, root, "inside").train(1)
	outside := startRun(t, top, "outside")
	outside.file(run.ConfigFile, "secret = 'xyzzy'\n")
	for link, to := range map[string]string{"link": "../outside", "absolute": outside.Dir, "up": ".."} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	evil := startRun(t, root, "evil")
	if err := os.Remove(filepath.Join(evil.Dir, run.ConfigFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../outside/config.toml", filepath.Join(evil.Dir, run.ConfigFile)); err != nil {
		t.Fatal(err)
	}
	h := newTestServer(t, root).Handler()
	for _, name := range []string{"..", "%2e%2e", "..%2foutside", "%2e%2e%2foutside", "..%5coutside", "%2foutside", "link", "absolute", "up", "up%2foutside", "evil", "inside%2f..%2f..%2foutside",
		"%252e%252e%252foutside", "%00", "inside%00", ".", "", "inside/../../outside", "./../outside", strings.ReplaceAll(outside.Dir, "/", "%2f")} {
		for _, end := range []string{"/", "/events", ""} {
			got := get(t, h, "/runs/"+name+end, "127.0.0.1")
			if got.Code == 200 || strings.Contains(got.Body.String(), "xyzzy") {
				t.Errorf("/runs/%s%s: %d %.200s", name, end, got.Code, got.Body)
			}
		}
	}
	for _, target := range []string{"/", "/metrics"} {
		if got := get(t, h, target, "127.0.0.1").Body.String(); strings.Contains(got, "xyzzy") || strings.Contains(got, "outside") || !strings.Contains(got, "inside") {
			t.Errorf("%s: %s", target, got)
		}
	}
}

// openDescriptors counts this process's open files and connections, where the
// system tells.
func openDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// TestManyReaders has 200 readers, some of whom do not read, look at a run that
// trains: the training is not slowed by locks, no goroutine or connection is
// left, and memory stays bounded. TEMPER_SERVE_SECONDS makes it longer than two
// seconds.
func TestManyReaders(t *testing.T) {
	seconds := 2.0
	if v := os.Getenv("TEMPER_SERVE_SECONDS"); v != "" {
		var err error
		if seconds, err = strconv.ParseFloat(v, 64); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	w := startRun(t, root, "run")
	w.train(20)
	before := runtime.NumGoroutine()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	descriptors := openDescriptors() - 1 // the listener's, which will be closed
	s, err := NewServer(root, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	address := l.Addr().String()

	var pages, events, failures atomic.Int64
	enough := func() bool { return pages.Load() >= 100 && events.Load() >= 50 }
	over := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 200 {
		readers.Go(func() {
			switch i % 4 {
			case 0: // asks for the page and reads none of it, or byte by byte
				c, err := net.Dial("tcp", address)
				if err != nil {
					failures.Add(1)
					return
				}
				defer c.Close()
				c.(*net.TCPConn).SetReadBuffer(2048)
				fmt.Fprintf(c, "GET /runs/run/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-over:
						return
					case <-tick.C:
						if i%8 == 0 {
							c.SetReadDeadline(time.Now().Add(time.Second))
							c.Read(make([]byte, 1))
						}
					}
				}
			case 1: // follows the run
				c, err := net.Dial("tcp", address)
				if err != nil {
					failures.Add(1)
					return
				}
				go func() {
					<-over
					c.Close()
				}()
				fmt.Fprintf(c, "GET /runs/run/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
				for lines := bufio.NewScanner(c); lines.Scan(); {
					if strings.HasPrefix(lines.Text(), "data: ") {
						events.Add(1)
					}
				}
			default: // loads page after page
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for {
					select {
					case <-over:
						return
					default:
					}
					r, err := client.Get("http://" + address + []string{"/runs/run/", "/metrics", "/"}[i%3])
					if err != nil {
						if failures.Add(1) == 1 {
							t.Log(err)
						}
						continue
					}
					if n, _ := io.Copy(io.Discard, r.Body); n > 0 && r.StatusCode == 200 {
						pages.Add(1)
					}
					r.Body.Close()
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	slowest := time.Duration(0) // write of the training
	for started := time.Now(); time.Since(started).Seconds() < seconds || !enough() && time.Since(started) < time.Minute; {
		began := time.Now()
		w.train(1)
		slowest = max(slowest, time.Since(began))
		time.Sleep(20 * time.Millisecond)
	}
	close(over)
	readers.Wait()
	stop()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server does not end")
	}
	http.DefaultClient.CloseIdleConnections()
	for i := 0; runtime.NumGoroutine() > before && i < 100; i++ {
		time.Sleep(50 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before:\n%s", n, before, stacks[:runtime.Stack(stacks, true)])
	}
	s.Close()
	if n := openDescriptors(); n > descriptors {
		t.Errorf("%d open descriptors, %d before", n, descriptors)
	}
	if slowest > 5*time.Second { // a reader's patience is 20 s: the training has waited for one
		t.Errorf("a write of the training took %v", slowest)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d pages, %d events, %d failures; slowest write of the run %v; heap %d MB", pages.Load(), events.Load(), failures.Load(), slowest, m.HeapAlloc>>20)
	if !enough() || failures.Load() > 0 {
		t.Errorf("%d pages, %d events, %d failures", pages.Load(), events.Load(), failures.Load())
	}
	if m.HeapAlloc > 200<<20 {
		t.Errorf("the heap has %d MB after the server's end", m.HeapAlloc>>20)
	}
}
