package cuda

// GorgoniaDevice is a GPU as gorgonia.org/cu describes it.
type GorgoniaDevice struct {
	Ordinal    int
	Name       string
	Capability [2]int // compute capability, major and minor
	Memory     int64  // bytes
}
