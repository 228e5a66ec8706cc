package run

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MetricsFile is the name of the metrics in a run folder.
const MetricsFile = "metrics.jsonl"

// Field is one named number. Names group by slash, "train/loss", as
// TensorBoard's do; they have the letters that MLflow's may have: a to z, A to Z,
// 0 to 9, and _-./: and spaces.
type Field struct {
	Name  string
	Value float64
}

// Record is one line of metrics.jsonl:
//
//	{"step":1200,"epoch":3,"train/loss":1.25,"train/accuracy":0.5}
//
// A step and its metrics are what MLflow's log_metrics takes: in Python
//
//	for line in open("metrics.jsonl"):
//	    metrics = json.loads(line)
//	    step = metrics.pop("step")
//	    mlflow.log_metrics({k: float(v) for k, v in metrics.items()}, step=step)
//
// The fields keep their order. JSON has no NaN and no infinities: they stand
// as the strings "NaN", "Infinity" and "-Infinity", which Python's float() and
// JavaScript's Number() read.
type Record struct {
	Step   int64
	Epoch  int
	Fields []Field
}

// Metrics appends what a run measures to metrics.jsonl and, the same and what
// can be looked at besides, to an event file of TensorBoard. It is for one
// goroutine.
type Metrics struct {
	f      *os.File
	events *events
	size   int64 // of the whole lines
	last   int64 // step of the last record
	buf    []byte
}

// OpenMetrics opens metrics.jsonl of the run folder dir to append to, and starts
// an event file. A last line that a killed process left half written is cut off.
func OpenMetrics(dir string) (*Metrics, error) {
	path := filepath.Join(dir, MetricsFile)
	kept, err := cutMetrics(path, math.MaxInt64, false)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fileError("write", path, err)
	}
	e, err := openEvents(dir, kept.step)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Metrics{f: f, events: e, size: kept.end, last: kept.step}, nil
}

// Write appends one record, in one write, so that a killed process loses none
// that Write returned for. Steps must not fall: [Run.Rewind] relies on it. If
// the disk is full both files keep their whole records, and the same ones.
func (m *Metrics) Write(r Record) error {
	if r.Step < m.last {
		panic(fmt.Sprintf("BUG: metrics of step %d after step %d", r.Step, m.last))
	}
	m.buf = appendRecord(m.buf[:0], r)
	if _, err := m.f.Write(m.buf); err != nil {
		// If the cut fails too, the next OpenMetrics makes it.
		return fileError("write", m.f.Name(), errors.Join(err, m.f.Truncate(m.size)))
	}
	if err := m.events.scalars(r.Step, r.Fields); err != nil {
		return errors.Join(err, m.f.Truncate(m.size))
	}
	m.size += int64(len(m.buf))
	m.last = r.Step
	return nil
}

// WritePictures shows TensorBoard the examples of an evaluation, if they are
// images: above each other as they were, as attacked, and the perturbation,
// magnified about grey until the largest is black or white.
func (m *Metrics) WritePictures(step int64, p *Pictures) error {
	img := p.sheet()
	if img == nil {
		return nil
	}
	body, err := picture(img)
	if err != nil {
		return fileError("write", m.events.f.Name(), err)
	}
	return m.events.summary(step, appendValue(nil, "adversarial/examples", valueImage, body))
}

// WriteHistograms shows TensorBoard how the elements of each F32 tensor are
// distributed at that step, under group/NAME.
func (m *Metrics) WriteHistograms(step int64, group string, tensors []Tensor) error {
	var summary []byte
	for _, t := range tensors {
		if t.DType == "F32" {
			v := make([]float32, len(t.Data)/4)
			if _, err := binary.Decode(t.Data, binary.LittleEndian, v); err != nil {
				panic("BUG: run: " + err.Error())
			}
			summary = appendValue(summary, group+"/"+t.Name, valueHistogram, histogram(v))
		}
	}
	return m.events.summary(step, summary)
}

// Sync makes the records durable against power loss. Call it before
// [SaveCheckpoint], so that no checkpoint is ahead of its metrics.
func (m *Metrics) Sync() error {
	for _, f := range []*os.File{m.f, m.events.f} {
		if err := f.Sync(); err != nil {
			return fileError("write", f.Name(), err)
		}
	}
	return nil
}

// Close closes the files.
func (m *Metrics) Close() error { return errors.Join(m.f.Close(), m.events.f.Close()) }

