package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/cpu"
)

// EnvironmentFile is the name of the environments in a run folder.
const EnvironmentFile = "environment.json"

// Environment is what one start of a run ran on: what decides its bits and its
// speed besides the settings.
type Environment struct {
	Date       time.Time `json:"date"`
	Command    []string  `json:"command"`
	Version    string    `json:"version"`  // of temper; "(devel)" if built from a checkout
	Commit     string    `json:"commit"`   // "" if the build did not record one
	Modified   bool      `json:"modified"` // the checkout differed from the commit
	Go         string    `json:"go"`
	OS         string    `json:"os"`
	Arch       string    `json:"arch"`
	CPU        string    `json:"cpu"` // model name; "" if the system does not tell
	Features   []string  `json:"features"`
	Cores      int       `json:"cores"` // logical ones this process may use
	GOMAXPROCS int       `json:"gomaxprocs"`
	Device     string    `json:"device"` // the back end's own description
}

// CurrentEnvironment describes this process; device is the back end's words.
func CurrentEnvironment(device string) Environment {
	e := Environment{
		Date:       time.Now().Truncate(time.Second),
		Command:    os.Args,
		Go:         runtime.Version(),
		OS:         runtime.GOOS,
		Arch:       runtime.GOARCH,
		CPU:        cpuModel(),
		Features:   cpuFeatures(),
		Cores:      runtime.NumCPU(),
		GOMAXPROCS: runtime.GOMAXPROCS(0),
		Device:     device,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		e.Version = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				e.Commit = s.Value
			case "vcs.modified":
				e.Modified = s.Value == "true"
			}
		}
	}
	return e
}

// AddEnvironment appends e to environment.json of the run folder dir: a JSON
// array with one entry for each start, because a run may be resumed on another
// machine or by another build.
func AddEnvironment(dir string, e Environment) error {
	list, err := ReadEnvironments(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return WriteFileAtomic(filepath.Join(dir, EnvironmentFile), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(append(list, e))
	})
}

// ReadEnvironments reads environment.json of the run folder dir, the first
// start first.
func ReadEnvironments(dir string) ([]Environment, error) {
	path := filepath.Join(dir, EnvironmentFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fileError("read", path, err)
	}
	var list []Environment
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fileError("read", path, err)
	}
	return list, nil
}

// cpuFeatures lists the instruction sets that kernels are chosen by.
func cpuFeatures() []string {
	list := []string{}
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"avx", cpu.X86.HasAVX},
		{"avx2", cpu.X86.HasAVX2},
		{"fma", cpu.X86.HasFMA},
		{"avx512f", cpu.X86.HasAVX512F},
		{"avx512bw", cpu.X86.HasAVX512BW},
		{"avx512dq", cpu.X86.HasAVX512DQ},
		{"avx512vl", cpu.X86.HasAVX512VL},
		{"avx512bf16", cpu.X86.HasAVX512BF16},
		{"amx-tile", cpu.X86.HasAMXTile},
		{"amx-bf16", cpu.X86.HasAMXBF16},
		{"asimd", cpu.ARM64.HasASIMD},
		{"asimdhp", cpu.ARM64.HasASIMDHP},
		{"sve", cpu.ARM64.HasSVE},
	} {
		if f.has {
			list = append(list, f.name)
		}
	}
	return list
}

// modelName finds the processor's name in the text of Linux's /proc/cpuinfo.
func modelName(cpuinfo []byte) string {
	for line := range bytes.Lines(cpuinfo) {
		key, value, ok := bytes.Cut(line, []byte(":"))
		if ok && string(bytes.TrimSpace(key)) == "model name" {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
