package job

import (
	"fmt"
	"strings"

	"temper/adversarial"
	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine"
)

// options is what datasets.Open needs besides a name and a folder.
func (s *Settings) options() datasets.Options {
	d := s.Data.Structured
	own := datasets.NPZ{SHA256: s.Data.SHA256, Unit: s.Threat.Domain == adversarial.Unit}
	return datasets.Options{Seed: s.Seed, NPZ: own, Structured: datasets.Structured{
		K: d.K, D: d.D, P: d.P, R: d.R, N: d.N, Alpha: d.Alpha, Beta: d.Beta,
		Jitter: d.Jitter, NoiseStd: d.NoiseStd, TrainN: d.TrainN, TestN: d.TestN,
	}}
}

// ownData begins the name of own data, npz:FILE.
const ownData = "npz:"

// complete makes the path of own data independent of the working directory, and
// notes what is in the file: a run does not go on with another one of the same
// name.
func (d *Data) complete() error {
	file, own := strings.CutPrefix(d.Name, ownData)
	switch {
	case !own && d.SHA256 != "":
		return usage("data.sha256 is for own data, npz:FILE, not for %s", d.Name)
	case !own || file == "": // which datasets refuses
		return nil
	}
	file, sum, err := held("--dataset "+ownData, file, "data.sha256", d.SHA256)
	if err != nil {
		return err
	}
	d.Name, d.SHA256 = ownData+file, sum
	return nil
}

// datasetNames lists what --dataset takes.
func datasetNames() []string {
	names := []string{"structured"}
	for _, k := range datasets.List() {
		names = append(names, k.Name)
	}
	return append(names, "npz")
}

// unknownDataset is the error for a name that no set has.
func unknownDataset(name string) error {
	known := datasetNames()
	return fmt.Errorf("unknown data set %q%s: there are %s:FILE", name, run.DidYouMean(name, known), strings.Join(known, ", "))
}

// open reads one split.
func (s *Settings) open(split datasets.Split) (*datasets.Set, error) {
	return datasets.Open(s.Data.Name, s.Data.Dir, split, s.options())
}

// trainingSet reads the examples to train on and those held out of them, nil
// if there are none.
func (s *Settings) trainingSet() (rest, held datasets.Source, err error) {
	set, err := s.open(datasets.Train)
	if err != nil {
		return nil, nil, err
	}
	rest = set
	if s.Data.Limit > 0 {
		if rest, err = datasets.Take(rest, s.Data.Limit); err != nil {
			return nil, nil, fmt.Errorf("data.limit: %w", err)
		}
	}
	if s.Data.HeldOut > 0 {
		if rest, held, err = datasets.HoldOut(rest, s.Data.HeldOut, s.Seed, true); err != nil {
			return nil, nil, fmt.Errorf("data.held_out: %w", err)
		}
	}
	if s.Batches.DropLast && rest.Len() < s.Batches.Size {
		return nil, nil, fmt.Errorf("batches.drop_last leaves nothing: %d examples are less than one batch of %d", rest.Len(), s.Batches.Size)
	}
	return rest, held, nil
}

// bytes views a batch's elements as bytes.
func bytesOf(v datasets.Values) []byte {
	if v.F32 != nil {
		return engine.Bytes(v.F32)
	}
	return v.U8
}

// feed binds a batch to a program's inputs, without a copy.
func feed(e *engine.Executable, b *datasets.Batch) error {
	if err := e.FeedBytes("x", bytesOf(b.Values)); err != nil {
		return err
	}
	if err := e.FeedBytes("y", engine.Bytes(b.Labels)); err != nil {
		return err
	}
	return e.FeedBytes("ids", engine.Bytes(b.IDs))
}