func appendRecord(b []byte, r Record) []byte {
	b = append(b, `{"step":`...)
	b = strconv.AppendInt(b, r.Step, 10)
	b = append(b, `,"epoch":`...)
	b = strconv.AppendInt(b, int64(r.Epoch), 10)
	for i, f := range r.Fields {
		checkField(f.Name, r.Fields[:i])
		b = append(b, ',', '"')
		b = append(b, f.Name...)
		b = append(b, '"', ':')
		b = appendNumber(b, f.Value)
	}
	return append(b, '}', '\n')
}

// checkField panics unless name can stand in a line after the fields before: it
// needs no escapes in JSON.
func checkField(name string, before []Field) {
	bad := name == "step" || name == "epoch" || !metricName(name)
	for _, f := range before {
		bad = bad || f.Name == name
	}
	if bad {
		panic(fmt.Sprintf("BUG: metrics field %q is taken, empty or not of the letters that MLflow takes", name))
	}
}

// metricName reports whether name is a name that MLflow takes.
func metricName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("_-./: ", c))
	})
}

func appendNumber(b []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(b, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(b, `"-Infinity"`...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// ReadMetrics reads metrics.jsonl of the run folder dir, also while a process
// is writing it: a last line without its end is left out.
func ReadMetrics(dir string) (records []Record, err error) {
	f, err := OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_, err = f.Metrics(0, func(r Record) { records = append(records, r) })
	return records, err
}

// maxRecord bounds the length of a line: temper writes none that is longer.
const maxRecord = 64 << 10

// scanMetrics calls visit with each whole line's record and the offset of its
// end.
func scanMetrics(r io.Reader, visit func(r Record, end int64) error) error {
	b := bufio.NewReaderSize(r, maxRecord)
	end := int64(0)
	for number := 1; ; number++ {
		line, err := b.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("line %d: longer than %d bytes", number, maxRecord)
		case err != nil:
			return err
		}
		end += int64(len(line))
		rec, err := parseRecord(line[:len(line)-1])
		if err == nil {
			err = visit(rec, end)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
}

// kept is what stays of a metrics file after a cut.
type kept struct {
	end  int64 // its size
	step int64 // of its last record; 0 if there is none
}

// epochField begins the name of what an epoch's record, and no step's, has.
const epochField = "epoch/"

// cutMetrics truncates the file after its last whole line of at most step; pending is
// Rewind's. A file that does not exist has nothing to cut.
func cutMetrics(path string, step int64, pending bool) (kept, error) {
	var k kept
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, fileError("write", path, err)
	}
	defer f.Close()
	err = scanMetrics(f, func(r Record, end int64) error {
		if r.Step < k.step {
			return fmt.Errorf("step %d stands after step %d", r.Step, k.step)
		}
		if r.Step > step || pending && r.Step == step && slices.ContainsFunc(r.Fields, func(f Field) bool { return strings.HasPrefix(f.Name, epochField) }) {
			return io.EOF // the steps only rise: nothing after this stays
		}
		k = kept{end: end, step: r.Step}
		return nil
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return k, fileError("read", path, err)
	}
	if err := f.Truncate(k.end); err != nil {
		return k, fileError("write", path, err)
	}
	if err := f.Sync(); err != nil {
		return k, fileError("write", path, err)
	}
	return k, nil
}

func parseRecord(line []byte) (Record, error) {
	r, err := newJSONReader(line)
	if err != nil {
		return Record{}, err
	}
	rec := Record{Step: -1, Epoch: -1}
	err = r.object(func(key string) error {
		switch key {
		case "step":
			n, err := r.int()
			rec.Step = int64(n)
			return err
		case "epoch":
			n, err := r.int()
			rec.Epoch = n
			return err
		}
		v, err := r.number()
		rec.Fields = append(rec.Fields, Field{key, v})
		return err
	})
	if err != nil {
		return Record{}, err
	}
	if rec.Step < 0 || rec.Epoch < 0 {
		return Record{}, errors.New("needs step and epoch")
	}
	return rec, r.end(len(line))
}

// number reads what appendNumber writes.
func (r *jsonReader) number() (float64, error) {
	tok, err := r.token()
	if err != nil {
		return 0, err
	}
	switch v := tok.(type) {
	case json.Number:
		return v.Float64()
	case string:
		switch v {
		case "NaN":
			return math.NaN(), nil
		case "Infinity":
			return math.Inf(1), nil
		case "-Infinity":
			return math.Inf(-1), nil
		}
	}
	return 0, fmt.Errorf("%v is not a number", tok)
}
