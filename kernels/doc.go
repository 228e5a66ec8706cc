// Package kernels will hold the CUDA C++ of temper: kernel templates and the one
// device header, embedded in the binary and compiled at run time. It is empty
// until the CUDA back end is built; package cuda already writes the sources of
// fused groups against the names that the header will define.
package kernels
