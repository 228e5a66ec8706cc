package run

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Checkpoint is a point that training can go on from.
type Checkpoint struct {
	Step    int64 // optimiser steps taken, ≥ 0
	Epoch   int   // whole epochs seen, ≥ 0
	Tensors []Tensor
	Meta    map[string]string // what is not an array: generator position, data cursor, …
}

// DefaultKeep is how many step checkpoints a run keeps if nobody says.
const DefaultKeep = 3

// The names of the checkpoints that [SaveNamed] writes.
const (
	BestCheckpoint = "best"
	GoodCheckpoint = "good"
)

// ErrNoCheckpoint is returned by [LatestCheckpoint] for a run that has not
// saved one yet.
var ErrNoCheckpoint = errors.New("no checkpoint")

const (
	checkpointDir = "checkpoints"
	tensorsExt    = ".safetensors"

	// reserved starts the metadata keys that belong to this package.
	reserved = "temper."
	keyStep  = reserved + "step"
	keyEpoch = reserved + "epoch"
	keySHA   = reserved + "sha256"
)

// CheckpointName is the name of step's checkpoint, "step-00001200".
func CheckpointName(step int64) string { return fmt.Sprintf("step-%08d", step) }

// stepOf is the inverse of CheckpointName.
func stepOf(name string) (int64, bool) {
	digits, ok := strings.CutPrefix(name, "step-")
	if !ok {
		return 0, false
	}
	step, err := strconv.ParseInt(digits, 10, 64)
	return step, err == nil && CheckpointName(step) == name
}

func checkpointPath(dir, name string) string {
	return filepath.Join(dir, checkpointDir, name+tensorsExt)
}

// SaveCheckpoint writes checkpoints/step-….safetensors in the run folder dir,
// whole or not at all, and then removes all but the newest keep of the step
// checkpoints up to this one; keep 0 removes none. The file is an ordinary
// safetensors file whose metadata holds Meta, the step, the epoch, and a
// SHA-256 of the whole file.
func SaveCheckpoint(dir string, ck *Checkpoint, keep int) error {
	if err := writeCheckpoint(dir, CheckpointName(ck.Step), ck); err != nil {
		return err
	}
	if keep <= 0 {
		return nil
	}
	steps, err := CheckpointSteps(dir)
	if err != nil {
		return err
	}
	older := slices.DeleteFunc(steps, func(s int64) bool { return s > ck.Step })
	return removeCheckpoints(dir, older[min(keep, len(older)):])
}

// SaveNamed writes checkpoints/NAME.safetensors, which no later
// [SaveCheckpoint] removes: BestCheckpoint, the one that is to count, or
// GoodCheckpoint, the one that a run goes back to. It is a file of its own, so
// that a bad sector in one checkpoint cannot take two.
func SaveNamed(dir, name string, ck *Checkpoint) error {
	return writeCheckpoint(dir, name, ck)
}

// writeCheckpoint seals ck with the SHA-256 of its own file, taken with the
// digits of the SHA-256 themselves set to '0'. One file then says of itself
// whether it is whole: there is no index to fall out of step with it.
func writeCheckpoint(dir, name string, ck *Checkpoint) error {
	meta := maps.Clone(ck.Meta)
	if meta == nil {
		meta = map[string]string{}
	}
	for key := range meta {
		if strings.HasPrefix(key, reserved) {
			panic("BUG: checkpoint metadata " + key + ": keys in " + reserved + " are reserved")
		}
	}
	meta[keyStep] = strconv.FormatInt(ck.Step, 10)
	meta[keyEpoch] = strconv.Itoa(ck.Epoch)
	meta[keySHA] = strings.Repeat("0", hex.EncodedLen(sha256.Size))
	path := checkpointPath(dir, name)
	header, list, err := encodeHeader(&Tensors{List: ck.Tensors, Metadata: meta})
	if err != nil {
		return fileError("write", path, err)
	}
	digits := sealDigits(header)
	hash := sha256.New()
	if err := writeParts(hash, header, list); err != nil {
		panic("BUG: SHA-256 failed: " + err.Error())
	}
	hex.Encode(digits, hash.Sum(nil))
	return WriteFileAtomic(path, func(w io.Writer) error { return writeParts(w, header, list) })
}

// sealDigits is the part of header that holds the digits of the SHA-256, or
// nil. The pattern cannot occur inside a JSON string, where each quote has a
// backslash before it, nor as a tensor's name, which { follows.
func sealDigits(header []byte) []byte {
	pattern := []byte(`"` + keySHA + `":"`)
	at := bytes.Index(header, pattern)
	if at < 0 || len(header)-at-len(pattern) < hex.EncodedLen(sha256.Size) {
		return nil
	}
	digits := header[at+len(pattern):]
	return digits[:hex.EncodedLen(sha256.Size)]
}

