package job

import (
	"cmp"
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"temper/adversarial/run"
)

// A recipe is a TOML text in recipes/: NAME.toml, or NAME.DATASET.toml where
// it differs between data sets. It has the keys of Settings, and says for which
// data sets it is, the one it was made for first.

//go:embed recipes/*.toml
var recipeFiles embed.FS

// Recipe is a named starting point of settings.
type Recipe struct {
	Name     string
	Summary  string
	Datasets []string // that it is for
	Rank     int      // of the recipes for a data set, the lowest is the default

	file string
	text []byte
}

// recipeHead is what a recipe says besides settings.
type recipeHead struct {
	Summary  string   `toml:"summary"`
	Datasets []string `toml:"datasets"`
	Rank     int      `toml:"rank"`
}

// recipeBody is a recipe: its settings, over those that are there.
type recipeBody struct {
	Head recipeHead `toml:"about"`
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
		r.Summary, r.Datasets, r.Rank = body.Head.Summary, body.Head.Datasets, body.Head.Rank
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
		return Recipe{}, fmt.Errorf("recipe %q is not for %s: take one of %s", name, dataset, strings.Join(fit, ", "))
	}
	return Recipe{}, fmt.Errorf("unknown recipe %q%s; for %s there are %s", name, run.DidYouMean(name, all), dataset, strings.Join(fit, ", "))
}
