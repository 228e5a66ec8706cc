package job

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
)

// card is an entry of a table of robust models: a file of RobustBench's
// model_info (Croce et al., NeurIPS Datasets and Benchmarks 2021), by its names.
// Accuracies are percentages. What only the authors know is empty.
type card struct {
	Link          string `json:"link"`
	Name          string `json:"name"`
	Authors       string `json:"authors"`
	Additional    *bool  `json:"additional_data"` // null: temper has not trained it
	Passes        int    `json:"number_forward_passes"`
	Dataset       string `json:"dataset"`
	Venue         string `json:"venue"`
	Architecture  string `json:"architecture"`
	Eps           string `json:"eps"`
	CleanAcc      string `json:"clean_acc"`
	Reported      string `json:"reported"`
	Footnote      string `json:"footnote"`
	AutoAttackAcc string `json:"autoattack_acc"`
	Unreliable    bool   `json:"unreliable"` // a check of the evaluation has warned
}

// cardSuite is the one attack whose numbers belong into such a table.
const cardSuite = "autoattack"

// refuseCard says why an evaluation cannot give a card: nil if it can. What is
// not AutoAttack in float32 on the whole published test set is another number.
func refuseCard(evals []*EvalSettings, in datasets.Info, examples int) error {
	e := evals[0]
	because := ""
	switch {
	case len(evals) > 1:
		because = "the evaluation has several radii: give one --eps"
	case e.isMixed():
		because = fmt.Sprintf("%s is %s: give --attack %s", adversarial.MixedSuite, upperBound, cardSuite)
	case len(e.entries) != 1 || e.entries[0].name != cardSuite:
		because = fmt.Sprintf("the attack is %s: give --attack %s, which is float32's, and nothing else", e.describe(), cardSuite)
	case e.Threat.Norm != adversarial.Linf && e.Threat.Norm != adversarial.L2:
		because = fmt.Sprintf("the threat model is %v: tables have L∞ and L2", e.Threat)
	case in.Published == 0:
		because = in.Name + " has no published test set"
	case e.Split != string(datasets.Test):
		because = fmt.Sprintf("the split is %s: give --split test", e.Split)
	case examples != in.Published:
		because = fmt.Sprintf("these are %d of %s's %d test examples: leave --limit out, and have them all", examples, in.Name, in.Published)
	}
	if because == "" {
		return nil
	}
	return fmt.Errorf("no card: it holds AutoAttack's numbers on the whole test set, and %s", because)
}

// architectures are the names that tables have for models.
var architectures = map[string]string{
	"resnet18": "ResNet-18", "preactresnet18": "PreActResNet-18",
	"wideresnet-28-10": "WideResNet-28-10", "wideresnet-34-10": "WideResNet-34-10", "dm-wideresnet-28-10": "WideResNet-28-10",
}

func newCard(s *Settings, e *EvalSettings, r *Evaluation) card {
	percent := func(k int) string { return fmt.Sprintf("%.2f", 100*float64(k)/float64(r.N)) }
	c := card{
		Passes: 1, Dataset: s.Data.Name, Architecture: s.Model.Name, Eps: e.Threat.Epsilon.String(),
		CleanAcc: percent(r.Clean), AutoAttackAcc: percent(r.Robust), Reported: percent(r.Robust),
	}
	if name, ok := architectures[s.Model.Name]; ok { // whatever its activation
		c.Architecture = name
	}
	if s.Recipe != imported {
		c.Additional = new(bool)
	}
	c.Footnote = fmt.Sprintf("AutoAttack (standard: APGD-CE, APGD-T, FAB-T, Square), %v, float32, all %d test examples, by temper %s; 95 %% intervals: clean %v, robust %v.",
		e.Threat, r.N, run.CurrentEnvironment("").Version, r.CleanAccuracy, r.RobustAccuracy)
	var names []string
	for _, w := range r.Warnings {
		names = append(names, w.Name)
	}
	if c.Unreliable = len(names) > 0; c.Unreliable {
		c.Footnote += " Warnings: " + strings.Join(names, ", ") + "."
	}
	return c
}

// write writes the card as RobustBench's files are written.
func (c card) write(path string) error {
	return run.WriteFileAtomic(path, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(c)
	})
}

// checkCard refuses a card before the work.
func (e *evaluation) checkCard(path string) error {
	if path == "" {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fmt.Errorf("--card %s: there is no folder %s", path, filepath.Dir(path))
	}
	return refuseCard(e.evals, e.examples.Info(), e.examples.Len())
}
