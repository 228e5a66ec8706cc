package nn

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"temper/engine/graph"
)

// Config sets the sizes of a named model. The first four fields describe the
// data. Of the others, a zero one takes the model's default; one for which the
// model has no default is no setting of that model, and giving it is an error.
type Config struct {
	Input     graph.Shape // (C,H,W) of one sample
	Classes   int
	Mean, Std []float64 // normalisation in front, per channel; none if empty

	Width      int     `setting:"width"`      // channels of the first stage
	Widen      int     `setting:"widen"`      // a wide network's factor on Width
	Blocks     []int   `setting:"blocks"`     // residual blocks of each stage
	Hidden     int     `setting:"hidden"`     // units of the hidden linear layer
	Activation string  `setting:"activation"` // relu or silu
	Patch      int     `setting:"patch"`      // patch CNN: side of a patch; 1 for structured data
	Filters    int     `setting:"filters"`    // patch CNN: filters per class, m
	Q          float64 `setting:"q"`          // patch CNN: the smoothed ReLU's exponent, at least 2
	Rho        float64 `setting:"rho"`        // patch CNN: where the smoothed ReLU becomes linear
	Sigma      float64 `setting:"sigma"`      // patch CNN: standard deviation of the initial filters, σ₀
}

// architecture is a registered model: its defaults and its definition.
type architecture struct {
	defaults Config
	define   func(Config) Forward
}

var architectures = map[string]architecture{
	"patchcnn":            {Config{Patch: 1, Filters: 16, Q: 3, Rho: 0.5, Sigma: 0.05}, patchCNN},
	"mnist-wong":          {Config{Width: 16, Hidden: 100}, mnistWong},
	"mnist-madry":         {Config{Width: 32, Hidden: 1024}, mnistMadry},
	"cifar-small":         {Config{Width: 32, Hidden: 128}, cifarSmall},
	"preactresnet18":      {Config{Width: 64, Blocks: []int{2, 2, 2, 2}, Activation: "relu"}, preActResNet},
	"resnet18":            {Config{Width: 64, Blocks: []int{2, 2, 2, 2}, Activation: "relu"}, resNet},
	"wideresnet-28-10":    {Config{Width: 16, Widen: 10, Blocks: []int{4, 4, 4}, Activation: "relu"}, wideResNet},
	"wideresnet-34-10":    {Config{Width: 16, Widen: 10, Blocks: []int{5, 5, 5}, Activation: "relu"}, wideResNet},
	"dm-wideresnet-28-10": {Config{Width: 16, Widen: 10, Blocks: []int{4, 4, 4}, Activation: "silu"}, dmWideResNet},
}

// Names lists the registered models in alphabetical order.
func Names() []string { return slices.Sorted(maps.Keys(architectures)) }

// Complete gives c's zero settings the defaults of the model of that name, and
// checks the others. What describes the data stays as it is. The error for an
// unknown name suggests the nearest ones.
func Complete(name string, c Config) (Config, error) {
	a, ok := architectures[name]
	if !ok {
		return c, unknown("model", name, Names())
	}
	c, err := c.over(a.defaults)
	if err != nil {
		return c, fmt.Errorf("model %s: %w", name, err)
	}
	return c, nil
}

// Lookup makes the model of that name with the settings that [Complete] gives
// it.
func Lookup(name string, c Config) (*Model, error) {
	c, err := Complete(name, c)
	if err != nil {
		return nil, err
	}
	forward := architectures[name].define(c)
	return NewModel(name, c.Input, c.Classes, func(s *Scope, x *graph.Node) (features, logits *graph.Node) {
		return forward(s, Normalize(x, c.Mean, c.Std))
	})
}

// over fills c's zero settings from the defaults and checks the others.
func (c Config) over(defaults Config) (Config, error) {
	if err := onlySettings(c, given(defaults)); err != nil {
		return c, err
	}
	set, def := reflect.ValueOf(&c).Elem(), reflect.ValueOf(defaults)
	for i := range set.NumField() {
		if _, ok := set.Type().Field(i).Tag.Lookup("setting"); ok && set.Field(i).IsZero() {
			set.Field(i).Set(def.Field(i))
		}
	}
	return c, c.check(defaults)
}

func (c Config) check(defaults Config) error {
	switch {
	case min(c.Width, c.Widen, c.Hidden, c.Patch, c.Filters) < 0:
		return fmt.Errorf("a negative size among width %d, widen %d, hidden %d, patch %d, filters %d", c.Width, c.Widen, c.Hidden, c.Patch, c.Filters)
	case len(c.Blocks) != len(defaults.Blocks) || slices.ContainsFunc(c.Blocks, func(n int) bool { return n < 1 }):
		return fmt.Errorf("blocks %v: want %d positive numbers", c.Blocks, len(defaults.Blocks))
	case c.Activation != "" && activations[c.Activation] == nil:
		return unknown("activation", c.Activation, slices.Sorted(maps.Keys(activations)))
	case defaults.Q != 0 && !(c.Q >= 2 && c.Rho > 0 && c.Sigma > 0):
		return fmt.Errorf("q %v, rho %v, sigma %v: want q ≥ 2, rho > 0 and sigma > 0", c.Q, c.Rho, c.Sigma)
	}
	return nil
}

var activations = map[string]func(*graph.Node) *graph.Node{"relu": (*graph.Node).ReLU, "silu": SiLU}
