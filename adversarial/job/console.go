package job

import (
	"encoding/json"
	"fmt"
	"io"
)

// Console is where a command talks: results go to Out, everything else to Err.
type Console struct {
	Out, Err io.Writer
	JSON     bool // results as JSON, one object a line
}

// say prints a line that is no result.
func (c Console) say(format string, args ...any) { fmt.Fprintf(c.Err, format+"\n", args...) }

// note says a line of somebody else's.
func (c Console) note(line string) { c.say("%s", line) }

// result prints v as JSON or, if that was not asked for, by text.
func (c Console) result(v any, text func(w io.Writer)) error {
	if !c.JSON {
		text(c.Out)
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.Out, "%s\n", b)
	return err
}
