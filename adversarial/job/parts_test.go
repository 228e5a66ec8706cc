package job

import (
	"testing"

	"temper/engine/passes"
	"temper/engine/plan"
)

// TestAttackParts tells the steps of the attack from those of the update, also
// where both stand in one loop over samples.
func TestAttackParts(t *testing.T) {
	for _, method := range []string{"standard", "pgd-at", "trades"} {
		for name, target := range map[string]passes.Target{"plain": {}, "by rows": {RowBytes: 1 << 20, ChannelsLast: true, PackedFilters: true}} {
			list, err := Resolve([]Assignment{{"training.method", method, "--method"}})
			if err != nil {
				t.Fatal(err)
			}
			g, err := list[0].program("step")
			if err != nil {
				t.Fatal(err)
			}
			final, err := passes.Run(g, passes.Options{Target: target})
			if err != nil {
				t.Fatal(err)
			}
			p := plan.Build(final, plan.Options{})
			attack, update := 0, 0
			for _, is := range ofAttack(p) {
				if is {
					attack++
				} else {
					update++
				}
			}
			if update == 0 || (attack > 0) != (method != "standard") {
				t.Errorf("%s, %s: %d steps of the attack, %d of the update\n%v", method, name, attack, update, p)
			}
		}
	}
}
