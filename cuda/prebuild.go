package cuda

import (
	"fmt"
	"regexp"
	"strconv"
)

// Arch is the architecture to compile for on a device of a compute capability:
// 9.0 with the instructions that only it has.
func Arch(capability int) string {
	if capability == 90 {
		return "sm_90a"
	}
	return fmt.Sprintf("sm_%d", capability)
}

var archName = regexp.MustCompile(`^sm_(\d+)a?$`)

// ParseArch is Arch for an architecture's name, such as "sm_90" or "sm_90a".
func ParseArch(name string) (string, error) {
	if !archName.MatchString(name) {
		return "", fmt.Errorf("no architecture %q: they are called sm_80, sm_90, …", name)
	}
	capability := capabilityOf(name)
	if capability < oldestCapability {
		return "", fmt.Errorf("%s: temper needs sm_%d or later", name, oldestCapability)
	}
	return Arch(capability), nil
}

// capabilityOf is the compute capability of an architecture that Arch names.
func capabilityOf(arch string) int {
	capability, _ := strconv.Atoi(archName.FindStringSubmatch(arch)[1])
	return capability
}

// Prebuilt says what Prebuild found.
type Prebuilt struct {
	Arch    string `json:"arch"`
	Kernels int    `json:"kernels"` // different ones
	// Candidates are those of them that only a GPU that times them may choose.
	Candidates int    `json:"candidates"`
	Compiled   int    `json:"compiled"` // of all, those that the cache did not have
	Compiler   string `json:"compiler"` // CUDA's version of NVRTC
}
