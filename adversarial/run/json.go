package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// jsonReader reads JSON token by token, because encoding/json's Unmarshal lets
// duplicate keys pass and loses the order of an object's keys.
type jsonReader struct{ dec *json.Decoder }

func newJSONReader(b []byte) (*jsonReader, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return &jsonReader{dec}, nil
}

// object reads {…}, calling value for each key to read what stands under it.
func (r *jsonReader) object(value func(key string) error) error {
	if err := r.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for r.dec.More() {
		key, err := r.string()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("%q appears twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return err
		}
	}
	return r.delim('}')
}

// ints reads an array of at most limit non-negative integers.
func (r *jsonReader) ints(limit int) ([]int, error) {
	if err := r.delim('['); err != nil {
		return nil, err
	}
	list := []int{}
	for r.dec.More() {
		if len(list) == limit {
			return nil, fmt.Errorf("more than %d numbers in an array", limit)
		}
		n, err := r.int()
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, r.delim(']')
}

func (r *jsonReader) int() (int, error) {
	tok, err := r.token()
	if err != nil {
		return 0, err
	}
	if n, ok := tok.(json.Number); ok {
		if v, err := strconv.ParseUint(n.String(), 10, strconv.IntSize-1); err == nil {
			return int(v), nil
		}
	}
	return 0, fmt.Errorf("%v is not a non-negative integer", tok)
}

func (r *jsonReader) string() (string, error) {
	tok, err := r.token()
	if err != nil {
		return "", err
	}
	if s, ok := tok.(string); ok {
		return s, nil
	}
	return "", fmt.Errorf("%v is not a string", tok)
}

func (r *jsonReader) delim(want json.Delim) error {
	tok, err := r.token()
	if err != nil {
		return err
	}
	if tok != want {
		return fmt.Errorf("%v stands where %v should", tok, want)
	}
	return nil
}

func (r *jsonReader) token() (json.Token, error) {
	tok, err := r.dec.Token()
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	return tok, err
}

// end reports an error if anything but the given length has been read.
func (r *jsonReader) end(length int) error {
	if r.dec.InputOffset() != int64(length) {
		return errors.New("bytes after the JSON object")
	}
	return nil
}
