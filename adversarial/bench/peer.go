package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"temper/build"
)

// Variants are the ways in which PyTorch runs a case.
var Variants = []string{"nchw", "channels_last", "compile", "graph"}

// Peer is a Python process that runs PyTorch's twins.
type Peer struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
	folder  string
	Version string // of PyTorch, and the instruction set that it uses
}

// answer is a line from the twin.
type answer struct {
	Error   string  `json:"error"`
	Skip    bool    `json:"skip"` // there is no such variant
	Seconds float64 `json:"seconds"`
	Torch   string  `json:"torch"`
	Detail  string  `json:"detail"`
}

// OpenPeer starts the twins under a Python interpreter, which must find torch.
// Their precision is PyTorch's nearest to the one named.
func OpenPeer(python string, threads int, gpu bool, precision string) (*Peer, error) {
	folder, err := os.MkdirTemp("", "temper-peer-")
	if err != nil {
		return nil, err
	}
	p := &Peer{folder: folder}
	if err := p.start(python, threads, gpu, precision); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Peer) start(python string, threads int, gpu bool, precision string) error {
	for _, name := range []string{"peer/twin.py", "oracle/models.py"} {
		b, err := fs.ReadFile(build.Peer, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(p.folder, filepath.Base(name)), b, 0o644); err != nil {
			return err
		}
	}
	cmd := exec.Command(python, filepath.Join(p.folder, "twin.py"))
	// Without these, freed buffers go back to the system and are faulted in again
	// each step, and idle OpenMP threads spin on the cores that temper then needs.
	cmd.Env = append(os.Environ(), "MALLOC_MMAP_THRESHOLD_=1073741824", "MALLOC_TRIM_THRESHOLD_=4294967296",
		"MALLOC_TOP_PAD_=268435456", "OMP_WAIT_POLICY=passive", fmt.Sprintf("OMP_NUM_THREADS=%d", threads))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("no Python for the peer: %w; name one that has torch with --python", err)
	}
	p.cmd, p.in, p.out = cmd, in, bufio.NewScanner(out)
	a, err := p.ask(map[string]any{"do": "open", "threads": threads, "gpu": gpu, "precision": precision})
	if err != nil {
		in.Close()
		cmd.Wait() // until then, complaint is being written
		p.cmd = nil
		reason := err.Error()
		if text := strings.TrimSpace(complaint.String()); text != "" { // it ended before it could answer
			reason = text[strings.LastIndexByte(text, '\n')+1:]
		}
		return fmt.Errorf("%s cannot run the peer: %s; install torch there, or name another with --python", python, reason)
	}
	p.Version = fmt.Sprintf("PyTorch %s, %s", a.Torch, a.Detail)
	return nil
}

func (p *Peer) ask(q any) (answer, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return answer{}, err
	}
	if !p.out.Scan() {
		return answer{}, fmt.Errorf("the peer ended: %w", io.ErrUnexpectedEOF)
	}
	var a answer
	if err := json.Unmarshal(p.out.Bytes(), &a); err != nil {
		return answer{}, fmt.Errorf("the peer says %q: %w", p.out.Text(), err)
	}
	if a.Error != "" {
		return answer{}, fmt.Errorf("peer: %s", a.Error)
	}
	return a, nil
}

// prepare makes the next runs those of a case and runs it once; false means that
// there is no such variant.
func (p *Peer) prepare(s Spec, variant string) (bool, error) {
	a, err := p.ask(map[string]any{"do": "prepare", "spec": s, "variant": variant})
	return !a.Skip, err
}

// run is one step of a prepared variant, in seconds as the twin measured them.
func (p *Peer) run(variant string) (float64, error) {
	a, err := p.ask(map[string]any{"do": "run", "variant": variant})
	return a.Seconds, err
}

// Close ends the process and removes its files.
func (p *Peer) Close() {
	if p.in != nil {
		p.in.Close()
	}
	if p.cmd != nil {
		p.cmd.Wait()
	}
	os.RemoveAll(p.folder)
}
