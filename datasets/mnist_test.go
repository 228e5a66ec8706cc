package datasets

import (
	"bytes"
	"testing"
)

func TestDecodeMNIST(t *testing.T) {
	const n = 3
	images := idx(noise(n*784), n, 28, 28)
	labels := idx([]byte{7, 0, 9}, n)
	for _, c := range []struct {
		name           string
		images, labels []byte
		err            string
	}{
		{"plain", images, labels, ""},
		{"gzip", gz(images), gz(labels), ""},
		{"mixed", gz(images), labels, ""},
		{"empty", nil, labels, "images: truncated: the header ends after 0 bytes"},
		{"short header", images[:15], labels, "images: truncated: the header ends after 15 bytes"},
		{"not idx", edit(images, 0, 1), labels, "not an IDX file: it begins with bytes 01 00 08 03"},
		{"dtype", edit(images, 2, 0x0d), labels, "type code 0x0d"},
		{"rank", edit(images, 3, 1), labels, "1 dimensions, want 3"},
		{"height", edit(images, 11, 27), labels, "dimension 1 is 27, want 28"},
		{"width", edit(images, 15, 32), labels, "dimension 2 is 32, want 28"},
		{"truncated", images[:len(images)-1], labels, "truncated: 2351 of 2352 data bytes"},
		{"truncated gzip", gz(images)[:200], labels, "truncated: "},
		{"trailing", join(images, []byte{0}), labels, "trailing bytes"},
		{"trailing after gzip", join(gz(images), []byte{0}), labels, "trailing bytes"},
		{"two gzip members", join(gz(images), gz(nil)), labels, "trailing bytes"},
		{"gzip checksum", edit(gz(images), len(gz(images))-8, gz(images)[len(gz(images))-8]^1), labels, "checksum"},
		{"none", idx(nil, 0, 28, 28), labels, "announces 0 examples"},
		{"hostile", idx(nil, 1<<31, 28, 28), labels, "announces 2147483648 examples"},
		{"label 10", images, idx([]byte{7, 10, 9}, n), "label 10 of example 1 is outside 0..9"},
		{"counts", images, idx([]byte{7, 9}, 2), "3 images but 2 labels"},
		{"labels truncated", images, labels[:10], "labels: truncated: 2 of 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := DecodeMNIST(Train, bytes.NewReader(c.images), bytes.NewReader(c.labels))
			wantError(t, err, c.err)
			if err != nil {
				return
			}
			if !bytes.Equal(s.Values().U8, noise(n*784)) || s.Len() != n || s.Label(0) != 7 || s.Label(2) != 9 {
				t.Error("the decoded set differs from what was encoded")
			}
			if in := s.Info(); in.Elements() != 784 || in.Published != 60000 || in.Split != Train {
				t.Errorf("info %+v", in)
			}
		})
	}
}

func FuzzMNIST(f *testing.F) {
	images, labels := idx(noise(2*784), 2, 28, 28), idx([]byte{3, 1}, 2)
	f.Add(images, labels)
	f.Add(gz(images), gz(labels))
	f.Add(images[:100], labels)
	f.Add(gz(images)[:30], labels[:9])
	f.Add(idx(nil, 1<<20, 28, 28), labels)
	f.Fuzz(func(t *testing.T, images, labels []byte) {
		s, err := DecodeMNIST(Test, bytes.NewReader(images), bytes.NewReader(labels))
		checkDecoded(t, s, err)
	})
}

// checkDecoded holds for whatever a decoder returns.
func checkDecoded(t *testing.T, s *Set, err error) {
	t.Helper()
	if err != nil {
		if s != nil {
			t.Error("a set along with an error")
		}
		return
	}
	if s.Len() == 0 || s.Values().size() != s.Len()*s.Info().Elements() {
		t.Errorf("%d examples, %d elements of %d each", s.Len(), s.Values().size(), s.Info().Elements())
	}
	for i := range s.Len() {
		if y := s.Label(i); y < 0 || int(y) >= len(s.Info().Classes) {
			t.Errorf("label %d", y)
		}
	}
}
