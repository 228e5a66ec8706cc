// Package bench measures this machine: training steps and kernels through the
// engine, on any device, beside the ceilings of the same device and, where
// PyTorch is at hand, beside its twins of the same work, in turn in one run.
//
// A case is a small value, Spec; cases.go lists them. What temper runs for one
// is an ordinary graph (program.go); what PyTorch runs is in build/peer/twin.py.
// measure.go takes the times, table.go shows them.
package bench
