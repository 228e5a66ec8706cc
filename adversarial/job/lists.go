package job

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"temper/adversarial/run"
	"temper/engine"
)

// Version is temper version.
func Version(c Console) error {
	e := run.CurrentEnvironment("")
	v := struct {
		Version  string `json:"version"`
		Commit   string `json:"commit"`
		Modified bool   `json:"modified"`
		Go       string `json:"go"`
		System   string `json:"system"`
	}{e.Version, e.Commit, e.Modified, e.Go, e.OS + "/" + e.Arch}
	return c.result(v, func(w io.Writer) {
		fmt.Fprintf(w, "temper %s", v.Version)
		if v.Commit != "" {
			fmt.Fprintf(w, " (%.12s)", v.Commit)
		}
		fmt.Fprintf(w, " %s %s\n", v.Go, v.System)
	})
}

// Devices is temper devices.
func Devices(c Console) error {
	infos, missing := engine.Devices()
	if c.JSON {
		for _, i := range infos {
			if err := c.result(map[string]any{"device": i.Spec, "name": i.Name, "detail": i.Detail, "precisions": i.PrecisionNames()}, nil); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	for _, i := range infos {
		fmt.Fprintf(w, "%s\t%s\t%s; precision %s\n", i.Spec, i.Name, i.Detail, strings.Join(i.PrecisionNames(), ", "))
	}
	w.Flush()
	for _, err := range missing {
		c.say("%v", err)
	}
	return nil
}

// ListRecipes is temper recipes: all of them, or those of the names, in full.
func ListRecipes(c Console, names []string) error {
	recipes := Recipes()
	for _, name := range names {
		known := recipeNames()
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown recipe %q%s: there are %s", name, run.DidYouMean(name, known), strings.Join(known, ", "))
		}
	}
	if len(names) > 0 {
		recipes = slices.DeleteFunc(recipes, func(r Recipe) bool { return !slices.Contains(names, r.Name) })
	}
	if c.JSON {
		for _, r := range recipes {
			if err := c.result(map[string]any{"recipe": r.Name, "datasets": r.Datasets, "summary": r.Summary, "published": r.Published, "measured": r.Measured, "text": r.Text()}, nil); err != nil {
				return err
			}
		}
		return nil
	}
	if len(names) > 0 {
		for _, r := range recipes {
			fmt.Fprintf(c.Out, "## %s, for %s\n%s\n", r.Name, strings.Join(r.Datasets, ", "), r.Text())
		}
		return nil
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "RECIPE\tDATA SETS\t\n")
	for _, r := range recipes {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, strings.Join(r.Datasets, " "), r.Summary)
		for _, f := range r.Published {
			fmt.Fprintf(w, "\t\t  published %v\n", f)
		}
		for _, f := range r.Measured {
			fmt.Fprintf(w, "\t\t  temper    %v\n", f)
		}
	}
	w.Flush()
	fmt.Fprintf(c.Out, "\nWithout --recipe a data set's first one is taken. temper recipes NAME prints one,\ntemper reproduce NAME compares it with its published number.\n")
	return nil
}
