// Package nn holds layers, models, initialisers, losses, optimisers and
// learning-rate schedules.
//
// A model is a pure function of (parameters, buffers, images, mode) and gives
// logits and new buffers. Parameters are a Tree: named nodes of any origin, so
// that perturbed, averaged or frozen weights are ordinary graph building. The
// function is written once, against a Scope; run over a scratch graph it
// declares the model's parameters, run over a real one it looks them up.
// Optimisers are pure functions too; whoever builds the step assigns.
//
// Names and layouts of parameters are those of the PyTorch reference
// implementations, so that state_dicts load both ways.
//
// What belongs here: anything that is a formula over graph nodes and knows
// nothing of adversaries, data sets or back ends. It imports engine/graph and
// engine/autodiff only. Compound layers are built from the operations of the
// graph; making them fast is the engine's task. Schedules are plain functions
// on the host.
package nn
