package run

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// ConfigFile is the name of the settings in a run folder.
const ConfigFile = "config.toml"

// WriteConfig writes the settings struct v as config.toml of the run folder
// dir.
func WriteConfig(dir string, v any) error {
	path := filepath.Join(dir, ConfigFile)
	b, err := toml.Marshal(v)
	if err != nil {
		return fileError("write", path, err)
	}
	return WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// ReadConfig reads config.toml of the run folder dir over the settings struct
// that v points to, as [ParseConfig] does.
func ReadConfig(dir string, v any) error {
	path := filepath.Join(dir, ConfigFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return fileError("read", path, err)
	}
	return ParseConfig(path, b, v)
}

// ParseConfig reads TOML over the settings struct that v points to: keys that
// data lacks keep their value. An unknown key is an error that names it and
// the known ones nearest to it; a value of the wrong type is one that names
// the key and the type. Errors start with name and, where it is known, the
// line. After an error v may be half filled.
//
// A type with a syntax of its own, such as "8/255", implements
// encoding.TextUnmarshaler and encoding.TextMarshaler, and is a struct.
func ParseConfig(name string, data []byte, v any) error {
	dec := toml.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	settings := settingsOf(v)
	err := dec.Decode(v)
	var unknown *toml.StrictMissingError
	var invalid *toml.DecodeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		var parts []string
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			key := strings.Join(e.Key(), ".")
			parts = append(parts, fmt.Sprintf("line %d: %v", line, unknownKey(key, settings)))
		}
		return fmt.Errorf("%s: %s", name, strings.Join(parts, "; "))
	case errors.As(err, &invalid):
		line, _ := invalid.Position()
		reason := strings.TrimPrefix(invalid.Error(), "toml: ")
		key := strings.Join(invalid.Key(), ".")
		// The library's words for a wrong type name Go's types, not the user's.
		wrongType := strings.Contains(reason, "cannot ") || strings.Contains(reason, "too large")
		if s, ok := find(settings, key); ok {
			if _, parses := s.text(); parses {
				reason = key + ": " + reason
			} else if wrongType {
				reason = fmt.Sprintf("%s must be %s", key, s.kind())
			}
		}
		return fmt.Errorf("%s: line %d: %s", name, line, reason)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// ApplySet sets one field of the settings struct that v points to from
// "key=value", where key is the field's path of toml names: "optimizer.lr=0.1".
// Strings need no quotes but may have TOML's; lists are TOML arrays, "milestones=[60, 80]". An
// unknown key and a value of the wrong type are errors as in [ParseConfig];
// then nothing is set.
func ApplySet(v any, assignment string) error {
	key, text, ok := strings.Cut(assignment, "=")
	key, text = strings.TrimSpace(key), strings.TrimSpace(text)
	if !ok || key == "" {
		return fmt.Errorf("%q is not key=value", assignment)
	}
	settings := settingsOf(v)
	s, ok := find(settings, key)
	if !ok {
		return unknownKey(key, settings)
	}
	if err := s.set(text); err != nil {
		return fmt.Errorf("%s=%s: %w", key, text, err)
	}
	return nil
}

// Setting is the value of one field of the settings struct that v points to, by
// its key as in [ApplySet]; false if there is none.
func Setting(v any, key string) (value any, ok bool) {
	s, ok := find(settingsOf(v), strings.TrimSpace(key))
	if !ok {
		return nil, false
	}
	return s.value.Interface(), true
}

// setting is one field of a settings struct.
type setting struct {
	key   string // the path of toml names: "optimizer.lr"
	value reflect.Value
}

// settingsOf lists the fields of the struct that v points to, tables before
// what they hold.
func settingsOf(v any) []setting {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("BUG: settings must be a pointer to a struct, not %T", v))
	}
	return appendSettings(nil, "", p.Elem())
}

func appendSettings(list []setting, prefix string, table reflect.Value) []setting {
	for i := range table.NumField() {
		field := table.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("toml"), ",")
		switch {
		case !field.IsExported() || name == "-":
			continue
		case name == "" && field.Anonymous: // TOML sees its fields as ours
			list = appendSettings(list, prefix, table.Field(i))
			continue
		case name == "":
			name = field.Name
		}
		s := setting{prefix + name, table.Field(i)}
		list = append(list, s)
		if s.isTable() {
			list = appendSettings(list, s.key+".", s.value)
		}
	}
	return list
}

func find(settings []setting, key string) (setting, bool) {
	for _, s := range settings {
		if s.key == key {
			return s, true
		}
	}
	return setting{}, false
}

func unknownKey(key string, settings []setting) error {
	var keys []string
	for _, s := range settings {
		keys = append(keys, s.key)
	}
	near := DidYouMean(key, keys)
	if near == "" { // right name, wrong table
		near = DidYouMean(key[strings.LastIndex(key, ".")+1:], keys)
	}
	return fmt.Errorf("unknown key %q%s", key, near)
}

// text is the field's own parser, if its type has one. go-toml 2.4.0 to 2.4.3
// pass it over without a word where the type's kind is a scalar (its issue
// 1109), so only structs may have one.
func (s setting) text() (encoding.TextUnmarshaler, bool) {
	u, ok := s.value.Addr().Interface().(encoding.TextUnmarshaler)
	if ok && s.value.Kind() != reflect.Struct {
		panic(fmt.Sprintf("BUG: setting %s: %s has UnmarshalText and must be a struct", s.key, s.value.Type()))
	}
	return u, ok
}

func (s setting) isTable() bool {
	_, ok := s.text()
	return s.value.Kind() == reflect.Struct && !ok
}

// kind names the type of value that the field takes.
func (s setting) kind() string {
	if _, ok := s.text(); ok {
		return "a string"
	}
	bits := func() int { return s.value.Type().Bits() }
	switch s.value.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("an integer of %d bits", bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("an integer of %d bits, not negative", bits())
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		elem := setting{value: reflect.New(s.value.Type().Elem()).Elem()}
		return "a list, each " + elem.kind()
	case reflect.Struct, reflect.Map:
		return "a table"
	}
	return "of type " + s.value.Type().String()
}

func (s setting) set(text string) error {
	if u, ok := s.text(); ok {
		return u.UnmarshalText([]byte(text))
	}
	var err error
	switch v := s.value; v.Kind() {
	case reflect.Struct:
		return fmt.Errorf("%s is a table: set one of its keys, %s.…", s.key, s.key)
	case reflect.String:
		if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, "'") {
			err = s.setTOML(text)
			break
		}
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			err = strconv.ErrSyntax
			break
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		var n int64
		if n, err = strconv.ParseInt(text, 10, v.Type().Bits()); err == nil {
			v.SetInt(n)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		var n uint64
		if n, err = strconv.ParseUint(text, 10, v.Type().Bits()); err == nil {
			v.SetUint(n)
		}
	case reflect.Float32, reflect.Float64:
		var x float64
		if x, err = strconv.ParseFloat(text, v.Type().Bits()); err == nil {
			v.SetFloat(x)
		}
	default:
		err = s.setTOML(text)
	}
	if err != nil {
		return fmt.Errorf("must be %s", s.kind())
	}
	return nil
}

// setTOML decodes text as the TOML value of a field of any other type.
func (s setting) setTOML(text string) error {
	holder := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: "Value", Type: s.value.Type(), Tag: `toml:"value"`,
	}}))
	dec := toml.NewDecoder(strings.NewReader("value = " + text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(holder.Interface()); err != nil {
		return err
	}
	s.value.Set(holder.Elem().Field(0))
	return nil
}
