//go:build unix

package datasets

import (
	"errors"
	"os"
	"syscall"
)

// lock takes f for this process; the system releases it when f is closed or the
// process ends, however it ends. busy says that another process has it. A file
// system without locks is no reason to refuse a download.
func lock(f *os.File) (busy bool) {
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}
