// Package build holds what stands beside the program: the scripts that write
// test fixtures (oracle) and the PyTorch twins that temper bench measures itself
// against (peer), gorgoniacu.sh, which tests the border with gorgonia.org/cu
// where there is no GPU, nvrtc.sh and python.sh, which install NVRTC and the
// readers that tests hold temper's files to from pinned wheels (nvrtc, python),
// gpu-bundle.sh, which makes a folder for GPU hosts (bundle: what runs there),
// clean_root.py, which carries out the Dockerfile where no container engine is, and
// newcomer.sh, which goes the way of somebody new in a fresh clone.
// Command release makes what is released.
// As a package it carries the twins in the binary.
package build

import "embed"

// Peer is the PyTorch side of temper bench --peer: peer/twin.py, and the models
// that it shares with the fixtures, oracle/models.py.
//
//go:embed peer/twin.py oracle/models.py
var Peer embed.FS
