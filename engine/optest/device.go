package optest

import (
	"maps"

	"temper/engine"
	"temper/engine/graph"
	"temper/engine/interp"
)

// On runs graphs on a device, compiled with the given options.
func On(dev *engine.Device, o engine.Options) Runner { return on(dev, o, 1) }

func on(dev *engine.Device, o engine.Options, steps int) Runner {
	return func(g *graph.Graph, feed interp.Feed) (*interp.Result, error) {
		st := dev.NewState()
		defer st.Free()
		e, err := dev.Compile(g, st, o)
		if err != nil {
			return nil, err
		}
		defer e.Close()
		if err := Bind(g, e, st, feed); err != nil {
			return nil, err
		}
		for range steps {
			if err := e.Run(); err != nil {
				return nil, err
			}
		}
		return collect(g, e, st)
	}
}

// OnTwice is On for two steps, the second with the states that the first left: what
// a step overwrites too early, or keeps too long, shows in the next one.
func OnTwice(dev *engine.Device, o engine.Options) Runner { return on(dev, o, 2) }

// Twice is a runner's second step, with the states that its first left.
func Twice(run Runner) Runner {
	return func(g *graph.Graph, feed interp.Feed) (*interp.Result, error) {
		first, err := run(g, feed)
		if err != nil {
			return nil, err
		}
		feed = maps.Clone(feed)
		for name, x := range first.States {
			feed["state "+name] = x
		}
		return run(g, feed)
	}
}

// Bind gives a compiled graph its inputs, scalars and states.
func Bind(g *graph.Graph, e *engine.Executable, st *engine.State, feed interp.Feed) error {
	for _, n := range g.Root().Nodes() {
		if err := feedNode(e, st, n, feed); err != nil {
			return err
		}
	}
	return nil
}

func feedNode(e *engine.Executable, st *engine.State, n *graph.Node, feed interp.Feed) error {
	name := n.Attrs().Name
	switch n.Op() {
	case graph.OpInput:
		return e.FeedBytes(name, feed[interp.Key(n)].Bytes())
	case graph.OpScalar:
		return e.Set(name, feed[interp.Key(n)].Data[0])
	case graph.OpState:
		return st.SetBytes(name, feed[interp.Key(n)].Bytes())
	}
	return nil
}

func collect(g *graph.Graph, e *engine.Executable, st *engine.State) (*interp.Result, error) {
	r := &interp.Result{Outputs: map[string]*interp.Tensor{}, States: map[string]*interp.Tensor{}}
	for _, o := range g.Outputs() {
		b, err := e.FetchBytes(o.Name)
		if err != nil {
			return nil, err
		}
		if r.Outputs[o.Name], err = interp.FromBytes(o.Node.DType(), o.Node.Shape(), b); err != nil {
			return nil, err
		}
	}
	for _, a := range g.Assigns() {
		name := a.State.Attrs().Name
		b, err := st.Bytes(name)
		if err != nil {
			return nil, err
		}
		if r.States[name], err = interp.FromBytes(a.State.DType(), a.State.Shape(), b); err != nil {
			return nil, err
		}
	}
	return r, nil
}
