"""Fixtures that are not one reduced model: initialisers, schedules, single operations, full widths."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import experiments
import models
from experiments import f32


def initialisers(seed):
    """Bounds and standard deviations of PyTorch's initialisers, as settings only (no tensors).

    Each is checked against PyTorch's own draws before it is returned.
    """
    torch.manual_seed(seed)
    rows = []
    for shape in [(64, 3, 3, 3), (128, 64, 3, 3), (128, 64, 1, 1), (32, 16, 4, 4), (64, 32, 5, 5), (100, 1568), (10, 512)]:
        weight = torch.empty(shape)
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
        gain_leaky = nn.init.calculate_gain("leaky_relu", math.sqrt(5))
        gain_relu = nn.init.calculate_gain("relu")
        row = {
            "shape": shape,
            "fan_in": fan_in,
            "fan_out": fan_out,
            "kaiming_uniform_a_sqrt5_bound": gain_leaky * math.sqrt(3 / fan_in),
            "default_bias_bound": 1 / math.sqrt(fan_in),
            "kaiming_normal_fan_out_relu_std": gain_relu / math.sqrt(fan_out),
            "xavier_uniform_bound": math.sqrt(6 / (fan_in + fan_out)),
            "xavier_normal_std": math.sqrt(2 / (fan_in + fan_out)),
        }
        rows.append(row)
        spread = 5 / math.sqrt(weight.numel())
        for name, draw in [
            ("kaiming_uniform_a_sqrt5_bound", lambda: nn.init.kaiming_uniform_(weight, a=math.sqrt(5)).abs().max()),
            ("kaiming_normal_fan_out_relu_std", lambda: nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu").std()),
            ("xavier_uniform_bound", lambda: nn.init.xavier_uniform_(weight).abs().max()),
            ("xavier_normal_std", lambda: nn.init.xavier_normal_(weight).std()),
        ]:
            assert abs(draw().item() / row[name] - 1) < spread, (name, shape)
    gains = {
        "linear": nn.init.calculate_gain("linear"),
        "relu": nn.init.calculate_gain("relu"),
        "leaky_relu(sqrt5)": nn.init.calculate_gain("leaky_relu", math.sqrt(5)),
        "tanh": nn.init.calculate_gain("tanh"),
    }
    return {}, {"gains": gains, "initialisers": rows}


def schedules():
    """The learning rate used at each of 50 steps, float64 (50,), by schedule.

    Where the momentum moves too, also `<schedule>/momentum` (Adam's first beta) and `<schedule>/w` after each
    step, from w = 1 with the gradient w - 0.25: the momentum that the optimiser has used.
    """
    steps = 50
    cases = {
        "StepLR": {"lr": 0.1, "step_size": 15, "gamma": 0.1},
        "MultiStepLR": {"lr": 0.1, "milestones": [20, 40], "gamma": 0.1},
        "CosineAnnealingLR": {"lr": 0.1, "T_max": 50, "eta_min": 0.001},
        "CyclicLR": {"lr": 0.01, "base_lr": 0.01, "max_lr": 0.2, "step_size_up": 12, "step_size_down": 18, "mode": "triangular", "cycle_momentum": False},
        "OneCycleLR": {"lr": 0.1, "max_lr": 0.2, "total_steps": 50, "pct_start": 0.3, "anneal_strategy": "cos", "div_factor": 25.0, "final_div_factor": 1e4, "cycle_momentum": False},
        "OneCycleLR-linear": {"lr": 0.1, "max_lr": 0.2, "total_steps": 50, "pct_start": 0.4, "anneal_strategy": "linear", "div_factor": 25.0, "final_div_factor": 1e4, "cycle_momentum": False},
    }
    moving = {
        "CyclicLR-momentum": {"optimiser": "SGD", "lr": 0.01, "base_lr": 0.01, "max_lr": 0.2, "step_size_up": 12, "step_size_down": 18},
        "CyclicLR-nesterov": {"optimiser": "SGD", "nesterov": True, "lr": 0.01, "base_lr": 0.01, "max_lr": 0.2, "step_size_up": 25, "base_momentum": 0.5, "max_momentum": 0.75},
        "OneCycleLR-momentum": {"optimiser": "SGD", "lr": 0.1, "max_lr": 0.2, "total_steps": 50},
        "OneCycleLR-linear-adam": {"optimiser": "Adam", "lr": 0.1, "max_lr": 0.2, "total_steps": 50, "pct_start": 0.4, "anneal_strategy": "linear"},
    }
    tensors = {}
    for name, options in {**cases, **moving}.items():
        options = dict(options)
        w = nn.Parameter(torch.ones(1, dtype=torch.float64))
        kind, lr, nesterov = options.pop("optimiser", "SGD"), options.pop("lr"), options.pop("nesterov", False)
        optimiser = torch.optim.Adam([w], lr=lr) if kind == "Adam" else torch.optim.SGD([w], lr=lr, momentum=0.9, nesterov=nesterov)
        scheduler = getattr(torch.optim.lr_scheduler, name.split("-")[0])(optimiser, **options)
        rates, momenta, weights = [], [], []
        for _ in range(steps):
            group = optimiser.param_groups[0]
            rates.append(group["lr"])
            momenta.append(group["betas"][0] if kind == "Adam" else group["momentum"])
            w.grad = (w - 0.25).detach()
            optimiser.step()
            weights.append(w.item())
            scheduler.step()
        tensors[name] = np.array(rates)
        if name in moving:
            tensors[name + "/momentum"], tensors[name + "/w"] = np.array(momenta), np.array(weights)
    cases.update(moving)
    # Wong et al.: t counts epochs and is advanced before the step, so the first step has t = 1/batches.
    epochs, batches, lr_max = 5, 10, 0.2
    t = np.array([epoch + (batch + 1) / batches for epoch in range(epochs) for batch in range(batches)])
    tensors["PiecewiseLinear"] = np.interp(t, [0, epochs * 2 // 5, epochs], [0, lr_max, 0])
    cases["PiecewiseLinear"] = {"knots_epoch": [0, epochs * 2 // 5, epochs], "knots_lr": [0, lr_max, 0], "steps_per_epoch": batches, "t": "epoch + (batch+1)/steps_per_epoch"}
    return tensors, {"steps": steps, "schedules": cases}


class Cases:
    """Collects one operation's inputs, output, upstream gradient g and input gradients under a name."""

    def __init__(self, seed):
        self.tensors, self.settings = {}, {}
        self.random = np.random.RandomState(seed)

    def draw(self, *shape, low=-1.0, high=1.0):
        return torch.tensor(self.random.uniform(low, high, shape).astype(np.float32).astype(np.float64))

    def add(self, case, function, inputs, g=None, **settings):
        """Record function(**inputs); g defaults to a draw, or 1 for a scalar output."""
        leaves = {name: value.clone().requires_grad_(value.is_floating_point()) for name, value in inputs.items()}
        out = function(**leaves)
        if g is None:
            g = torch.ones(()) if out.ndim == 0 else self.draw(*out.shape)
        out.backward(g)
        for name, leaf in leaves.items():
            self.tensors[f"{case}/{name}"] = leaf.detach()
            if leaf.requires_grad:
                self.tensors[f"{case}/grad_{name}"] = leaf.grad
        self.tensors[f"{case}/out"], self.tensors[f"{case}/g"] = out.detach(), g
        self.settings[case] = settings


def operations(seed):
    """PyTorch's choices where a derivative or an index is a convention, and its compound layers."""
    cases = Cases(seed)
    draw, add = cases.draw, cases.add

    kinks = torch.tensor([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0])
    add("relu", lambda x: F.relu(x), {"x": kinks})
    add("abs", lambda x: x.abs(), {"x": kinks})
    add("sign", lambda x: x.sign(), {"x": kinks})
    add("silu", lambda x: F.silu(x), {"x": draw(12, low=-6, high=6)})
    add("clamp", lambda x: x.clamp(-1, 1), {"x": kinks}, min=-1.0, max=1.0)
    a, b = torch.tensor([1.0, 2.0, 3.0, -1.0, 0.0]), torch.tensor([1.0, 3.0, 2.0, -1.0, -0.0])
    add("maximum", lambda a, b: torch.maximum(a, b), {"a": a, "b": b})
    add("minimum", lambda a, b: torch.minimum(a, b), {"a": a, "b": b})
    ties = torch.tensor([[1.0, 3.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0], [0.0, -1.0, -0.0, -2.0], [4.0, 1.0, 2.0, 3.0]])
    add("amax", lambda x: x.amax(1), {"x": ties}, dim=1)
    add("max_dim", lambda x: x.max(1).values, {"x": ties}, dim=1)
    cases.tensors["max_dim/indices"] = ties.max(1).indices

    # Pooling: the first of equal maxima in row-major order wins; padding is -inf; a last odd row is dropped.
    levels = torch.tensor(cases.random.randint(0, 3, (2, 2, 7, 6)), dtype=torch.float64)  # many ties
    for name, x, options in [
        ("max_pool_ties", levels, {"kernel_size": 2, "stride": 2, "padding": 0}),
        ("max_pool_overlap", levels, {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("max_pool_negative", draw(2, 2, 5, 6, low=-2, high=-1), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ]:
        add(name, lambda x: F.max_pool2d(x, **options), {"x": x}, **options)
        cases.tensors[name + "/indices"] = F.max_pool2d(x, return_indices=True, **options)[1]
    for name, options in [
        ("avg_pool", {"kernel_size": 2, "stride": 2, "padding": 0}),
        ("avg_pool_padded", {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": True}),
        ("avg_pool_exclude_pad", {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
    ]:
        add(name, lambda x: F.avg_pool2d(x, **options), {"x": draw(2, 2, 7, 6)}, **options)

    for name, kernel, groups, options in [
        ("conv_3x3", (3, 3), 1, {"stride": 1, "padding": 1}),
        ("conv_3x3_valid", (3, 3), 1, {"stride": 1, "padding": 0}),
        ("conv_3x3_stride2", (3, 3), 1, {"stride": 2, "padding": 1}),
        ("conv_1x1_stride2", (1, 1), 1, {"stride": 2, "padding": 0}),
        ("conv_4x4_stride2", (4, 4), 1, {"stride": 2, "padding": 1}),
        ("conv_5x5", (5, 5), 1, {"stride": 1, "padding": 2}),
        ("conv_dilated", (3, 3), 1, {"stride": 1, "padding": 2, "dilation": 2}),
        ("conv_3x2_uneven", (3, 2), 1, {"stride": (2, 1), "padding": (1, 0)}),
        ("conv_grouped", (3, 3), 2, {"stride": 1, "padding": 1}),
    ]:
        inputs = {"x": draw(2, 4, 7, 6), "weight": draw(6, 4 // groups, *kernel), "bias": draw(6)}
        add(name, lambda x, weight, bias: F.conv2d(x, weight, bias, groups=groups, **options), inputs, groups=groups, **options)
    add("linear", lambda x, weight, bias: F.linear(x, weight, bias), {"x": draw(3, 5), "weight": draw(4, 5), "bias": draw(4)})

    # Batch norm: normalises with the biased variance, stores the unbiased one.
    for name, training in (("batch_norm_train", True), ("batch_norm_eval", False)):
        running = {"running_mean": draw(3), "running_var": draw(3, low=0.5, high=1.5)}
        for key, value in running.items():
            cases.tensors[f"{name}/{key}"] = value.clone()
        inputs = {"x": draw(4, 3, 3, 2), "weight": draw(3, low=0.5, high=1.5), "bias": draw(3)}
        add(
            name,
            lambda x, weight, bias: F.batch_norm(x, running["running_mean"], running["running_var"], weight, bias, training, 0.1, 1e-5),
            inputs,
            momentum=0.1,
            eps=1e-5,
        )
        for key, value in running.items():
            cases.tensors[f"{name}/{key}1"] = value

    add("log_softmax", lambda x: F.log_softmax(x, 1), {"x": draw(4, 5, low=-3, high=3)}, dim=1)
    add("logsumexp", lambda x: x.logsumexp(1), {"x": draw(4, 5, low=-3, high=3)}, dim=1)
    add("log_softmax_large", lambda x: F.log_softmax(x, 1), {"x": torch.tensor([[1e4, 0.0, -1e4], [700.0, 710.0, 720.0], [-1e3, -1e3, -1e3]])}, dim=1)
    y = torch.tensor([0, 3, 4, 1])
    for smoothing in (0.0, f32(0.1)):
        name = "cross_entropy_smoothed" if smoothing else "cross_entropy"
        add(name, lambda x, y: F.cross_entropy(x, y, label_smoothing=smoothing), {"x": draw(4, 5, low=-3, high=3), "y": y}, reduction="mean", label_smoothing=smoothing)
    add(
        "kl_div",
        lambda adversarial, natural: F.kl_div(F.log_softmax(adversarial, 1), F.softmax(natural, 1), reduction="batchmean"),
        {"adversarial": draw(4, 5, low=-3, high=3), "natural": draw(4, 5, low=-3, high=3)},
        reduction="batchmean",
    )
    add("lse_margin", lambda x, y: experiments.lse_margin(x, y), {"x": draw(4, 5, low=-3, high=3), "y": y})

    # Second derivatives: out = sum of squares of d(mean cross-entropy)/dx, differentiated by everything.
    for name, normalised in (("double_backward", False), ("double_backward_bn", True)):

        def curvature(x, w1, b1, w2, w3, y):
            h = F.relu(F.conv2d(x, w1, b1, padding=1))
            if normalised:
                h = F.batch_norm(h, None, None, None, None, True, 0.1, 1e-5)
            h = torch.tanh(F.conv2d(F.max_pool2d(h, 2), w2, stride=2, padding=1))
            loss = F.cross_entropy(F.linear(h.flatten(1), w3), y)
            (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
            return gradient.square().sum()

        inputs = {"x": draw(3, 2, 6, 6), "w1": draw(3, 2, 3, 3), "b1": draw(3), "w2": draw(4, 3, 3, 3), "w3": draw(5, 16), "y": torch.tensor([0, 4, 2])}
        add(name, curvature, inputs, net="conv1 pad 1, ReLU, [batch norm, batch statistics, no affine], max pool 2, conv2 stride 2 pad 1, tanh, linear, mean cross-entropy")

    # MART's loss (Wang et al., ICLR 2020): boosted cross-entropy at the adversarial logits, and the
    # divergence from the natural ones, weighted by how unsure the network is there.
    def mart(adversarial, natural, y):
        p = F.softmax(adversarial, 1)
        ranked = p.argsort(1)
        other = torch.where(ranked[:, -1] == y, ranked[:, -2], ranked[:, -1])
        boosted = F.cross_entropy(adversarial, y) + F.nll_loss(torch.log(1.0001 - p + 1e-12), other)
        q = F.softmax(natural, 1)
        divergence = F.kl_div(torch.log(p + 1e-12), q, reduction="none").sum(1)
        unsure = 1.0000001 - q.gather(1, y[:, None])[:, 0]
        return boosted + beta * (divergence * unsure).mean()

    beta = 5.0
    add("mart", mart, {"adversarial": draw(6, 5, low=-3, high=3), "natural": draw(6, 5, low=-3, high=3), "y": torch.tensor([0, 4, 2, 2, 1, 3])}, beta=beta)
    return cases.tensors, {"cases": cases.settings}


def hashed(index, count):
    """count numbers in [-1,1) from MurmurHash3's 32-bit finaliser: easy to repeat in any language.

    Element i: h = mix(i + index*0x9E3779B9 mod 2^32); value = 2*(h>>8)*2^-24 - 1.
    """
    h = (np.arange(count, dtype=np.uint64) + index * 0x9E3779B9) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, None)):
        h ^= h >> np.uint64(shift)
        if factor:
            h = (h * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    return (h >> np.uint64(8)).astype(np.float64) * 2.0**-23 - 1.0


def hashed_tensor(index, shape, centre, bound):
    """float32(centre + bound*hashed), as float64."""
    values = centre + bound * hashed(index, math.prod(shape))
    return torch.tensor(values.astype(np.float32).astype(np.float64)).reshape(shape)


def full_width(seed):
    """Unreduced networks on a hashed batch of two: logits, gradient norms and leading elements.

    Weights are not stored: index, centre and bound per tensor in the settings make them again.
    """
    nets = {
        "mnist-wong": (models.mnist_wong(16, 32, 100, 28), (2, 1, 28, 28)),
        "mnist-madry": (models.SmallCNN(1, 28, 32, 64, 1024, 5), (2, 1, 28, 28)),
        "cifar-small": (models.SmallCNN(3, 32, 32, 64, 128, 3, models.cifar_normalize()), (2, 3, 32, 32)),
        "preactresnet18": (models.PreActResNet(64, (2, 2, 2, 2)), (2, 3, 32, 32)),
        "wideresnet-28-10": (models.WideResNet(28, 10, 16), (2, 3, 32, 32)),
    }
    tensors, settings = {}, {}
    for model_name, (model, x_shape) in nets.items():
        rows, values = [], {}
        for index, (name, old) in enumerate(model.state_dict().items()):
            if not old.is_floating_point():
                values[name] = old
                rows.append({"name": name, "shape": list(old.shape), "value": 0})
                continue
            if old.ndim > 1:
                centre, bound = 0.0, f32(math.sqrt(3 / math.prod(old.shape[1:])))
            else:
                around_one = models.in_batch_norm(name, model.state_dict()) and name.endswith(("weight", "running_var"))
                centre, bound = float(around_one), 0.25
            values[name] = hashed_tensor(seed + index, old.shape, centre, bound)
            rows.append({"name": name, "shape": list(old.shape), "index": seed + index, "centre": centre, "bound": bound})
        model.load_state_dict(values)
        x, y = hashed_tensor(seed - 1, x_shape, 0.5, 0.5), torch.tensor([3, 7])
        want = experiments.forward_backward(model, x, y)
        found = dict(want, **{k: torch.tensor(v) for k, v in experiments.float32_distance(model, x, y, want).items()})
        for name, value in found.items():
            if name.startswith(("grad", "buffer1/")) and value.is_floating_point():
                tensors[f"{model_name}/norm/{name}"] = value.norm()
                tensors[f"{model_name}/head/{name}"] = value.flatten()[:8]
            else:
                tensors[f"{model_name}/{name}"] = value
        tensors[f"{model_name}/y"] = y
        settings[model_name] = {"x": {"shape": x_shape, "index": seed - 1, "centre": 0.5, "bound": 0.5}, "state": rows}
    return tensors, {"models": settings}
