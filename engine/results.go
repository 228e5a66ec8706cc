package engine

import "fmt"

// Results are the numbers that one run says of itself: its outputs of one
// element each. They can still be read when the program has been run once more,
// so that a device is given its next run before the host waits for the numbers
// of this one, and never waits for the host.
type Results struct {
	e   *Executable
	run int
}

// Results are those of the last run.
func (e *Executable) Results() (Results, error) {
	r := Results{e, e.runs}
	if _, lags := e.code.(Lagging); lags {
		return r, nil
	}
	said := &e.said[e.runs%2] // the next run may change what Fetch returns
	if *said == nil {
		*said = map[string]float64{}
	}
	for name, o := range e.outputs {
		if o.Shape.Size() == 1 {
			b, err := e.code.Fetch(o.Buffer)
			if err != nil {
				return r, err
			}
			(*said)[name] = scalar(o.DType, b)
		}
	}
	return r, nil
}

// Scalar waits for the run, though for none behind it, and reads a number. It
// panics if the program has been run twice since.
func (r Results) Scalar(name string) (float64, error) {
	o, err := r.e.number(name)
	if err != nil {
		return 0, err
	}
	back := r.e.runs - r.run
	if back > 1 {
		panic(fmt.Sprintf("BUG: engine: program %q: results of a run are read after two more", r.e.name))
	}
	c, lags := r.e.code.(Lagging)
	if !lags {
		return r.e.said[r.run%2][name], nil
	}
	b, err := c.FetchPast(o.Buffer, back)
	if err != nil {
		return 0, err
	}
	return scalar(o.DType, b), nil
}
