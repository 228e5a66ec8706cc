//go:build !linux

package kernel

// permitTiles says that matrix tiles are used on Linux only.
func permitTiles() bool { return false }
