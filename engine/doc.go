// Package engine compiles graphs and runs them: it takes a graph from package
// graph through the passes and the plan to a back end, and holds what a running
// program needs: devices, state, the step block, feeds and fetches.
//
// The rooms below it, in the order in which a program passes them: graph (the
// representation), autodiff (derivatives, graph to graph), passes (rewrites),
// plan (fusion and memory), and the back ends, of which cpu lives here. Back
// ends register themselves; engine imports none. interp and optest serve tests
// only; gorgonia is the border with that library.
package engine
