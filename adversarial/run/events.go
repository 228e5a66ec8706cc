package run

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// TensorBoard's event files are TFRecords (a length, its checksum, the data,
// theirs) of Event messages; the numbers of fields are those of TensorFlow's
// event.proto and summary.proto. Each start of a run has a file of its own, as
// TensorBoard expects: it goes on from one file to the next and never looks back.

const (
	eventsPrefix = "events.out.tfevents." // what TensorBoard knows the files by
	eventsSuffix = ".temper"
)

// The fields of Event that are used, beside time and step.
const (
	eventFileVersion = 3
	eventSummary     = 5
	eventSessionLog  = 7
)

// The fields of a Summary's value that are used, beside its tag.
const (
	valueSimple    = 2
	valueImage     = 4
	valueHistogram = 5
)

func appendMessage(b []byte, field protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), body)
}

// appendValue appends to a Summary a value with its tag.
func appendValue(summary []byte, tag string, field protowire.Number, body []byte) []byte {
	v := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), tag)
	return appendMessage(summary, 1, appendMessage(v, field, body))
}

// picture is the body of an Image value.
func picture(img *image.NRGBA) ([]byte, error) {
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		return nil, err
	}
	size := img.Bounds().Size()
	var b []byte
	for i, v := range []int{size.Y, size.X, 4} { // height, width, colorspace: RGBA
		b = protowire.AppendVarint(protowire.AppendTag(b, protowire.Number(i+1), protowire.VarintType), uint64(v))
	}
	return appendMessage(b, 4, file.Bytes()), nil
}

// sheet draws the examples side by side, nil where they are no images in [0,1]
// of one or three channels: in rows as they were, as attacked, and what was
// added.
func (p *Pictures) sheet() *image.NRGBA {
	if p.Domain != unitDomain || len(p.Labels) == 0 || p.X.Shape[1] != 1 && p.X.Shape[1] != 3 {
		return nil
	}
	largest := float32(math.SmallestNonzeroFloat32)
	added := make([]float32, len(p.X.Values))
	for i, v := range p.X.Values {
		added[i] = p.Adv.Values[i] - v
		largest = max(largest, added[i], -added[i])
	}
	for i, v := range added {
		added[i] = 0.5 + v/largest/2
	}
	n, c, h, w := p.X.Shape[0], p.X.Shape[1], p.X.Shape[2], p.X.Shape[3]
	img := image.NewNRGBA(image.Rect(0, 0, n*(w+1)-1, 3*(h+1)-1)) // a transparent line between them
	for row, values := range [][]float32{p.X.Values, p.Adv.Values, added} {
		for i, v := range values {
			x, y := i/(c*h*w)*(w+1)+i%w, row*(h+1)+i/w%h
			at := img.PixOffset(x, y)
			level := uint8(255*min(max(v, 0), 1) + 0.5)
			img.Pix[at+i/(h*w)%c] = level
			if img.Pix[at+3] = 255; c == 1 {
				img.Pix[at+1], img.Pix[at+2] = level, level
			}
		}
	}
	return img
}

// bins is how many a histogram has.
const bins = 30

