#!/usr/bin/env python3
"""Write the oracle fixtures: what PyTorch computes in float64 on width-reduced models.

    make_fixtures.py                 write every fixture into nn/testdata/oracle
    make_fixtures.py --only ops      one of them
    make_fixtures.py --check         compute them again, compare with the files, write nothing
    make_fixtures.py --list          what the files hold, name by name

README.md beside this file says what each tensor is.
"""

import argparse
import os
import sys
import tempfile

sys.dont_write_bytecode = True

try:
    import numpy as np
    import torch
except ImportError as missing:
    sys.exit(f"make_fixtures: {missing.name} is missing: install python3-torch and python3-numpy")

import attacks
import experiments
import methods
import models
import references
import store
from experiments import f32

OUTPUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "nn", "testdata", "oracle")

MNIST_THREATS = {
    "pgd": {"eps": f32(0.3), "alpha": f32(0.1), "steps": 5, "clip": True},
    "pgd_l2": {"eps": f32(1.5), "alpha": f32(0.75), "steps": 3, "clip": True},
}
CIFAR_THREATS = {
    "pgd": {"eps": f32(8 / 255), "alpha": f32(2 / 255), "steps": 5, "clip": True},
    "pgd_l2": {"eps": f32(0.5), "alpha": f32(0.25), "steps": 3, "clip": True},
}
PATCH_THREATS = {
    "pgd": {"eps": f32(0.1), "alpha": f32(0.04), "steps": 5, "clip": False},
    "pgd_l2": {"eps": f32(0.5), "alpha": f32(0.25), "steps": 3, "clip": False},
    "patch_l2": {"eps": 0.5, "step": 0.5},
}

# Per model: how to build it, the settings stored with it, the batch, and the seed of everything random.
# lr is the rate of sgd and nesterov, adam_lr that of adam and adamw. "keep" limits the stored iterates.
MODELS = {
    "patchcnn": {
        "build": lambda: models.PatchCNN(k=3, m=4, d=8, q=3, rho=0.5),
        "settings": {"k": 3, "m": 4, "d": 8, "P": 9, "q": 3, "rho": 0.5, "lr": f32(0.05), **PATCH_THREATS},
        "batch": (6, 8, 1, 9), "classes": 3, "seed": 101,
    },
    "patchcnn-q4": {
        "build": lambda: models.PatchCNN(k=3, m=4, d=8, q=4, rho=0.75),
        "settings": {"k": 3, "m": 4, "d": 8, "P": 9, "q": 4, "rho": 0.75, "lr": f32(0.05), **PATCH_THREATS},
        "batch": (6, 8, 1, 9), "classes": 3, "seed": 102,
    },
    "mnist-wong": {
        "build": lambda: models.mnist_wong(4, 8, 20, 12),
        "settings": {"channels": [4, 8], "hidden": 20, "lr": f32(0.05), **MNIST_THREATS},
        "batch": (6, 1, 12, 12), "classes": 10, "seed": 201,
    },
    "mnist-madry": {
        "build": lambda: models.SmallCNN(1, 12, 4, 8, 16, 5),
        "settings": {"channels": [4, 8], "hidden": 16, "kernel": 5, "lr": f32(0.05), **MNIST_THREATS},
        "batch": (6, 1, 12, 12), "classes": 10, "seed": 301,
    },
    "cifar-small": {
        "build": lambda: models.SmallCNN(3, 16, 4, 8, 16, 3, models.cifar_normalize()),
        "settings": {"channels": [4, 8], "hidden": 16, "kernel": 3, "lr": f32(0.02), **CIFAR_THREATS},
        "batch": (4, 3, 16, 16), "classes": 10, "seed": 401,
    },
    "preactresnet18": {
        "build": lambda: models.PreActResNet(4, (2, 2, 2, 2)),
        "settings": {"width": 4, "blocks": [2, 2, 2, 2], "lr": f32(0.02), **CIFAR_THREATS},
        "batch": (4, 3, 16, 16), "classes": 10, "seed": 501, "keep": ["pgd/start", "pgd/5", "pgd_train/5"],
    },
    "preactresnet10": {
        "build": lambda: models.PreActResNet(2, (1, 1, 1, 1)),
        "settings": {"width": 2, "blocks": [1, 1, 1, 1], "lr": f32(0.02), **CIFAR_THREATS},
        "batch": (4, 3, 16, 16), "classes": 10, "seed": 601,
    },
    "wideresnet-10-2": {
        "build": lambda: models.WideResNet(10, 2, 2),
        "settings": {"depth": 10, "widen": 2, "base": 2, "lr": f32(0.02), **CIFAR_THREATS},
        "batch": (4, 3, 16, 16), "classes": 10, "seed": 701, "keep": ["pgd/start", "pgd/5", "pgd_train/5"],
    },
    "resnet10": {
        "build": lambda: models.ResNet(2, (1, 1, 1, 1)),
        "settings": {"width": 2, "blocks": [1, 1, 1, 1], "lr": f32(0.02), **CIFAR_THREATS},
        "batch": (4, 3, 16, 16), "classes": 10, "seed": 603, "keep": ["pgd/start", "pgd/5", "pgd_train/5"],
    },
    "dm-wideresnet-10-2": {
        "build": lambda: models.DMWideResNet(10, 2, 2),
        "settings": {"depth": 10, "widen": 2, "base": 2, "lr": f32(0.02), **CIFAR_THREATS},
        "batch": (4, 3, 16, 16), "classes": 10, "seed": 703, "keep": ["pgd/start", "pgd/5", "pgd_train/5"],
    },
}
for entry in MODELS.values():
    entry["settings"]["adam_lr"] = f32(0.005)


