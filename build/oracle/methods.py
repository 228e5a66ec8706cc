"""Training methods, written from their papers: two steps of each on one batch.

Every attack steps on the network in eval mode, as temper's default is, and every descent is in train mode. Random
numbers are those of temper's generator, of the seed in the settings, sample ids 0 … N-1 and the number of the step.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.stateless import functional_call

from attacks import Philox
from experiments import state

STEPS = 2


def uniform(philox, site, step, like):
    """U[-1,1) for every element of a batch."""
    rows = [[2.0**-23 * (w >> 8) - 1 for w in philox.words(site, i, 0, like[0].numel(), step)] for i in range(len(like))]
    return torch.tensor(rows).reshape(like.shape)


def normal(philox, site, step, like):
    """N(0,1) in float32: Giles' approximation of the inverse error function, rounded operation by operation."""
    one = np.float32
    rows = []
    for i in range(len(like)):
        w = np.array(philox.words(site, i, 0, like[0].numel(), step), np.uint64)
        p = ((w >> np.uint64(9)).astype(one) + one(0.5)) * one(2.0**-24)
        q = one(4) * (p * (one(1) - p))
        bits = q.view(np.int32) - np.int32(0x3F3504F3)  # -log q, by hand
        exponent = (bits >> 23).astype(one)
        mantissa = ((bits & 0x7FFFFF) + np.int32(0x3F3504F3)).astype(np.int32).view(one)
        s = (mantissa - one(1)) / (mantissa + one(1))
        r = np.full_like(s, one(1 / 9))
        for a in (1 / 7, 1 / 5, 1 / 3, 1):
            r = r * (s * s) + one(a)
        t = -(exponent * one(0.6931472) + one(2) * s * r)
        central = [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164, 0.246640727, 1.50140941]
        outer = [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047, 1.00167406, 2.83297682]
        near = t < 5
        u = np.where(near, t - one(2.5), np.sqrt(t.astype(np.float64)).astype(one) - one(3))
        value = np.where(near, one(central[0]), one(outer[0]))
        for a, b in zip(central[1:], outer[1:]):
            value = value * u + np.where(near, one(a), one(b))
        z = one(1.4142135) * (value * (one(1) - one(2) * p))
        rows.append(np.where(w & np.uint64(0x100), -z, z).astype(np.float64))
    return torch.tensor(np.array(rows)).reshape(like.shape)


