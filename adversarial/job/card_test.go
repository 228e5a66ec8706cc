package job

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"temper/datasets"
)

// TestRefuseCard: only float32's AutoAttack on the whole published test set
// gives a card.
func TestRefuseCard(t *testing.T) {
	s := one(t, "data.name=cifar10", "recipe=pgd-at")
	cifar := infos["cifar10"]
	cifar.Name, cifar.Published = "cifar10", 10000
	for _, c := range []struct {
		user     []string
		in       datasets.Info
		examples int
		want     string // "": a card
	}{
		{[]string{"attack.name=autoattack"}, cifar, 10000, ""},
		{[]string{"attack.name=autoattack", "threat.norm=l2", "threat.eps=0.5"}, cifar, 10000, ""},
		{[]string{"attack.name=autoattack", "threat.eps=4/255,8/255"}, cifar, 10000, "several radii: give one --eps"},
		{[]string{"attack.name=autoattack-plus"}, cifar, 10000, "the attack is autoattack-plus, L∞ 8/255: give --attack autoattack"},
		{[]string{"attack.name=autoattack,pgd"}, cifar, 10000, "give --attack autoattack, which is float32's, and nothing else"},
		{[]string{"attack.name=pgd"}, cifar, 10000, "the attack is PGD-"},
		{[]string{"attack.name=autoattack-mixed"}, cifar, 10000, "autoattack-mixed is an upper bound on robust accuracy: give --attack autoattack"},
		{[]string{"attack.name=autoattack", "split=train"}, cifar, 10000, "the split is train: give --split test"},
		{[]string{"attack.name=autoattack"}, cifar, 1000, "these are 1000 of cifar10's 10000 test examples"},
		{[]string{"attack.name=autoattack"}, datasets.Info{Name: "npz"}, 10000, "npz has no published test set"},
	} {
		evals, err := evalSettings(&s, user(c.user...))
		if err != nil {
			t.Fatal(err)
		}
		err = refuseCard(evals, c.in, c.examples)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "no card: ")) {
			t.Errorf("%v, %d examples: error %v, want %q", c.user, c.examples, err, c.want)
		}
	}
}

// TestCard has the fields of RobustBench's files, with accuracies that Python's
// float() reads.
func TestCard(t *testing.T) {
	s := one(t, "data.name=cifar10", "recipe=pgd-at")
	evals, err := evalSettings(&s, user("attack.name=autoattack"))
	if err != nil {
		t.Fatal(err)
	}
	r := &Evaluation{Outcome: Outcome{N: 10000, Clean: 8334, Robust: 4321}, Warnings: []Warning{{Name: "zero-gradients"}}}
	r.CleanAccuracy, r.RobustAccuracy = accuracy(8334, 10000), accuracy(4321, 10000)
	path := filepath.Join(t.TempDir(), "card.json")
	if err := newCard(&s, evals[0], r).write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"link": "", "name": "", "authors": "", "additional_data": false, "number_forward_passes": 1.0, "dataset": "cifar10", "venue": "",
		"architecture": "PreActResNet-18", "eps": "8/255", "clean_acc": "83.34", "reported": "43.21", "autoattack_acc": "43.21", "unreliable": true,
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s is %v, want %v", key, v, want)
		}
		delete(got, key)
	}
	footnote, _ := got["footnote"].(string)
	for _, want := range []string{"L∞ 8/255, float32, all 10000 test examples", "clean 83.3 % [82.6, 84.1], robust 43.2 % [42.2, 44.2]", "Warnings: zero-gradients."} {
		if !strings.Contains(footnote, want) {
			t.Errorf("footnote %q lacks %q", footnote, want)
		}
	}
	if delete(got, "footnote"); len(got) > 0 {
		t.Errorf("more fields: %v", got)
	}
	r.Warnings, s.Recipe = nil, imported
	if c := newCard(&s, evals[0], r); c.Unreliable || c.Additional != nil || strings.Contains(c.Footnote, "Warnings") {
		t.Errorf("%+v", c)
	}
	if !slices.IsSorted([]int{strings.Index(string(b), "link"), strings.Index(string(b), "dataset"), strings.Index(string(b), "autoattack_acc")}) {
		t.Errorf("the order is not RobustBench's:\n%s", b)
	}
}