// histogram is the body of a HistogramProto value: equal bins from the least
// value to the largest. Values that are not finite are left out.
func histogram(values []float32) []byte {
	low, high, sum, squares, n := math.Inf(1), math.Inf(-1), 0.0, 0.0, 0.0
	for _, v := range values {
		if x := float64(v); x-x == 0 { // finite
			low, high, sum, squares, n = min(low, x), max(high, x), sum+x, squares+x*x, n+1
		}
	}
	if n == 0 {
		low, high = 0, 0
	}
	limits, counts := make([]float64, bins), make([]float64, bins)
	width := (high - low) / bins
	for i := range limits {
		limits[i] = low + float64(i+1)*width
	}
	limits[bins-1] = high
	for _, v := range values {
		if x := float64(v); x-x == 0 {
			i := 0
			if width > 0 {
				i = min(int((x-low)/width), bins-1)
			}
			counts[i]++
		}
	}
	var b []byte
	for i, v := range []float64{low, high, n, sum, squares} {
		b = protowire.AppendFixed64(protowire.AppendTag(b, protowire.Number(i+1), protowire.Fixed64Type), math.Float64bits(v))
	}
	for i, list := range [][]float64{limits, counts} {
		var packed []byte
		for _, v := range list {
			packed = protowire.AppendFixed64(packed, math.Float64bits(v))
		}
		b = appendMessage(b, protowire.Number(6+i), packed)
	}
	return b
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is TFRecord's checksum: one of data that hold checksums stays apart.
func masked(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// events appends to an event file.
type events struct {
	f     *os.File
	size  int64 // of the whole records
	buf   []byte
	sizes []int
}

// openEvents makes the event file of a start of the run in dir, whose records go
// up to step last. A mark tells TensorBoard that later ones, which it may have
// read before they were cut off, count no more.
func openEvents(dir string, last int64) (*events, error) {
	earlier, err := eventFiles(dir)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var path string
	for second := now.Unix(); ; second++ { // TensorBoard reads the files in the order of their names
		path = filepath.Join(dir, fmt.Sprintf("%s%010d%s", eventsPrefix, second, eventsSuffix))
		if len(earlier) == 0 || path > earlier[len(earlier)-1] {
			break
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fileError("write", path, err)
	}
	e := &events{f: f}
	e.begin(now, 0)
	e.buf = appendMessage(e.buf, eventFileVersion, []byte("brain.Event:2"))
	err = e.end()
	if err == nil {
		e.begin(now, last+1)
		start := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1) // status: START
		e.buf = appendMessage(e.buf, eventSessionLog, start)
		err = e.end()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return e, nil
}

// frameHead is the length of what stands before a record's data, frameTail that
// of what follows.
const frameHead, frameTail = 12, 4

// begin starts an event.
func (e *events) begin(now time.Time, step int64) {
	var head [frameHead]byte
	b := append(e.buf[:0], head[:]...)
	b = protowire.AppendTag(b, 1, protowire.Fixed64Type) // wall_time
	b = protowire.AppendFixed64(b, math.Float64bits(float64(now.UnixNano())/1e9))
	b = protowire.AppendTag(b, 2, protowire.VarintType) // step
	e.buf = protowire.AppendVarint(b, uint64(step))
}

// end writes the event, in one write. On an error the file keeps its whole
// records.
func (e *events) end() error {
	binary.LittleEndian.PutUint64(e.buf, uint64(len(e.buf)-frameHead))
	binary.LittleEndian.PutUint32(e.buf[8:], masked(e.buf[:8]))
	e.buf = binary.LittleEndian.AppendUint32(e.buf, masked(e.buf[frameHead:]))
	if _, err := e.f.Write(e.buf); err != nil {
		return fileError("write", e.f.Name(), errors.Join(err, e.f.Truncate(e.size)))
	}
	e.size += int64(len(e.buf))
	return nil
}

// summary writes a Summary as an event.
func (e *events) summary(step int64, summary []byte) error {
	e.begin(time.Now(), step)
	e.buf = appendMessage(e.buf, eventSummary, summary)
	return e.end()
}

// scalars writes numbers, which TensorBoard has in float32, as one event. It
// allocates nothing, since every step of a training does it.
func (e *events) scalars(step int64, fields []Field) error {
	sizes, size := e.sizes[:0], 0
	for _, f := range fields {
		n := protowire.SizeTag(1) + protowire.SizeBytes(len(f.Name)) + protowire.SizeTag(valueSimple) + protowire.SizeFixed32()
		sizes = append(sizes, n)
		size += protowire.SizeTag(1) + protowire.SizeBytes(n)
	}
	e.sizes = sizes
	e.begin(time.Now(), step)
	b := protowire.AppendVarint(protowire.AppendTag(e.buf, eventSummary, protowire.BytesType), uint64(size))
	for i, f := range fields {
		b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.BytesType), uint64(sizes[i]))
		b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), f.Name)
		b = protowire.AppendFixed32(protowire.AppendTag(b, valueSimple, protowire.Fixed32Type), math.Float32bits(float32(f.Value)))
	}
	e.buf = b
	return e.end()
}

// eventFiles lists the event files of the run folder dir in the order in which
// they were made.
func eventFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fileError("read", dir, err)
	}
	var paths []string
	for _, e := range entries { // sorted by name
		if strings.HasPrefix(e.Name(), eventsPrefix) && strings.HasSuffix(e.Name(), eventsSuffix) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}

// cutEvents takes the event files back to the records of step and before, pending
// being Rewind's. A file
// of which nothing stays but its head is removed. A record that is damaged, or
// half written, ends its file.
func cutEvents(dir string, step int64, pending bool) error {
	paths, err := eventFiles(dir)
	if err != nil {
		return err
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return fileError("read", path, err)
		}
		end, summaries := keepEvents(b, step, pending)
		switch {
		case summaries == 0:
			err = os.Remove(path)
		case end < len(b):
			err = os.Truncate(path, int64(end))
		}
		if err != nil {
			return fileError("write", path, err)
		}
	}
	return nil
}

// keepEvents returns the end of the last record of at most step, and the number
// of summaries up to there. An epoch's pictures and histograms stand behind its record.
func keepEvents(b []byte, step int64, pending bool) (end, summaries int) {
	for {
		e, n := frame(b[end:])
		if n == 0 {
			return end, summaries
		}
		at, summary := stepOfEvent(e)
		if at > step || pending && at == step && bytes.Contains(e, []byte(epochField)) {
			return end, summaries
		}
		end += n
		if summary {
			summaries++
		}
	}
}

// frame is the data of the first record of b, and the record's length; 0 if it is
// not whole.
func frame(b []byte) (event []byte, length int) {
	if len(b) < frameHead || masked(b[:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return nil, 0
	}
	n := binary.LittleEndian.Uint64(b)
	if n > uint64(len(b)) || len(b) < frameHead+int(n)+frameTail {
		return nil, 0
	}
	event = b[frameHead:][:n]
	if masked(event) != binary.LittleEndian.Uint32(b[frameHead+n:]) {
		return nil, 0
	}
	return event, frameHead + int(n) + frameTail
}

// stepOfEvent reads an event's step, and whether it is a summary.
func stepOfEvent(e []byte) (step int64, summary bool) {
	for len(e) > 0 {
		field, kind, n := protowire.ConsumeTag(e)
		if n < 0 {
			return step, summary
		}
		e = e[n:]
		if field == 2 && kind == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(e)
			step = int64(v)
		}
		summary = summary || field == eventSummary
		if n = protowire.ConsumeFieldValue(field, kind, e); n < 0 {
			return step, summary
		}
		e = e[n:]
	}
	return step, summary
}
