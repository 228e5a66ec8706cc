package job

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"temper/adversarial/run"
	"temper/datasets"
	"temper/engine/graph"
	"temper/engine/onnx"
	"temper/nn"
)

// Formats lists what temper export writes. A file's extension is its format.
var Formats = []string{"safetensors", "onnx"}

// Metadata of exported files. From the settings temper import makes the run
// again.
const (
	metaConfig  = "temper.config"
	metaVersion = "temper.version"
	metaModel   = "temper.model"
	metaStepOf  = "temper.step" // of the checkpoint
)

// ExportOptions is a command line of temper export.
type ExportOptions struct {
	Root       string // folder of run folders
	Run        string // or the path of a checkpoint in one
	Checkpoint string // last, best, or a name; "": the one that counts
	Weights    string // average or raw; "": the average, if the run has one
	Format     string // "": by the file's extension
	Out        string
}

// exported is the result of temper export.
type exported struct {
	File       string `json:"file"`
	Format     string `json:"format"`
	Model      string `json:"model"`
	Run        string `json:"run"`
	Step       int64  `json:"step"`
	Weights    string `json:"weights"`
	Parameters int    `json:"parameters"`
	Bytes      int64  `json:"bytes"`
}

// Export is temper export.
func Export(c Console, o ExportOptions) error {
	if err := o.complete(); err != nil {
		return err
	}
	dir, s, err := openRun(o.Root, o.Run)
	if err != nil {
		return err
	}
	eval := EvalSettings{Checkpoint: cmp.Or(o.Checkpoint, s.Checkpoint.Choice), Weights: cmp.Or(o.Weights, s.weights())}
	ck, err := eval.load(dir)
	if err != nil {
		return err
	}
	in, err := datasets.Describe(s.Data.Name, s.Data.Dir, datasets.Test, s.options())
	if err != nil {
		return err
	}
	m, err := s.model(in)
	if err != nil {
		return err
	}
	tensors, err := modelWeights(m, ck.Tensors)
	if err != nil {
		return err
	}
	meta, err := s.metadata(ck.Step)
	if err != nil {
		return err
	}
	write := func(w io.Writer) error {
		return run.WriteSafetensors(w, &run.Tensors{List: tensors, Metadata: meta})
	}
	if o.Format == "onnx" {
		write = func(w io.Writer) error { return writeONNX(w, m, tensors, meta) }
	}
	if err := run.WriteFileAtomic(o.Out, write); err != nil {
		return err
	}
	info, err := os.Stat(o.Out)
	if err != nil {
		return err
	}
	e := exported{o.Out, o.Format, m.Name, dir, ck.Step, eval.Weights, m.Parameters(), info.Size()}
	return c.result(e, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s weights of %s, %d parameters, step %d, as %s, %d bytes\n", e.File, e.Weights, e.Model, e.Parameters, e.Step, e.Format, e.Bytes)
	})
}

// complete checks the options and fills in what follows from others.
func (o *ExportOptions) complete() error {
	if o.Out == "" {
		return usage("export needs --out FILE")
	}
	ext := strings.TrimPrefix(filepath.Ext(o.Out), ".")
	o.Format = cmp.Or(o.Format, ext)
	if !slices.Contains(Formats, o.Format) {
		return usage("unknown format %q: want --format %s", o.Format, strings.Join(Formats, " or "))
	}
	if ext != o.Format && slices.Contains(Formats, ext) {
		return usage("--out %s: the name says %s, --format says %s", o.Out, ext, o.Format)
	}
	if info, err := os.Stat(filepath.Dir(o.Out)); err != nil || !info.IsDir() {
		return fmt.Errorf("--out %s: there is no folder %s", o.Out, filepath.Dir(o.Out))
	}
	if file, ok := strings.CutSuffix(o.Run, ".safetensors"); ok {
		if o.Checkpoint != "" {
			return usage("%s is a checkpoint: leave --checkpoint out", o.Run)
		}
		o.Run, o.Checkpoint = filepath.Dir(filepath.Dir(file)), filepath.Base(file)
	}
	return nil
}

// metadata say what the weights are. "format" is what PyTorch's users look for.
func (s *Settings) metadata(step int64) (map[string]string, error) {
	portable := *s
	portable.Data.Dir, portable.Device, portable.Threads, portable.Init.File = "", "auto", 0, "" // of the machine, not of the weights
	if file, own := strings.CutPrefix(s.Data.Name, ownData); own {
		portable.Data.Name = ownData + filepath.Base(file)
	}
	config, err := toml.Marshal(portable)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"format": "pt", metaConfig: string(config), metaVersion: run.CurrentEnvironment("").Version,
		metaModel: s.Model.Name, metaStepOf: strconv.FormatInt(step, 10),
	}, nil
}

// writeONNX writes the network, from examples x (N,C,H,W) of f32 (images in
// [0,1]) to logits (N,classes), with its normalisation inside.
func writeONNX(w io.Writer, m *nn.Model, tensors []run.Tensor, meta map[string]string) error {
	given := byTensorName(tensors)
	version := meta[metaVersion]
	return onnx.Write(w, func(batch int) (*graph.Graph, error) {
		g := graph.New(m.Name)
		x := g.Input("x", graph.F32, append([]int{batch}, m.Input...)...)
		params, buffers := m.Declare(g, "")
		g.Output("logits", m.Apply(params, buffers, x, nn.Eval).Logits)
		return g, g.Err()
	}, onnx.Options{Version: version, Metadata: meta, State: func(name string) ([]byte, error) {
		t := given[name]
		if t.DType == "I64" {
			return binary.LittleEndian.AppendUint32(nil, binary.LittleEndian.Uint32(t.Data)), nil
		}
		return t.Data, nil
	}})
}
