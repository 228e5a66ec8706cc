package cuda

import (
	"errors"
	"fmt"
	"strings"
)

// Error is a failed call of the driver.
type Error struct {
	Call string // "cuLaunchKernel", with what it was to do where that helps
	Code int
	Name string // "CUDA_ERROR_INVALID_VALUE"
	Text string // the driver's sentence, or the emulator's report
	Do   string // what to do about it; "" where that depends on the call
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s: %s", e.Call, e.Name, e.Text)
	if e.Do != "" {
		text += ": " + e.Do
	}
	return text
}

// The codes of CUresult that are treated in their own way.
const (
	outOfMemory  = 2
	stubLibrary  = 34
	launchFailed = 719
)

// known are the errors that users meet for what is wrong with their machine, or with
// a kernel, and what to do: cuda.h has all of them. The names are for drivers that
// cannot say them: the stub knows none, an old driver not those of its successors.
var known = map[int]struct{ name, do string }{
	stubLibrary:  {"CUDA_ERROR_STUB_LIBRARY", "the library is the toolkit's stub, which is there to be linked with: install the NVIDIA driver, or take the folder stubs out of LD_LIBRARY_PATH"},
	36:           {"CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER", "update the NVIDIA driver"},
	46:           {"CUDA_ERROR_DEVICE_UNAVAILABLE", "another process may have it to itself, which nvidia-smi shows as compute mode E. Process: wait for that process, take another device, or nvidia-smi -c DEFAULT"},
	100:          {"CUDA_ERROR_NO_DEVICE", "nvidia-smi should list one; a container needs --gpus all, CUDA_VISIBLE_DEVICES must not hide it, and where MIG is on there must be an instance"},
	102:          {"CUDA_ERROR_DEVICE_NOT_LICENSED", "the virtual GPU wants a licence from its server"},
	200:          {"CUDA_ERROR_INVALID_IMAGE", newerCompiler},
	209:          {"CUDA_ERROR_NO_BINARY_FOR_GPU", newerCompiler},
	214:          {"CUDA_ERROR_ECC_UNCORRECTABLE", brokenDevice},
	220:          {"CUDA_ERROR_NVLINK_UNCORRECTABLE", brokenDevice},
	226:          {"CUDA_ERROR_CONTAINED", brokenDevice},
	304:          {"CUDA_ERROR_OPERATING_SYSTEM", "the driver's device files cannot be used: look at the rights of /dev/nvidia*, and load the module nvidia-uvm with nvidia-modprobe -u"},
	700:          {"CUDA_ERROR_ILLEGAL_ADDRESS", wrongKernel},
	701:          {"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", wrongKernel},
	702:          {"CUDA_ERROR_LAUNCH_TIMEOUT", "the device also drives a display, whose watchdog ended a kernel: take another device, or a smaller batch"},
	714:          {"CUDA_ERROR_HARDWARE_STACK_ERROR", wrongKernel},
	715:          {"CUDA_ERROR_ILLEGAL_INSTRUCTION", wrongKernel},
	716:          {"CUDA_ERROR_MISALIGNED_ADDRESS", wrongKernel},
	717:          {"CUDA_ERROR_INVALID_ADDRESS_SPACE", wrongKernel},
	718:          {"CUDA_ERROR_INVALID_PC", wrongKernel},
	launchFailed: {"CUDA_ERROR_LAUNCH_FAILED", wrongKernel},
	802:          {"CUDA_ERROR_SYSTEM_NOT_READY", "GPUs that are joined by NVSwitch need their fabric manager: systemctl start nvidia-fabricmanager, of the driver's version"},
	803:          {"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "the driver's library and the loaded kernel module are of different versions: reboot after an update of the driver; in a container, take its own libcuda away"},
	804:          {"CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "the compatibility library (cuda-compat) serves no GPU of this kind: take its folder out of LD_LIBRARY_PATH, or update the NVIDIA driver"},
	805:          {"CUDA_ERROR_MPS_CONNECTION_FAILED", noMPS},
	806:          {"CUDA_ERROR_MPS_RPC_FAILURE", noMPS},
	807:          {"CUDA_ERROR_MPS_SERVER_NOT_READY", noMPS},
	808:          {"CUDA_ERROR_MPS_MAX_CLIENTS_REACHED", noMPS},
	809:          {"CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED", noMPS},
	810:          {"CUDA_ERROR_MPS_CLIENT_TERMINATED", noMPS},
	919:          {"CUDA_ERROR_FABRIC_NOT_READY", "the fabric manager is still at work: try again in a minute"},
	999:          {"CUDA_ERROR_UNKNOWN", "the driver is in disorder, as after a suspend: see nvidia-smi and the kernel's log for an Xid, and load nvidia_uvm anew or reboot"},
}

const (
	newerCompiler = "the driver does not load what NVRTC made: update the NVIDIA driver, or name an NVRTC of its own version in TEMPER_NVRTC"
	brokenDevice  = "the GPU itself failed: see nvidia-smi -q and the kernel's log for an Xid, and reset or replace it; runs go on from their last checkpoint"
	wrongKernel   = "a kernel went wrong: TEMPER_CUDA_GRAPH=off and CUDA_LAUNCH_BLOCKING=1 have the run say which one, and TEMPER_CUDA_WITHOUT=wgmma leaves those out that only sm_90 has; please report it"
	noMPS         = "the Multi-Process Service refuses: see that nvidia-cuda-mps-control runs and has room, or stop it"
)

// NoDriverError says that no driver could be opened. Where that means that the
// CPU is used, whoever chooses it says so.
type NoDriverError struct {
	Tried []string // libraries, in order
	Why   string   // what the dynamic linker said of the last one
}

func (e *NoDriverError) Error() string {
	return fmt.Sprintf("no CUDA driver (tried %s)", strings.Join(e.Tried, ", "))
}

// ErrNoCgo says that the binary cannot open any driver.
var ErrNoCgo = errors.New("built without cgo, so without CUDA: install a C compiler or take the release binary with CUDA")

// The oldest that temper supports: CUDA 12.0 brought the last driver functions
// that it needs, sm_80 the bf16 tensor cores and asynchronous copies.
const (
	oldestDriver     = 12000
	oldestCapability = 80
)

// version writes the driver's number of a version: 12040 is "12.4".
func version(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// DeviceInfo describes a GPU, or the emulator's.
type DeviceInfo struct {
	Ordinal        int
	Name           string
	Capability     int   // compute capability: 90 is 9.0, sm_90
	Memory         int64 // bytes
	SMs            int   // streaming multiprocessors
	SharedPerBlock int   // largest shared memory of a block, in bytes
	Prohibited     bool  // its compute mode allows no work
}

// usable says why temper cannot run on a device, nil if it can.
func (i *DeviceInfo) usable() error {
	if i.Capability < oldestCapability {
		return fmt.Errorf("CUDA device %d (%s) is sm_%d: temper needs sm_%d or later", i.Ordinal, i.Name, i.Capability, oldestCapability)
	}
	if i.Prohibited {
		return fmt.Errorf("CUDA device %d (%s) is in compute mode Prohibited: nvidia-smi -i %d -c DEFAULT lets programs use it", i.Ordinal, i.Name, i.Ordinal)
	}
	return nil
}