def exact(values):
    """float64 tensor of values rounded to float32."""
    return torch.tensor(np.asarray(values, np.float32).astype(np.float64))


def initialise(model, random, noise):
    """Draw every parameter and buffer; batch norm gets affine and running values that are not the identity.

    noise is the relative size of a perturbation, for --check.
    """
    values = {}
    for name, old in model.state_dict().items():
        shape, kind = tuple(old.shape), name.rsplit(".", 1)[1]
        if kind == "num_batches_tracked":
            values[name] = torch.tensor(3)
            continue
        if models.in_batch_norm(name, model.state_dict()) and kind in ("weight", "running_var"):
            low, high = 0.5, 1.5
        elif len(shape) == 1:  # biases and running means
            low, high = -0.25, 0.25
        else:
            high = np.sqrt(3 / np.prod(shape[1:]))
            low = -high
        values[name] = exact(random.uniform(low, high, shape))
    for name, value in values.items():
        if value.is_floating_point():
            values[name] = value * (1 + noise * torch.tensor(random.uniform(-1, 1, tuple(value.shape))))
    model.load_state_dict(values)


def draw_batch(entry, random):
    """x, y and the attacks' starting points; images are bytes/255 with black and white pixels among them."""
    shape, settings = entry["batch"], entry["settings"]
    y = torch.tensor(random.randint(0, entry["classes"], shape[0]))
    clip = settings["pgd"]["clip"]
    if clip:
        x = exact(np.clip(random.randint(-64, 320, shape), 0, 255).astype(np.float32) / np.float32(255))
    else:
        # The derivative at an empty patch is exactly 0, so the attack must leave it, and a whole empty sample.
        x = exact(random.uniform(-1, 1, shape))
        x[0, :, :, 4] = 0
        x[-1] = 0
    corner = exact(random.uniform(-0.99, 0.99, shape)) * settings["pgd"]["eps"]
    direction = exact(random.uniform(-1, 1, shape))
    inner = 0.5 * settings["pgd_l2"]["eps"] * direction / experiments.norms(direction)
    if not clip:
        inner[-1] = 0
    starts = {name: x + delta for name, delta in (("pgd", corner), ("pgd_l2", inner))}
    starts = {name: exact(start.clamp(0, 1) if clip else start) for name, start in starts.items()}
    assert (starts["pgd"] - x).abs().max() <= settings["pgd"]["eps"]
    assert experiments.norms(starts["pgd_l2"] - x).max() <= settings["pgd_l2"]["eps"]
    return x, y, starts