def pgd(model, x, start, eps, alpha, steps, loss):
    """L-inf iterates of signed steps up a loss of the logits; the model in eval mode."""
    model.eval()
    at = start
    for _ in range(steps):
        at = at.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(model(at)).sum(), at)
        at = (x + (at.detach() + alpha * gradient.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    model.train()
    return at.detach()


def divergence(p, q):
    """KL(p || q) per sample, of logits."""
    logp = F.log_softmax(p, 1)
    return (logp.exp() * (logp - F.log_softmax(q, 1))).sum(1)


def cross_entropy(y):
    return lambda logits: F.cross_entropy(logits, y, reduction="none")


def weight_perturbation(model, objective, size):
    """AWP: along the objective's gradient, of a length that is a share of each filter's or matrix's own."""
    kept = copy.deepcopy(model.state_dict())
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(objective(), parameters)
    model.load_state_dict(kept)  # the running statistics do not see it
    return [size * w.detach().norm() / g.norm() * g if w.ndim > 1 else torch.zeros_like(w) for w, g in zip(parameters, gradients)]


def misalignment(model, x, y, noise):
    """GradAlign: the mean of 1 - cos between the input gradients at x and at x + noise; differentiable."""
    gradients = []
    for at in (x, x + noise):
        at = at.clone().requires_grad_(True)
        buffers = {name: b.clone() for name, b in model.named_buffers()}  # the running statistics do not see it
        logits = functional_call(model, {**dict(model.named_parameters()), **buffers}, (at,))
        (g,) = torch.autograd.grad(F.cross_entropy(logits, y), at, create_graph=True)
        gradients.append(g.flatten(1))
    a, b = gradients
    return (1 - (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1) + 1e-30).sqrt()).mean()


def mart_loss(adversarial, natural, y, beta):
    """Boosted cross-entropy, and the divergence weighted by how unsure the network is at x."""
    rows = torch.arange(len(y))
    p, q = F.softmax(adversarial, 1), F.softmax(natural, 1)
    other = p.scatter(1, y[:, None], -torch.inf).max(1).values
    boosted = F.cross_entropy(adversarial, y, reduction="none") - (1.0001 - other + 1e-12).log()
    weighted = (q * (F.log_softmax(natural, 1) - (p + 1e-12).log())).sum(1) * (1.0000001 - q[rows, y])
    return boosted.mean() + beta * weighted.mean()


def train(model, x, y, method, s):
    """STEPS steps of a method: what the fixture holds of it."""
    model, philox, out = copy.deepcopy(model).train(), Philox(s["seed"]), {}
    optimiser = torch.optim.SGD(model.parameters(), lr=s["lr"], momentum=s["momentum"], weight_decay=s["weight_decay"])
    eps, alpha, delta, average = s["eps"], s["alpha"], torch.zeros_like(x), None
    name, _, extra = method.partition("+")
    for step in range(STEPS):
        smoothing, adv = 0.0, x
        if name == "pgd-at":
            smoothing = s["label_smoothing"]
            start = (x + eps * uniform(philox, "attack.start", step, x)).clamp(0, 1)
            adv = pgd(model, x, start, eps, alpha, s["steps"], cross_entropy(y))
        elif name == "n-fgsm":
            around = (x + s["noise"] * eps * uniform(philox, "training.noise", step, x)).clamp(0, 1)
            adv = pgd(model, around, around, eps, eps, 1, cross_entropy(y))
        elif name in ("trades", "mart"):
            start = (x + 0.001 * normal(philox, "training.start", step, x)).clamp(0, 1)
            with torch.no_grad():
                clean = model.eval()(x)
            loss = cross_entropy(y) if name == "mart" else lambda z: divergence(clean, z)
            adv = pgd(model, x, start, eps, alpha, s["steps"], loss)

        def objective():
            if name == "trades":
                natural = model(x)
                return F.cross_entropy(natural, y) + s["trades_beta"] * divergence(natural, model(adv)).mean()
            if name == "mart":
                natural = model(x)
                return mart_loss(model(adv), natural, y, s["mart_beta"])
            return F.cross_entropy(model(adv), y, label_smoothing=smoothing)

        for _ in range(s["replays"] if name == "free" else 1):
            shift = weight_perturbation(model, objective, s["awp"]) if extra == "awp" else None
            if shift:
                with torch.no_grad():
                    for w, v in zip(model.parameters(), shift):
                        w += v
            optimiser.zero_grad()
            if name == "free":
                inner = delta.clone().requires_grad_(True)
                adv = (x + inner).clamp(0, 1)
            value = objective()
            if extra == "grad-align":
                value = value + s["grad_align"] * misalignment(model, x, y, eps * uniform(philox, "training.align", step, x))
            value.backward()
            if name == "free":
                delta = (delta + eps * inner.grad.sign()).clamp(-eps, eps)
            optimiser.step()
            if shift:
                with torch.no_grad():
                    for w, v in zip(model.parameters(), shift):
                        w -= v
        weights = {k: v for k, v in state(model).items() if v.is_floating_point()}
        average = weights if average is None else {k: s["decay"] * average[k] + (1 - s["decay"]) * v for k, v in weights.items()}
        out[f"{method}/loss/{step}"] = value.detach()
    if name not in ("standard", "free"):
        out[f"{method}/x"] = adv
    for kind, tensors in (("", weights), ("average/", average)):
        for k, v in tensors.items():
            if v.numel() <= (600 if kind == "" else 40):
                out[f"{method}/{kind}{k}"] = v
    return out


METHODS = ("standard", "pgd-at", "n-fgsm", "free", "trades", "mart", "pgd-at+awp", "trades+awp", "standard+grad-align")


def every(model, x, y, settings):
    out = {}
    for method in METHODS:
        out.update(train(model, x, y, method, settings))
    return out
