// Package adversarial holds threat models, attacks and training methods, as
// builders of graphs.
//
// A [ThreatModel] says how far an adversary may move an input. An [Attack]
// builds, from a network, inputs, labels and a threat model, the inputs moved
// against the network: x'. [StepGraph] builds a whole training step as one
// graph, the attack included; [EvalGraph] a batch's evaluation; [RoundGraph] one
// round of an attack, for a host that leaves out what has fallen (AutoAttack:
// [LookupSuite]).
//
// ε, step sizes, learning rates, the seed and the step counter are scalars of
// the step block, so that a run changes them without compiling again. The
// perturbed inputs and all that leads to them carry no derivative: the descent
// step sees x' as data.
//
// What belongs here: anything that is a formula about adversaries, over graph
// nodes. The package imports engine/graph, engine/autodiff and nn only. Who
// runs the graphs (the trainer, the evaluation protocol) lives in the
// subfolders.
package adversarial