// CorruptError says that a checkpoint is damaged, and what to do about it.
type CorruptError struct {
	Name   string // "step-00001200"
	Reason string // "SHA-256 differs"
	// Good is the newest older checkpoint that is whole, or "" if there is
	// none. Only [LatestCheckpoint] looks for it.
	Good   string
	latest bool
}

func (e *CorruptError) Error() string {
	s := fmt.Sprintf("checkpoint %s%s is corrupt (%s)", e.Name, tensorsExt, e.Reason)
	switch {
	case e.Good != "":
		s += fmt.Sprintf("; the one before it, %s, is good: resume from it with --resume-from %s", e.Good, e.Good)
	case e.latest:
		s += "; no earlier one is good: start a new run"
	}
	return s
}

// LatestCheckpoint loads the newest step checkpoint of the run folder dir. A
// damaged one is a [*CorruptError] that names the newest good one before it:
// going back silently would change a run without a word. Without any step
// checkpoint it returns [ErrNoCheckpoint].
func LatestCheckpoint(dir string) (*Checkpoint, error) {
	steps, err := CheckpointSteps(dir)
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("%w in %s yet", ErrNoCheckpoint, filepath.Join(dir, checkpointDir))
	}
	ck, err := LoadCheckpoint(dir, CheckpointName(steps[0]))
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		return ck, err
	}
	corrupt.latest = true
	for _, step := range steps[1:] {
		if _, err := LoadCheckpoint(dir, CheckpointName(step)); err == nil {
			corrupt.Good = CheckpointName(step)
			break
		}
	}
	return nil, corrupt
}

// LoadCheckpoint loads one checkpoint of the run folder dir by name,
// "step-00001200" or "best" (the file's extension may follow), and checks every
// byte of it. A damaged one is a [*CorruptError]; an unknown name is an error
// that lists the known ones.
func LoadCheckpoint(dir, name string) (*Checkpoint, error) {
	name = strings.TrimSuffix(name, tensorsExt)
	f, size, err := openSized(checkpointPath(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, unknownCheckpoint(dir, name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ck, err := readCheckpoint(f, size)
	if err == nil {
		if step, ok := stepOf(name); ok && step != ck.Step {
			err = fmt.Errorf("it holds step %d", ck.Step)
		}
	}
	if err != nil {
		return nil, &CorruptError{Name: name, Reason: err.Error()}
	}
	return ck, nil
}

func readCheckpoint(r io.Reader, size int64) (*Checkpoint, error) {
	header, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	digits := sealDigits(header)
	if digits == nil {
		return nil, errors.New("it carries no SHA-256 of temper's")
	}
	want := string(digits)
	copy(digits, strings.Repeat("0", len(digits)))
	hash := sha256.New()
	hash.Write(header)
	t, err := readTensors(io.TeeReader(r, hash), header, size)
	if err != nil {
		return nil, err
	}
	if hex.EncodeToString(hash.Sum(nil)) != want {
		return nil, errors.New("SHA-256 differs")
	}
	ck := &Checkpoint{Tensors: t.List, Meta: t.Metadata}
	var errStep, errEpoch error
	ck.Step, errStep = strconv.ParseInt(ck.Meta[keyStep], 10, 64)
	ck.Epoch, errEpoch = strconv.Atoi(ck.Meta[keyEpoch])
	if errStep != nil || errEpoch != nil {
		return nil, errors.New("it names no step or no epoch")
	}
	maps.DeleteFunc(ck.Meta, func(key, _ string) bool { return strings.HasPrefix(key, reserved) })
	return ck, nil
}

func unknownCheckpoint(dir, name string) error {
	steps, err := CheckpointSteps(dir)
	if err != nil {
		return err
	}
	var names []string
	for _, s := range steps {
		names = append(names, CheckpointName(s))
	}
	for _, name := range []string{BestCheckpoint, GoodCheckpoint} {
		if _, err := os.Stat(checkpointPath(dir, name)); err == nil {
			names = append(names, name)
		}
	}
	have := "there is none yet"
	if len(names) > 0 {
		have = "there are " + strings.Join(names, ", ")
	}
	return fmt.Errorf("no checkpoint %q in %s: %s", name, filepath.Join(dir, checkpointDir), have)
}

// CheckpointSteps lists the step checkpoints of the run folder dir by name,
// newest first; none of them has been read.
func CheckpointSteps(dir string) ([]int64, error) {
	path := filepath.Join(dir, checkpointDir)
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fileError("read", path, err)
	}
	var steps []int64
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), tensorsExt); ok {
			if step, ok := stepOf(name); ok {
				steps = append(steps, step)
			}
		}
	}
	slices.Sort(steps)
	slices.Reverse(steps)
	return steps, nil
}

func removeCheckpoints(dir string, steps []int64) error {
	for _, step := range steps {
		path := checkpointPath(dir, CheckpointName(step))
		if err := os.Remove(path); err != nil {
			return fileError("remove", path, err)
		}
	}
	return nil
}
