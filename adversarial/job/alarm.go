package job

import (
	"fmt"
	"slices"
	"strings"

	"temper/adversarial"
	"temper/adversarial/run"
)

// Alarms watch a training run for what goes wrong without showing in its loss.
// They look at every evaluation, and are told by numbers in metrics.jsonl
// (alarm/NAME is 1 while its condition holds) and by a line on the console
// when it begins to hold.
type Alarms struct {
	Probe     int `toml:"probe"`     // training examples, the first ones, that the alarms attack; 0: no alarms
	Rollbacks int `toml:"rollbacks"` // how often a run may go back; the next time it stops

	Catastrophic Alarm `toml:"catastrophic_overfitting"`
	Robust       Alarm `toml:"robust_overfitting"`
	Collapse     Alarm `toml:"collapse"`
	Masking      Alarm `toml:"gradient_masking"`
}

// Alarm is what one of them does, and from when on.
type Alarm struct {
	// Action is off, warn, stop (training ends here, the run's results are
	// measured), or rollback (see [history]).
	Action string `toml:"action"`
	// Limit is what the number that the alarm watches must pass:
	//
	//	catastrophic_overfitting  robust accuracy on the probe under one step
	//	                          (training's own attack, or FGSM) less that
	//	                          under PGD-10; 0.3
	//	robust_overfitting        the best robust accuracy on the held-out
	//	                          examples so far less that of now; 0.05
	//	collapse                  of the probe's examples of other classes, the
	//	                          share that is taken for the class predicted
	//	                          most often; 0.8
	//	gradient_masking          the share of the probe that PGD-10 leaves right
	//	                          and Square breaks, or where 20 blind draws find
	//	                          a larger loss than PGD-10; 0.1
	Limit float64 `toml:"limit"`
}

const (
	actionOff      = "off"
	actionWarn     = "warn"
	actionStop     = "stop"
	actionRollback = "rollback"
)

// defaultAlarms warn.
func defaultAlarms() Alarms {
	return Alarms{
		Probe: 100, Rollbacks: 3,
		Catastrophic: Alarm{actionWarn, 0.3},
		Robust:       Alarm{actionWarn, 0.05},
		Collapse:     Alarm{actionWarn, 0.8},
		Masking:      Alarm{actionWarn, 0.1},
	}
}

// reading is what the alarms see at an evaluation; all of it shares, from 0 to 1.
type reading struct {
	single, multi float64 // robust on the probe under one step, and under ten
	search        float64 // of the probe: right under gradients, wrong under a search without them
	surface       float64 // of the probe: blind draws of the ball find a larger loss than gradients
	class         string  // that the network predicts most often on the probe
	predicted     float64 // how often
	labelled      float64 // how often it is right to
	robust, best  float64 // on the evaluated examples, now and in the best evaluation
}

// change is what a rollback changes.
type change int

const (
	moreSteps change = iota // the attack's steps
	lowerRate               // the learning rate
)

// alarm is one that there is.
type alarm struct {
	name   string
	of     func(*Alarms) Alarm
	needs  func(*Settings) string // what a run lacks for it; "" if nothing
	value  func(*reading) float64
	text   func(*reading) string
	remedy string
	change change
}

func (a alarm) is(b alarm) bool { return a.name == b.name }

// alarms are all of them, in the order in which they are told.
var alarms = []alarm{
	{
		name:  "catastrophic_overfitting",
		of:    func(a *Alarms) Alarm { return a.Catastrophic },
		needs: needsAttack,
		value: func(r *reading) float64 { return r.single - r.multi },
		text: func(r *reading) string {
			return fmt.Sprintf("%.0f %% of the probe stand one step of ascent, %.0f %% ten: the network learns to make one step useless", 100*r.single, 100*r.multi)
		},
		remedy: "take more steps or n-fgsm, add grad_align, or lower eps; keep the best checkpoint (checkpoint.choice)",
		change: moreSteps,
	}, {
		name: "robust_overfitting",
		of:   func(a *Alarms) Alarm { return a.Robust },
		needs: func(s *Settings) string {
			if s.Data.HeldOut == 0 {
				return "data.held_out"
			}
			return ""
		},
		value: func(r *reading) float64 { return r.best - r.robust },
		text: func(r *reading) string {
			return fmt.Sprintf("robust accuracy on the held-out examples was %.1f %% and is %.1f %%: from here on training fits its own examples", 100*r.best, 100*r.robust)
		},
		remedy: "keep the best checkpoint (checkpoint.choice), end earlier, or average the weights (training.average)",
		change: lowerRate,
	}, {
		name:  "collapse",
		of:    func(a *Alarms) Alarm { return a.Collapse },
		needs: func(*Settings) string { return "" },
		value: func(r *reading) float64 { return (r.predicted - r.labelled) / max(1-r.labelled, 1e-9) },
		text: func(r *reading) string {
			return fmt.Sprintf("%.0f %% of the probe are taken for class %s, which %.0f %% are: the network says the same of everything", 100*r.predicted, r.class, 100*r.labelled)
		},
		remedy: "raise eps slowly (training.eps_warmup), lower the learning rate, or clip the gradient",
		change: lowerRate,
	}, {
		name:  "gradient_masking",
		of:    func(a *Alarms) Alarm { return a.Masking },
		needs: needsAttack,
		value: func(r *reading) float64 { return max(r.search, r.surface) },
		text: func(r *reading) string {
			return fmt.Sprintf("without gradients a search breaks %.0f %% of the probe that PGD leaves right, and blind draws find a larger loss on %.0f %%: gradients do not lead uphill", 100*r.search, 100*r.surface)
		},
		remedy: "do not trust robust accuracies under gradient attacks; take more steps, a random start, or a lower eps at first (training.eps_warmup)",
		change: moreSteps,
	},
}