def model_fixture(name, noise=0.0):
    """(tensors, settings) of one model; noise perturbs the parameters and leaves the float32 part out."""
    entry, out = MODELS[name], {}
    settings, random = entry["settings"], np.random.RandomState(entry["seed"])
    x, y, starts = draw_batch(entry, random)
    model = entry["build"]()
    initialise(model, random, noise)
    for tensor_name, value in experiments.state(model).items():
        out["param/" + tensor_name] = value
    if isinstance(getattr(model, "normalize", None), models.Normalize):
        out["const/normalize.mean"] = model.normalize.mean.flatten()
        out["const/normalize.std"] = model.normalize.std.flatten()
    out["x"], out["y"] = x, y
    want = experiments.forward_backward(model, x, y)
    out.update(want)
    for kind in experiments.OPTIMISERS:
        lr = settings["adam_lr" if kind.startswith("adam") else "lr"]
        out.update(experiments.optimise(model, x, y, kind, lr))
    found = experiments.attacks(model, x, y, settings, starts)
    if "patch_l2" in settings:
        found.update(experiments.patch_attack(model, x, y, settings["patch_l2"]))
    if not noise:
        out.update(experiments.float32_distance(model, x, y, want))
        out.update(experiments.float32_flips(model, x, y, settings, starts, found))
    keep = entry.get("keep")
    for tensor_name, value in found.items():
        if not keep or tensor_name in keep or value.shape != x.shape:
            out[tensor_name] = value
    options = {kind: dict(options, steps=experiments.STEPS) for kind, (_, options) in experiments.OPTIMISERS.items()}
    return out, {"model": name, "seed": entry["seed"], **settings, "optimisers": options}


ATTACKS = {
    "attacks-mnist-wong": {
        "model": "mnist-wong",
        "settings": {
            "eps": {"linf": f32(0.3), "l2": f32(1.5), "l1": f32(10), "dlr_linf": f32(0.02), "dlr_l2": f32(0.1), "dlr_l1": f32(1)},
            "alpha": {"linf": f32(0.075), "l2": f32(0.375)}, "apgd_steps": 20, "apgd_l1_steps": 14, "fab_steps": 5,
            "deepfool_steps": 10, "cw_steps": 12, "cw_rate": f32(0.1), "queries": 20, "seed": 7,
        },
    },
    "attacks-cifar-small": {
        "model": "cifar-small", "run": attacks.colour,
        "settings": {"eps": {"linf": f32(8 / 255), "l2": f32(0.5), "l1": f32(12)}, "queries": 20, "seed": 7},
    },
}


METHODS = {
    "methods-preactresnet10": {
        "model": "preactresnet10",
        "settings": {
            "eps": f32(8 / 255), "alpha": f32(4 / 255), "steps": 2, "lr": f32(0.02), "momentum": f32(0.9), "weight_decay": f32(5e-4),
            "label_smoothing": f32(0.1), "noise": 2, "trades_beta": 6, "mart_beta": 5, "replays": 2, "awp": f32(0.01),
            "grad_align": f32(0.2), "decay": 0.75, "seed": 7,
        },
    },
}


def method_fixture(name, noise=0.0):
    """(tensors, settings) of the training methods on a model whose parameters and batch its own fixture holds."""
    entry = MODELS[METHODS[name]["model"]]
    random = np.random.RandomState(entry["seed"])
    x, y, _ = draw_batch(entry, random)
    model = entry["build"]()
    initialise(model, random, noise)
    return methods.every(model, x, y, METHODS[name]["settings"]), {"model": METHODS[name]["model"], **METHODS[name]["settings"]}


def attack_fixture(name, noise=0.0):
    """(tensors, settings) of the attacks on a model whose parameters and batch its own fixture holds."""
    entry = MODELS[ATTACKS[name]["model"]]
    random = np.random.RandomState(entry["seed"])
    x, _, starts = draw_batch(entry, random)
    model = entry["build"]()
    initialise(model, random, noise)
    model.eval()
    found = ATTACKS[name].get("run", attacks.every)(model, x, {"linf": starts["pgd"], "l2": starts["pgd_l2"], "l1": starts["pgd"]}, ATTACKS[name]["settings"])
    return found, {"model": ATTACKS[name]["model"], **ATTACKS[name]["settings"]}


REFERENCES = {
    "init": lambda: references.initialisers(801),
    "schedules": references.schedules,
    "ops": lambda: references.operations(901),
    "fullwidth": lambda: references.full_width(1000),
}


