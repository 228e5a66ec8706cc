package features

import (
	"fmt"
	"math"

	"temper/adversarial"
	"temper/datasets"
	"temper/engine/graph"
	"temper/nn"
)

// ImageSettings decide the experiment on real images; see [Images].
type ImageSettings struct {
	Dataset string `toml:"dataset" json:"dataset"` // mnist, cifar10 or svhn
	Seeds   int    `toml:"seeds" json:"seeds"`     // how many
	Seed    uint32 `toml:"seed" json:"seed"`       // the first one
	Limit   int    `toml:"limit" json:"limit"`     // the first n training images; 0: all. One half makes generators, one is trained and scored on
	TestN   int    `toml:"test_n" json:"test_n"`   // the first n test images; 0: all

	Model     string  `toml:"model" json:"model"`
	Patch     int     `toml:"patch" json:"patch"` // side of a patch, of patchcnn alone; default 4
	Epochs    int     `toml:"epochs" json:"epochs"`
	BatchSize int     `toml:"batch_size" json:"batch_size"`
	LR        float64 `toml:"lr" json:"lr"` // Adam's

	Eps         adversarial.Epsilon `toml:"eps" json:"eps"`                   // ℓ∞; it rises from 0 over the first epoch
	AttackSteps int                 `toml:"attack_steps" json:"attack_steps"` // of PGD, in training
	TestSteps   int                 `toml:"test_steps" json:"test_steps"`     // of PGD, in the evaluation

	MatchN     int     `toml:"match_n" json:"match_n"`         // images of a constructed set
	MatchSteps int     `toml:"match_steps" json:"match_steps"` // descent steps
	MatchRate  float64 `toml:"match_rate" json:"match_rate"`   // ℓ₂ length of a step
	Start      string  `toml:"start" json:"start"`             // noise, or image: another one of the set

	Precision string `toml:"precision" json:"precision"` // of products and convolutions; see [graph.Precision]
}

// ImageDefaults are the settings for a data set: sized for two cores.
func ImageDefaults(dataset string) (ImageSettings, error) {
	s := ImageSettings{
		Dataset: dataset, Seeds: 3, Epochs: 5, BatchSize: 128, LR: 0.001, TestN: 2000,
		Model: "cifar-small", Eps: adversarial.MustEpsilon("8/255"), AttackSteps: 7, TestSteps: 20,
		MatchN: 10000, MatchSteps: 150, MatchRate: 0.1, Start: "noise", Precision: graph.PrecisionFloat32.String(),
	}
	switch dataset {
	case "mnist":
		s.Model, s.Eps = "mnist-wong", adversarial.MustEpsilon("0.3")
	case "cifar10", "svhn":
	default:
		return s, fmt.Errorf("unknown dataset %q: features are asked for on structured, mnist, cifar10 and svhn", dataset)
	}
	return s, nil
}

// Quick is s on few images and steps: a check that all works, no evidence.
func (s ImageSettings) Quick() ImageSettings {
	s.Seeds, s.Limit, s.TestN, s.Epochs, s.AttackSteps, s.TestSteps = 1, 800, 200, 2, 3, 5
	s.MatchN, s.MatchSteps = 200, 20
	return s
}

// resolve fills in the patch's side.
func (s ImageSettings) resolve() ImageSettings {
	if s.Model == "patchcnn" && s.Patch == 0 {
		s.Patch = 4
	}
	return s
}

func (s ImageSettings) validate() error {
	if err := checkSeeds(s.Seed, s.Seeds); err != nil {
		return err
	}
	switch {
	case s.Limit < 0 || s.Limit == 1 || s.TestN < 0:
		return fmt.Errorf("limit = %d, test_n = %d: want a number of images, limit at least 2, or 0 for all", s.Limit, s.TestN)
	case s.Epochs < 1 || s.BatchSize < 1 || s.AttackSteps < 1 || s.TestSteps < 1:
		return fmt.Errorf("epochs = %d, batch_size = %d, attack_steps = %d, test_steps = %d: want at least 1 of each", s.Epochs, s.BatchSize, s.AttackSteps, s.TestSteps)
	case s.MatchN < 1 || s.MatchSteps < 1:
		return fmt.Errorf("match_n = %d, match_steps = %d: want at least 1 of each", s.MatchN, s.MatchSteps)
	case !(s.LR > 0) || !(s.MatchRate > 0) || math.IsInf(s.LR+s.MatchRate, 1):
		return fmt.Errorf("lr = %v, match_rate = %v: want positive numbers", s.LR, s.MatchRate)
	case !(s.Eps.Float64() >= 1/maxReach):
		return fmt.Errorf("eps = %v: want eps > 0, at least %v", s.Eps, 1/maxReach)
	case s.Start != "noise" && s.Start != "image":
		return fmt.Errorf("start = %q: want noise or image", s.Start)
	case s.Patch != 0 && s.Model != "patchcnn":
		return fmt.Errorf("patch = %d: only the model patchcnn has patches", s.Patch)
	}
	if _, err := compileOptions(s.Precision); err != nil {
		return err
	}
	return s.threat().Validate()
}

func (s ImageSettings) threat() adversarial.ThreatModel {
	return adversarial.ThreatModel{Norm: adversarial.Linf, Epsilon: s.Eps, Domain: adversarial.Unit}
}

// attack is PGD of so many steps from a random start.
func (s ImageSettings) attack(steps int) adversarial.Attack {
	return adversarial.Attack{Name: "pgd", Steps: steps, RandomStart: true}
}

func (s ImageSettings) model(in datasets.Info) (*nn.Model, error) {
	c := nn.Config{Input: graph.Shape{in.Channels, in.Height, in.Width}, Classes: len(in.Classes)}
	c.Patch = s.resolve().Patch
	return nn.Lookup(s.Model, c)
}