func needsAttack(s *Settings) string {
	if !s.Training.Attacks() {
		return "adversarial training"
	}
	return ""
}

// armed lists the alarms that look at a run.
func (s *Settings) armed() (list []alarm) {
	for _, a := range alarms {
		if s.Alarms.Probe > 0 && a.of(&s.Alarms).Action != actionOff && a.needs(s) == "" {
			list = append(list, a)
		}
	}
	return list
}

// rollsBack reports whether a run may ever go back.
func (s *Settings) rollsBack() bool {
	return slices.ContainsFunc(s.armed(), func(a alarm) bool { return a.of(&s.Alarms).Action == actionRollback })
}

func (a *Alarms) validate() error {
	if a.Probe < 0 || a.Rollbacks < 0 {
		return fmt.Errorf("alarms: probe %d, rollbacks %d: want at least 0", a.Probe, a.Rollbacks)
	}
	actions := []string{actionOff, actionWarn, actionStop, actionRollback}
	for _, one := range alarms {
		switch set := one.of(a); {
		case !slices.Contains(actions, set.Action):
			return fmt.Errorf("alarms.%s: unknown action %q%s: want %s", one.name, set.Action, run.DidYouMean(set.Action, actions), strings.Join(actions, ", "))
		case !(set.Limit > 0 && set.Limit < 1):
			return fmt.Errorf("alarms.%s: limit %v: want a share between 0 and 1", one.name, set.Limit)
		}
	}
	return nil
}

// describeAlarms is a line of the alarms and what they do, and of those that
// cannot look.
func (s *Settings) describeAlarms() string {
	if s.Alarms.Probe == 0 {
		return "none"
	}
	var all []string
	for _, a := range alarms {
		switch set, lacks := a.of(&s.Alarms), a.needs(s); {
		case set.Action == actionOff:
			all = append(all, a.name+" off")
		case lacks != "":
			all = append(all, fmt.Sprintf("%s needs %s", a.name, lacks))
		default:
			all = append(all, fmt.Sprintf("%s %s beyond %v", a.name, set.Action, set.Limit))
		}
	}
	return fmt.Sprintf("probe %d; %s", s.Alarms.Probe, strings.Join(all, ", "))
}

// Event is an alarm that went off.
type Event struct {
	Name   string  `json:"name"`
	Epoch  int     `json:"epoch"`
	Step   int     `json:"step"`
	Value  float64 `json:"value"` // that passed the limit
	Action string  `json:"action"`
	To     int     `json:"to,omitempty"`  // rollback: the step that the run went back to
	Now    string  `json:"now,omitempty"` // rollback: what it does otherwise from there on; set when it has gone back
}

// history is what the alarms have made of a run so far. It is part of every
// checkpoint. A rollback goes back to the last evaluation at which no alarm
// held, and on from there with one thing changed, so that it does not come to
// the same point again: after catastrophic overfitting and gradient masking the
// attack takes twice as many steps, at least four (a method of one step becomes
// pgd-at), after the other alarms the learning rate is halved. Nothing is drawn
// anew: where the run goes is decided by its settings alone.
type history struct {
	Events []Event  `json:"events,omitempty"`
	Holds  []string `json:"holds,omitempty"`  // alarms whose condition held at the last evaluation
	Longer int      `json:"longer,omitempty"` // rollbacks that doubled the attack's steps
	Slower int      `json:"slower,omitempty"` // rollbacks that halved the learning rate
}

func (h *history) rollbacks() int { return h.Longer + h.Slower }

// stopped reports whether an alarm has ended the run.
func (h *history) stopped() bool {
	return len(h.Events) > 0 && h.Events[len(h.Events)-1].Action == actionStop
}

// rate is the factor on the learning rate.
func (h *history) rate() float64 { return 1 / float64(int(1)<<h.Slower) }

// training is the method after the rollbacks.
func (h *history) training(t adversarial.Training, threat adversarial.ThreatModel) adversarial.Training {
	if h.Longer == 0 {
		return t
	}
	a := &t.Attack
	if a.Steps == 1 && a.Name != "ascent" {
		a.StepSize = adversarial.Epsilon{} // that of one step is too large for several
	}
	if a.Name == "fgsm" {
		a.Name, a.RandomStart = "pgd", true
	}
	a.Steps = max(a.Steps, 2) << h.Longer
	switch t.Method {
	case "fgsm-rs", "n-fgsm", "free":
		t.Method, t.Replays, t.Noise = "pgd-at", 0, 0
	}
	return t.Resolve(threat)
}

// judge compares a reading with the limits: the alarms whose condition holds.
func judge(r *reading, armed []alarm, limits *Alarms) (holds []alarm) {
	for _, a := range armed {
		if a.value(r) > a.of(limits).Limit {
			holds = append(holds, a)
		}
	}
	return holds
}

// decide picks what is to be done of the alarms that hold: nil is nothing but to
// warn. To stop goes before to go back.
func decide(holds []alarm, limits *Alarms) *alarm {
	for _, action := range []string{actionStop, actionRollback} {
		for i, a := range holds {
			if a.of(limits).Action == action {
				return &holds[i]
			}
		}
	}
	return nil
}
