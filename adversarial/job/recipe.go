package job

import (
	"cmp"
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"temper/adversarial"
	"temper/adversarial/run"
)

// A recipe is a TOML text in recipes/: NAME.toml, or NAME.DATASET.toml where
// it differs between data sets. It has the keys of Settings, and says for which
// data sets it is, the one it was made for first; and which numbers are published
// for it, and which temper has measured.

//go:embed recipes/*.toml
var recipeFiles embed.FS

// Recipe is a named starting point of settings.
type Recipe struct {
	Name string
	About
	file string
	text []byte
}

// About is what a recipe says besides settings.
type About struct {
	Summary  string   `toml:"summary"`
	Datasets []string `toml:"datasets"` // that it is for
	Rank     int      `toml:"rank"`     // of the recipes for a data set, the lowest is the default
	// Published are numbers for the first of the data sets, the one to reproduce
	// first; Measured are temper's own.
	Published []Figure `toml:"published"`
	Measured  []Figure `toml:"measured"`
}

// Figure is what a recipe led to, in percent of the test examples.
type Figure struct {
	Clean  float64  `toml:"clean" json:"clean"`
	Robust float64  `toml:"robust" json:"robust"`
	Attack string   `toml:"attack" json:"attack"`         // that robust is under, as temper eval takes it
	With   []string `toml:"with" json:"with,omitempty"`   // its settings, as --set takes them
	Seeds  int      `toml:"seeds" json:"seeds,omitempty"` // of which the numbers are means; 0: one network
	Source string   `toml:"source" json:"source"`         // where it is written
}

// user are the settings of the evaluation that the figure comes from.
func (f Figure) user() []Assignment {
	return append([]Assignment{{"attack.name", f.Attack, setFlag}}, Sets(f.With)...)
}

// refuse says why a number cannot stand in a table of robust accuracies: nil if
// it can.
func (f Figure) refuse() error {
	if strings.Contains(f.Attack, adversarial.MixedSuite) {
		return fmt.Errorf("%s is %s: it stands beside no published number; take %s", adversarial.MixedSuite, upperBound, cardSuite)
	}
	return nil
}

// String is "98.50 % clean, 82.93 % under autoattack".
func (f Figure) String() string {
	s := fmt.Sprintf("%.2f %% clean, %.2f %% under %s", f.Clean, f.Robust, f.Attack)
	for _, w := range f.With {
		s += " " + strings.TrimPrefix(w, "attack.")
	}
	if f.Seeds > 1 {
		s += fmt.Sprintf(" (mean of %d seeds)", f.Seeds)
	}
	return s + ": " + f.Source
}

// recipeBody is a recipe: its settings, over those that are there.
type recipeBody struct {
	About About `toml:"about"`
	Settings
}

// Recipes lists all recipes: by data set, the default one of each first.
func Recipes() []Recipe {
	entries, err := recipeFiles.ReadDir("recipes")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	var list []Recipe
	for _, e := range entries {
		r := Recipe{file: path.Join("recipes", e.Name())}
		r.Name, _, _ = strings.Cut(e.Name(), ".")
		r.text, _ = recipeFiles.ReadFile(r.file)
		var body recipeBody
		if err := run.ParseConfig(r.file, r.text, &body); err != nil {
			panic("BUG: " + err.Error())
		}
		r.About = body.About
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b Recipe) int {
		return cmp.Or(cmp.Compare(datasetRank(a.Datasets[0]), datasetRank(b.Datasets[0])), a.Rank-b.Rank, cmp.Compare(a.Name, b.Name))
	})
	return list
}

// Text is the recipe as it is written.
func (r Recipe) Text() string { return string(r.text) }

// datasetRank is the order in which data sets are listed.
func datasetRank(name string) int {
	return slices.Index([]string{"structured", "mnist", "cifar10", "cifar100", "svhn", "npz"}, name)
}

// recipeNames lists the names of the recipes, each once.
func recipeNames() []string {
	var names []string
	for _, r := range Recipes() {
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	return names
}

// findRecipe returns the recipe of that name for a data set; the default one
// if name is empty.
func findRecipe(name, dataset string) (Recipe, error) {
	kind, _, _ := strings.Cut(dataset, ":")
	all := recipeNames()
	var fit []string
	for _, r := range Recipes() {
		if !slices.Contains(r.Datasets, kind) {
			continue
		}
		if name == "" || r.Name == name {
			return r, nil
		}
		fit = append(fit, r.Name)
	}
	switch {
	case len(fit) == 0:
		return Recipe{}, unknownDataset(dataset)
	case slices.Contains(all, name):
		var sets []string
		for _, r := range Recipes() {
			if r.Name == name {
				sets = append(sets, r.Datasets...)
			}
		}
		return Recipe{}, fmt.Errorf("recipe %q is for %s: name it with --dataset, or for %s take %s", name, strings.Join(sets, ", "), kind, strings.Join(fit, ", "))
	}
	return Recipe{}, fmt.Errorf("unknown recipe %q%s; for %s there are %s", name, run.DidYouMean(name, all), dataset, strings.Join(fit, ", "))
}
