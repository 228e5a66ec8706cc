package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Folder reads a run folder that another process may be writing, or that comes
// from somebody else: no name and no symbolic link leads out of it, what is no
// regular file is refused, and what is read whole is bounded.
type Folder struct {
	Dir  string
	root *os.Root
}

// OpenFolder opens the run folder dir. A link such as runs/latest is followed.
func OpenFolder(dir string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fileError("read", dir, err)
	}
	return &Folder{Dir: dir, root: root}, nil
}

// Folder opens a run folder inside this one by its name. A link that leads out
// is refused.
func (f *Folder) Folder(name string) (*Folder, error) {
	root, err := f.root.OpenRoot(name)
	if err != nil {
		return nil, fileError("read", filepath.Join(f.Dir, name), err)
	}
	return &Folder{Dir: filepath.Join(f.Dir, name), root: root}, nil
}

// Close closes the folder.
func (f *Folder) Close() error { return f.root.Close() }

// open opens a regular file and returns its size.
func (f *Folder) open(name string) (*os.File, int64, error) {
	path := filepath.Join(f.Dir, name)
	file, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe must not make the reader wait
	if err != nil {
		return nil, 0, fileError("read", path, err)
	}
	return sized(file, path)
}

// maxSmall bounds a file that is read whole.
const maxSmall = 16 << 20

// Read returns the content of a regular file of at most 16 MiB.
func (f *Folder) Read(name string) ([]byte, error) {
	file, size, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size > maxSmall {
		return nil, fmt.Errorf("read %s: %d bytes are too many: temper writes at most %d", filepath.Join(f.Dir, name), size, maxSmall)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxSmall))
	if err != nil {
		return nil, fileError("read", filepath.Join(f.Dir, name), err)
	}
	return b, nil
}

// List names the newest entries of a folder inside this one, at most limit, in
// ascending order: names begin with dates. A folder that is not there is empty.
func (f *Folder) List(name string, limit int) ([]string, error) {
	dir, err := f.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fileError("read", filepath.Join(f.Dir, name), err)
	}
	defer dir.Close()
	var names []string
	for {
		some, err := dir.Readdirnames(1000)
		names = append(names, some...)
		slices.Sort(names)
		names = names[max(0, len(names)-limit):]
		if err == io.EOF {
			return names, nil
		}
		if err != nil {
			return nil, fileError("read", filepath.Join(f.Dir, name), err)
		}
	}
}

// Modified is when a file was written last, in nanoseconds, or 0: it tells
// whether it must be read again.
func (f *Folder) Modified(name string) int64 {
	info, err := f.root.Stat(name)
	if err != nil {
		return 0
	}
	return info.ModTime().UnixNano()
}

// ErrRewound says that a run was taken back to a checkpoint: what was read of
// its metrics is to be forgotten, and read again from the start.
var ErrRewound = errors.New("the run was taken back to an earlier step")

// Metrics calls visit with each record of metrics.jsonl that starts at byte
// from or later, and returns where the next one will start: a reader that
// follows a run goes on from there. It keeps one line in memory. A last line
// without its end is left for the next call. If the file has become shorter
// than from, the error is [ErrRewound].
func (f *Folder) Metrics(from int64, visit func(Record)) (next int64, err error) {
	file, size, err := f.open(MetricsFile)
	if err != nil {
		return from, err
	}
	defer file.Close()
	if size < from {
		return from, ErrRewound
	}
	if _, err = file.Seek(from, io.SeekStart); err == nil {
		next = from
		err = scanMetrics(file, func(r Record, end int64) error {
			visit(r)
			next = from + end
			return nil
		})
	}
	if err != nil {
		return next, fileError("read", filepath.Join(f.Dir, MetricsFile), err)
	}
	return next, nil
}

// Facts reads facts.json.
func (f *Folder) Facts() (facts Facts, err error) { return facts, f.json(FactsFile, &facts) }

// Findings reads findings.json.
func (f *Folder) Findings() (found Findings, err error) { return found, f.json(FindingsFile, &found) }

// Environments reads environment.json, the first start first.
func (f *Folder) Environments() (list []Environment, err error) {
	return list, f.json(EnvironmentFile, &list)
}

func (f *Folder) json(name string, v any) error {
	b, err := f.Read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fileError("read", filepath.Join(f.Dir, name), err)
	}
	return nil
}

// Tensors reads a small safetensors file.
func (f *Folder) Tensors(name string) (*Tensors, error) {
	file, size, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	path := filepath.Join(f.Dir, name)
	if size > maxSmall {
		return nil, fmt.Errorf("read %s: %d bytes are too many: temper writes at most %d", path, size, maxSmall)
	}
	t, err := ReadSafetensors(file, size)
	if err != nil {
		return nil, fileError("read", path, err)
	}
	return t, nil
}

// Active reports whether a process is writing the run.
func (f *Folder) Active() bool {
	file, _, err := f.open(lockFile)
	if err != nil {
		return false
	}
	defer file.Close() // gives the lock back
	return errors.Is(unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}
