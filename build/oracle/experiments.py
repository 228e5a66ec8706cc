"""What is computed on every model: gradients, optimiser runs, attacks, and float32's own distance."""

import copy

import numpy as np
import torch
import torch.nn.functional as F


def f32(value):
    """The float32 nearest to value, as a float64: every setting is one, so that all engines share it."""
    return float(np.float32(value))


def has_batch_norm(model):
    return any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def state(model):
    """Copies of all parameters and buffers, by state_dict name."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def forward_backward(model, x, y):
    """One train-mode pass: logits, mean cross-entropy, all gradients, and the buffers after it.

    Where the model has batch norm, eval-mode logits (before the pass) are added.
    """
    model, out = copy.deepcopy(model), {}
    x = x.clone().requires_grad_(True)
    name = "logits"
    if has_batch_norm(model):
        name = "logits_train"
        with torch.no_grad():
            out["logits_eval"] = model.eval()(x)
    logits = model.train()(x)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    out[name], out["loss"], out["grad_x"] = logits.detach(), loss.detach(), x.grad
    for parameter_name, parameter in model.named_parameters():
        out["grad/" + parameter_name] = parameter.grad
    persistent = state(model)
    for buffer_name, _ in model.named_buffers():
        if buffer_name in persistent:
            out["buffer1/" + buffer_name] = persistent[buffer_name]
    return out


def distance(got, want):
    """[largest absolute difference, relative L2 difference] of got to want."""
    want, difference = want.double(), got.double() - want.double()
    norm = want.norm().item()
    return [difference.abs().max().item(), difference.norm().item() / norm if norm else 0.0]


def float32_distance(model, x, y, want):
    """How far PyTorch's own float32 lies from want, the float64 forward_backward.

    One run's distance is a matter of luck (a scalar loss may be exact), so this is the larger of
    two convolution implementations and of the batch in two orders.
    """
    worst, model = {}, copy.deepcopy(model).float()
    for use_mkldnn in (True, False):
        for order in (torch.arange(len(x)), torch.arange(len(x)).flip(0)):
            with torch.backends.mkldnn.flags(enabled=use_mkldnn):
                got = forward_backward(model, x[order].float(), y[order])
            for name, value in got.items():
                if not value.is_floating_point():
                    continue
                if name == "grad_x" or name.startswith("logits"):
                    value = value[order]  # both orders are their own inverse
                found = distance(value, want[name])
                worst[name] = np.maximum(worst.get(name, found), found)
    return {"f32dist/" + name: values for name, values in worst.items()}


OPTIMISERS = {
    "sgd": (torch.optim.SGD, {"momentum": f32(0.9), "weight_decay": f32(5e-4)}),
    "nesterov": (torch.optim.SGD, {"momentum": f32(0.9), "weight_decay": f32(5e-4), "nesterov": True}),
    "adam": (torch.optim.Adam, {"betas": (f32(0.9), f32(0.999)), "eps": f32(1e-8), "weight_decay": f32(5e-4)}),
    "adamw": (torch.optim.AdamW, {"betas": (f32(0.9), f32(0.999)), "eps": f32(1e-8), "weight_decay": f32(0.01)}),
}
STEPS = 10


def optimise(model, x, y, kind, lr):
    """STEPS train-mode steps on one batch: the loss before each, then what the state has become."""
    model = copy.deepcopy(model).train()
    optimiser_class, options = OPTIMISERS[kind]
    optimiser = optimiser_class(model.parameters(), lr=lr, **options)
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    out = {f"{kind}/loss": torch.tensor(losses)}
    final = {name: value for name, value in state(model).items() if value.is_floating_point()}
    parameters = [name for name, _ in model.named_parameters()]
    for name in sorted(parameters, key=lambda name: (final[name].numel(), name))[:3]:
        out[f"{kind}/param/{name}"] = final[name]
    for name, value in final.items():
        out[f"{kind}/norm/{name}"] = value.norm()
    return out


def input_gradient(model, x, y):
    """Per-sample cross-entropy (N,) and the gradient of each sample's own loss (N,C,H,W)."""
    x = x.clone().requires_grad_(True)
    losses = F.cross_entropy(model(x), y, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), x)
    return losses.detach(), gradient


