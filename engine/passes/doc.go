// Package passes holds the rewrites that take a graph as built to the graph
// that is planned: one table, run in order, each pass taking and giving a graph
// that graph.Verify accepts.
//
// A pass is a function on nodes given to graph.Rewrite, in a file of its own,
// with its before/after texts beside it under testdata. What depends on memory,
// on fusion or on a machine is decided later, in plan and in the back ends.
package passes