# Those that start from drawn parameters, by how they are computed.
DRAWN = {**dict.fromkeys(MODELS, model_fixture), **dict.fromkeys(ATTACKS, attack_fixture), **dict.fromkeys(METHODS, method_fixture)}


def fixture(name):
    """({name: numpy array}, settings) of any fixture."""
    if name in DRAWN:
        tensors, settings = DRAWN[name](name)
    else:
        tensors, settings = REFERENCES[name]()
    arrays = {k: v.detach().numpy() if torch.is_tensor(v) else v for k, v in tensors.items()}
    return arrays, settings


def differences(name, stored, computed):
    """Lines on what differs.

    Everything is held to 1e-11, but float32's relative distances, which depend on the processor and the
    BLAS, to a factor of 8 above a floor of one float32 rounding, and the flipped shares to 0.02.
    """
    (old, old_settings), (new, new_settings) = stored, computed
    if old_settings != new_settings:
        yield f"{name}: the settings differ"
    if list(old) != list(new):
        yield f"{name}: the tensor names differ: {sorted(set(old) ^ set(new)) or 'their order'}"
        return
    for tensor, was in old.items():
        now = new[tensor]
        if was.shape != now.shape or was.dtype != now.dtype:
            yield f"{name}: {tensor}: was {was.dtype}{was.shape}, is {now.dtype}{now.shape}"
        elif tensor.endswith("/flipped"):
            if np.abs(was - now).max() > 0.02:
                yield f"{name}: {tensor}: was {was}, is {now}"
        elif "f32dist/" in tensor:
            if abs(np.log2(was[1] + 2**-23) - np.log2(now[1] + 2**-23)) > 3:
                yield f"{name}: {tensor}: was {was}, is {now}"
        elif not np.allclose(was, now, rtol=1e-11, atol=1e-11 * max(1, np.abs(was).max(initial=0))):
            yield f"{name}: {tensor}: differs by {np.abs(was - now).max()}"


def unstable(name, stored):
    """Tensors that a relative change of 1e-14 in the parameters moves by more than 1e-10.

    None may: no result may hang on a tie, a kink or the sign of a rounding error, or a right engine could miss it.
    """
    moved, _ = DRAWN[name](name, noise=1e-14)
    for tensor, value in moved.items():
        old = stored[tensor]
        apart = np.abs(value.detach().numpy() - old).max(initial=0)
        if apart > 1e-10 * max(1, np.abs(old).max(initial=0)):
            yield f"{name}: {tensor}: ill-conditioned, moves by {apart}"


def check(names, folder):
    """Write the fixtures anew into a temporary folder and compare; returns the number of complaints."""
    complaints = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            kept, fresh = (os.path.join(place, name + ".safetensors") for place in (folder, scratch))
            if not os.path.exists(kept):
                print(f"{name}: missing: run make fixtures")
                complaints += 1
                continue
            store.write(fresh, *fixture(name))
            stored = store.read(kept)
            lines = list(differences(name, stored, store.read(fresh)))
            if name in DRAWN:
                lines += unstable(name, stored[0])
            with open(kept, "rb") as a, open(fresh, "rb") as b:
                same = "the same bytes" if a.read() == b.read() else "the same values, not the same bytes"
            print("\n".join(lines) or f"{name}: {same}")
            complaints += len(lines)
    return complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*DRAWN, *REFERENCES]
    parser.add_argument("--out", default=OUTPUT, help="folder of the fixtures")
    parser.add_argument("--only", choices=every, help="one fixture")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--list", action="store_true", help="print the tensors of the files")
    args = parser.parse_args()
    names = [args.only] if args.only else every
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if args.check:
        sys.exit(1 if check(names, args.out) else 0)
    for name in names:
        path = os.path.join(args.out, name + ".safetensors")
        if args.list:
            for tensor, value in store.read(path)[0].items():
                print(f"{name}\t{tensor}\t{store.CODES[value.dtype]}\t{list(value.shape)}")
            continue
        os.makedirs(args.out, exist_ok=True)
        store.write(path, *fixture(name))
        print(f"{name}: {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    try:
        main()
    except OSError as problem:
        sys.exit(f"make_fixtures: {problem.filename}: {problem.strerror}")