def norms(v):
    """L2 norm per sample, (N,1,1,1)."""
    return v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def step_linf(x, at, gradient, threat):
    """Signed step (sign(0) = 0), then projection onto the epsilon ball."""
    delta = at + threat["alpha"] * gradient.sign() - x
    return x + delta.clamp(-threat["eps"], threat["eps"])


def step_l2(x, at, gradient, threat):
    """Step along each sample's normalised gradient (0 stays 0), then projection onto the L2 ball."""
    length = norms(gradient)
    delta = at + threat["alpha"] * gradient / torch.where(length > 0, length, torch.ones_like(length)) - x
    length = norms(delta)
    return x + delta * torch.where(length > threat["eps"], threat["eps"] / length, torch.ones_like(length))


def ascend(model, x, y, start, threat, step):
    """Iterates 1..steps from start, and the losses (steps+1, N) at start and at each of them.

    After every projection the image is clipped to [0,1] where the threat says so. The model's mode
    and running statistics are the caller's: in train mode this makes `steps` updates of them.
    """
    at, iterates, losses = start, [], []
    for _ in range(threat["steps"]):
        loss, gradient = input_gradient(model, at, y)
        at = step(x, at, gradient, threat)
        if threat["clip"]:
            at = at.clamp(0, 1)
        iterates.append(at)
        losses.append(loss)
    final, _ = input_gradient(copy.deepcopy(model), at, y)
    return iterates, torch.stack(losses + [final])


def attacks(model, x, y, settings, starts):
    """FGSM, L-inf PGD and L2 PGD in eval mode; with batch norm also PGD on batch statistics."""
    out = {}
    linf, l2 = settings["pgd"], settings["pgd_l2"]
    model = copy.deepcopy(model).eval()
    one_step = dict(linf, alpha=linf["eps"], steps=1)
    (out["fgsm"],), out["fgsm/loss"] = ascend(model, x, y, x, one_step, step_linf)
    runs = [("pgd", model, starts["pgd"], linf, step_linf), ("pgd_l2", model, starts["pgd_l2"], l2, step_l2)]
    if has_batch_norm(model):
        runs.append(("pgd_train", copy.deepcopy(model).train(), starts["pgd"], linf, step_linf))
    for name, attacked, start, threat, step in runs:
        if name in starts:
            out[name + "/start"] = start
        iterates, out[name + "/loss"] = ascend(attacked, x, y, start, threat, step)
        for i, iterate in enumerate(iterates, 1):
            out[f"{name}/{i}"] = iterate
        if name == "pgd_train":
            for buffer_name, value in state(attacked).items():
                if "running" in buffer_name or "tracked" in buffer_name:
                    out[f"{name}/buffer/{buffer_name}"] = value
    return out


def float32_flips(model, x, y, settings, starts, want):
    """Share of elements in which PyTorch's float32 PGD iterates leave the float64 ones, per step."""
    half = {name: value.float() for name, value in starts.items()}
    got = attacks(copy.deepcopy(model).float(), x.float(), y, settings, half)
    out = {}
    for name in ("pgd", "pgd_train"):
        flips = []
        for i in range(1, settings["pgd"]["steps"] + 1):
            if f"{name}/{i}" in want:
                apart = (got[f"{name}/{i}"].double() - want[f"{name}/{i}"]).abs() > settings["pgd"]["alpha"] / 2
                flips.append(apart.double().mean().item())
        if flips:
            out[f"f32dist/{name}/flipped"] = np.array(flips)
    return out


def lse_margin(logits, y):
    """The paper's attack loss per sample: logsumexp over the other classes minus the own logit."""
    own = F.one_hot(y, logits.shape[1]).bool()
    others = logits.masked_fill(own, -torch.inf).logsumexp(1)
    return others - logits[own]


def patch_attack(model, x, y, settings):
    """The paper's one ascent step from zero: delta_p = s * dL/dx_p, clipped to a ball around each patch."""
    x = x.clone().requires_grad_(True)
    losses = lse_margin(model(x), y)
    (gradient,) = torch.autograd.grad(losses.sum(), x)
    delta = settings["step"] * gradient  # (N,d,1,P)
    length = delta.norm(dim=1, keepdim=True)
    shrink = torch.where(length > settings["eps"], settings["eps"] / length, torch.ones_like(length))
    return {
        "lsemargin/loss": losses.detach(),
        "lsemargin/grad_x": gradient,
        "patch_l2/delta": delta * shrink,
    }
