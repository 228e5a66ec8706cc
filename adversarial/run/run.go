package run

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockFile   = "lock"
	latestLink = "latest"
)

// Run is a run folder. One from [Create] or [Resume] is locked: no other
// process writes it until Close, or until this process dies.
type Run struct {
	Dir  string
	lock *os.File // nil from Open
}

// NewDir makes a fresh folder root/20060102-150405-short and returns its path.
// If the name is taken, by another run started in the same second, a number
// follows it.
func NewDir(root, short string, now time.Time) (string, error) {
	if err := os.MkdirAll(root, 0o777); err != nil {
		return "", fileError("create run folder", root, err)
	}
	name := filepath.Join(root, now.Format("20060102-150405")+"-"+short)
	dir := name
	for i := 2; ; i++ {
		err := os.Mkdir(dir, 0o777)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fileError("create run folder", dir, err)
		}
		dir = fmt.Sprintf("%s-%d", name, i)
	}
}

// PointLatest makes the symbolic link "latest" beside dir point to dir,
// replacing an older link in one step.
func PointLatest(dir string) error {
	dir = filepath.Clean(dir)
	link := filepath.Join(filepath.Dir(dir), latestLink)
	if info, err := os.Lstat(link); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s is not a symbolic link: move it away, the name is kept for the newest run", link)
	}
	temp := tempName(link)
	if err := os.Symlink(filepath.Base(dir), temp); err != nil {
		return fileError("link", link, err)
	}
	if err := os.Rename(temp, link); err != nil {
		os.Remove(temp)
		return fileError("link", link, err)
	}
	return nil
}

// Create makes dir a new run folder, locked. It refuses, with one line, a
// folder that another process is writing, one that holds a run already, and
// one that cannot be written.
func Create(dir string) (*Run, error) {
	if err := os.MkdirAll(filepath.Join(dir, checkpointDir), 0o777); err != nil {
		return nil, fileError("create run folder", dir, err)
	}
	r, err := lockRun(dir)
	if err != nil {
		return nil, err
	}
	used, err := holdsRun(dir)
	if err == nil && used {
		err = fmt.Errorf("%s already holds a run: choose another folder, or go on with it by temper train --resume", dir)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Resume locks the run folder dir, or the one that the link dir points to, to
// go on with it. It refuses a folder that another process is writing and one
// that holds no run.
func Resume(dir string) (*Run, error) {
	r, err := Open(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(r.Dir, checkpointDir), 0o777); err != nil {
		return nil, fileError("create run folder", r.Dir, err)
	}
	return lockRun(r.Dir)
}

// Open finds the run in dir for reading, locked or not. A link such as
// runs/latest is followed, so that Dir names the run itself.
func Open(dir string) (*Run, error) {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		hint := DidYouMean(filepath.Base(dir), siblings(dir))
		if filepath.Base(dir) == latestLink {
			hint = ": temper train makes it; other commands' runs go by their names"
		}
		return nil, fmt.Errorf("no run folder %s%s", dir, hint)
	}
	if err != nil {
		return nil, fileError("open run folder", dir, err)
	}
	if _, err := os.Stat(filepath.Join(real, ConfigFile)); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return nil, fmt.Errorf("%s holds no run: it has no %s", dir, ConfigFile)
		}
		return nil, fileError("open run folder", dir, err)
	}
	return &Run{Dir: real}, nil
}

// siblings lists the folders and links beside dir; none if it cannot.
func siblings(dir string) []string {
	entries, _ := os.ReadDir(filepath.Dir(dir))
	var names []string
	for _, e := range entries {
		if !e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names
}

// Rewind takes a locked run back to step: it cuts metrics.jsonl and the event
// files back to the records of that step and before, and removes the step checkpoints after it.
// Training on from step's checkpoint then leaves what a run that never stopped
// would have left. best.safetensors stays. A checkpoint at the end of an epoch is
// pending if the epoch has not been evaluated and its record is still to come: one
// that is there all the same goes too.
func (r *Run) Rewind(step int64, pending bool) error {
	if r.lock == nil {
		panic("BUG: Rewind of a run that is not locked")
	}
	if _, err := cutMetrics(filepath.Join(r.Dir, MetricsFile), step, pending); err != nil {
		return err
	}
	if err := cutEvents(r.Dir, step, pending); err != nil {
		return err
	}
	steps, err := CheckpointSteps(r.Dir)
	if err != nil {
		return err
	}
	later := slices.DeleteFunc(steps, func(s int64) bool { return s <= step })
	return removeCheckpoints(r.Dir, later)
}

// Close gives the lock back, if the run has it.
func (r *Run) Close() error {
	if r.lock == nil {
		return nil
	}
	return r.lock.Close()
}

// holdsRun reports whether dir has anything that starting afresh would spoil.
func holdsRun(dir string) (bool, error) {
	for _, name := range []string{ConfigFile, EnvironmentFile, MetricsFile} {
		_, err := os.Lstat(filepath.Join(dir, name))
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, fileError("read", dir, err)
		}
	}
	steps, err := CheckpointSteps(dir)
	return len(steps) > 0, err
}

// lockRun takes dir's lock and clears away what a killed process left half
// written. The lock file itself stays for good: removing it would let two
// processes hold locks on two files of one name.
func lockRun(dir string) (*Run, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fileError("lock run folder", dir, err)
	}
	if err := takeLock(f, dir); err != nil {
		f.Close()
		return nil, err
	}
	return &Run{Dir: dir, lock: f}, nil
}

func takeLock(f *os.File, dir string) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for range 5 { // [Folder.Active] may be holding it for a moment
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(10 * time.Millisecond)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("run folder %s is in use by %s: wait for it to end, or choose another folder", dir, holder(f))
	}
	if err != nil {
		return fileError("lock run folder", dir, err)
	}
	if err := f.Truncate(0); err != nil {
		return fileError("lock run folder", dir, err)
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return fileError("lock run folder", dir, err)
	}
	if err := sweep(dir); err != nil {
		return err
	}
	return sweep(filepath.Join(dir, checkpointDir))
}

// holder names the process that a lock file says holds it.
func holder(f *os.File) string {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return "process " + pid
	}
	return "another process"
}
