// Package gorgonia is the border with gorgonia.org/gorgonia, in both
// directions. Import turns a finished expression graph of theirs into a graph
// of temper, to be differentiated, compiled and run here. Op is the other way:
// a graph of temper as one operation of their graph, with its gradient.
//
// Import means what their documentation says an operation means, so it gives
// right numbers where v0.9.18 does not (the list is audit_test.go). What it
// does not know, it refuses by name. In three places a derivative follows
// PyTorch and not gorgonia:
//   - rectify at 0 has derivative 0, theirs 1;
//   - a maximum along axes shares its derivative among equals; theirs gives
//     each of them all of it;
//   - of two equals, the larger and the smaller of two share it likewise; theirs
//     gives it to the first.
//
// Import finds a graph as gorgonia left it. A node that it merged with another or
// rewrote while the graph was being built stays so: Log of a SoftMax, for one,
// turns that SoftMax into a log-softmax for all who read it.
//
// Some of what an operation needs is in unexported fields. All reads of these
// go through one table (reflect.go), and a test fails if a field disappears.
//
// What belongs here: whatever needs gorgonia. Nothing else in temper's product
// code imports it, so that the command line does not carry it; tensor, its
// array library, is used by package engine as well.
package gorgonia
