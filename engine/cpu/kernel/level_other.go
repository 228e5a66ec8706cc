//go:build !amd64

package kernel

// levels lists the kernel sets of this build, best first.
var levels = []*level{portable}

// pause would slow a spinning worker down; Go offers no such instruction here.
func pause() {}
