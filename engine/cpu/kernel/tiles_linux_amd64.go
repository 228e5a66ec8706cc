package kernel

import "golang.org/x/sys/unix"

// permitTiles asks Linux, which does not give the state of matrix tiles to a
// process unasked, to let this one's threads have it.
func permitTiles() bool {
	const (
		archReqXCompPerm = 0x1023
		xfeatureTileData = 18
	)
	_, _, errno := unix.RawSyscall(unix.SYS_ARCH_PRCTL, archReqXCompPerm, xfeatureTileData, 0)
	return errno == 0
}
