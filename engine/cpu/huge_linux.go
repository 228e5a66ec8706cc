package cpu

import "golang.org/x/sys/unix"

// hugePages asks for pages of 2 MiB behind memory that nothing has touched yet:
// large weights and arenas have more pages of 4 KiB than a processor keeps the
// places of. What the system makes of it changes no result.
func hugePages(b []byte) {
	if len(b) >= 4<<20 {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
}
