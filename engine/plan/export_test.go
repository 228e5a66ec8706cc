package plan

import "temper/engine/graph"

// InMemory says whether a node has a buffer of its own.
func (p *Plan) InMemory(n *graph.Node) bool { return p.inMemory(n) }
