//go:build unix

// Package fence gives tests memory between pages that cannot be touched: a
// kernel that reads or writes outside of it ends the test.
package fence

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Room is whole pages between two that cannot be touched, until the test ends.
type Room struct {
	t     testing.TB
	bytes []byte
}

// New makes room for so many bytes.
func New(t testing.TB, bytes int) *Room {
	t.Helper()
	page := unix.Getpagesize()
	room := (bytes + page - 1) / page * page
	mem, err := unix.Mmap(-1, 0, room+2*page, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil && room > 0 {
		err = unix.Mprotect(mem[page:page+room], unix.PROT_READ|unix.PROT_WRITE)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	return &Room{t, mem[page : page+room : page+room]}
}

// Bytes is the room itself.
func (r *Room) Bytes() []byte { return r.bytes }

// First is the first so many bytes, behind the page before the room.
func (r *Room) First(bytes int) []byte { return r.bytes[:bytes:bytes] }

// Last is the last so many bytes, before the page behind the room.
func (r *Room) Last(bytes int) []byte { return r.bytes[len(r.bytes)-bytes:] }

// Close makes a page of the room, from byte at on, one that cannot be touched.
func (r *Room) Close(at int) {
	r.t.Helper()
	if err := unix.Mprotect(r.bytes[at:at+unix.Getpagesize()], unix.PROT_NONE); err != nil {
		r.t.Fatal(err)
	}
}
