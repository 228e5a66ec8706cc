"""PyTorch twins of temper's benchmarks, driven line by line by temper bench.

Each line of standard input is a JSON object, and is answered by one:

    {"do": "open", "threads": 2, "gpu": false, "precision": "float32"}
                                                      -> {"torch": ..., "detail": ...}
    {"do": "prepare", "spec": {...}, "variant": ...}  -> {}, or {"error": ...}
    {"do": "run", "variant": ...}                     -> {"seconds": ...}, one step

Preparing the first variant of a case forgets the case before.

A twin does what temper's program does, in the way that PyTorch's users are told
is fast: the attack takes gradients of its input alone, buffers are reused,
gradients are set to None. The variants are nchw, channels_last, compile
(channels_last under torch.compile) and, on a GPU, graph: compile, with the
whole step replayed as one CUDA graph. Precision is bf16 (autocast) or, on a
GPU, tf32, or float32 otherwise.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F

import models

VARIANTS = ("nchw", "channels_last", "compile", "graph")
DEVICE = torch.device("cpu")
AUTOCAST = False


def open_device(ask):
    global DEVICE, AUTOCAST
    torch.set_num_threads(ask["threads"])
    AUTOCAST = ask["precision"] == "bf16"
    cpu = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else "CPU"
    detail = f"{cpu}, {'bf16' if AUTOCAST else 'float32'}"
    if ask.get("gpu"):
        DEVICE = torch.device("cuda")
        tf32 = ask["precision"] in ("bf16", "tf32")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        torch.set_default_device(DEVICE)
        detail = f"{torch.cuda.get_device_name()}, {ask['precision']}"
    return {"torch": torch.__version__, "detail": detail}


def wait():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def captured(step):
    """The step as one CUDA graph, captured after it has run on a side stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def model(name):
    if name == "cifar-small":
        return models.SmallCNN(3, 32, 32, 64, 128, 3)
    if name == "mnist-madry":
        return models.SmallCNN(1, 28, 32, 64, 1024, 5)
    if name == "mnist-wong":
        return models.mnist_wong(16, 32, 100, 28)
    if name == "preactresnet18":
        return models.PreActResNet(64, (2, 2, 2, 2))
    if name.startswith("wideresnet-"):
        depth, widen = name.split("-")[1:]
        return models.WideResNet(int(depth), int(widen), 16)
    raise ValueError(f"no model {name!r}")


def linf_pgd(net, x, y, steps, eps, alpha):
    """PGD in the l-infinity ball and [0,1], from a random start."""
    adv = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp_(0, 1)
    low, high = (x - eps).clamp_(0, 1), (x + eps).clamp_(0, 1)
    for _ in range(steps):
        adv.requires_grad_(True)
        (grad,) = torch.autograd.grad(F.cross_entropy(net(adv), y), adv)
        with torch.no_grad():
            adv = torch.min(torch.max(adv.detach().add(grad.sign_(), alpha=alpha), low), high)
    return adv


def trades_attack(net, x, target, steps, eps, alpha):
    """Ascent on the divergence from the outputs at x, from a small normal step."""
    low, high = (x - eps).clamp_(0, 1), (x + eps).clamp_(0, 1)
    adv = torch.min(torch.max(x + 0.001 * torch.randn_like(x), low), high)
    for _ in range(steps):
        adv.requires_grad_(True)
        loss = F.kl_div(F.log_softmax(net(adv), 1), target, reduction="sum")
        (grad,) = torch.autograd.grad(loss, adv)
        with torch.no_grad():
            adv = torch.min(torch.max(adv.detach().add(grad.sign_(), alpha=alpha), low), high)
    return adv


def training_step(spec, variant):
    net = model(spec["model"])
    params = list(net.parameters())
    side, channels = (28, 1) if spec["model"].startswith("mnist") else (32, 3)
    x = torch.rand(spec["batch"], channels, side, side)
    y = torch.randint(0, 10, (spec["batch"],))
    if variant != "nchw":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    opt = torch.optim.SGD(params, lr=0.01, momentum=0.9)
    called = torch.compile(net) if variant in ("compile", "graph") else net

    def forward(inputs):
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=AUTOCAST):
            return called(inputs).float()

    steps, alpha = spec["steps"], (10 if spec["steps"] == 1 else 2) / 255

    def trades():
        net.eval()
        with torch.no_grad():
            target = F.softmax(forward(x), 1)
        adv = trades_attack(forward, x, target, steps, 8 / 255, alpha)
        net.train()
        return adv

    def ascend():
        if spec["method"] == "standard":
            return x
        for p in params:
            p.requires_grad_(False)
        adv = trades() if spec["method"] == "trades" else linf_pgd(forward, x, y, steps, 8 / 255, alpha)
        for p in params:
            p.requires_grad_(True)
        return adv

    def step():
        inputs = ascend()
        opt.zero_grad(set_to_none=True)
        if spec["method"] == "trades":
            clean, robust = forward(x), forward(inputs)
            divergence = F.kl_div(F.log_softmax(robust, 1), F.softmax(clean, 1), reduction="batchmean")
            loss = F.cross_entropy(clean, y) + 6 * divergence
        else:
            loss = F.cross_entropy(forward(inputs), y)
        loss.backward()
        opt.step()

    return captured(step) if variant == "graph" else step


def dtype():
    return torch.bfloat16 if AUTOCAST else torch.float32


def convolution(spec, variant):
    c, size, k = spec["channels"], spec["size"], spec["kernel"]
    stride, pad = [spec["stride"]] * 2, [k // 2] * 2
    x, w = torch.randn(spec["batch"], c, size, size, dtype=dtype()), torch.randn(spec["out"], c, k, k, dtype=dtype())
    if variant == "channels_last":
        x, w = x.to(memory_format=torch.channels_last), w.to(memory_format=torch.channels_last)
    dy = torch.randn_like(F.conv2d(x, w, None, stride, pad))
    wanted = {"conv2d-input-grad": (True, False, False), "conv2d-filter-grad": (False, True, False)}.get(spec["kind"])

    def step():
        with torch.no_grad():
            if wanted is None:
                return F.conv2d(x, w, None, stride, pad)
            return torch.ops.aten.convolution_backward(
                dy, x, w, None, stride, pad, [1, 1], False, [0, 0], 1, wanted)

    return step


def product(spec):
    n = spec["size"]
    a, b, out = torch.randn(n, n, dtype=dtype()), torch.randn(n, n, dtype=dtype()), torch.empty(n, n, dtype=dtype())
    return lambda: torch.mm(a, b, out=out)


def prepare(spec, variant):
    if variant == "graph" and DEVICE.type != "cuda" or variant == "compile" and not hasattr(torch, "compile"):
        return None
    if spec["kind"] == "step":
        return training_step(spec, variant)
    if variant in ("compile", "graph") or (spec["kind"] == "matmul" and variant != "nchw"):
        return None  # one library call: there is no such variant
    return product(spec) if spec["kind"] == "matmul" else convolution(spec, variant)


def main():
    torch.manual_seed(0)
    case, steps = None, {}
    for line in sys.stdin:
        ask = json.loads(line)
        answer = {}
        try:
            if ask["do"] == "open":
                answer = open_device(ask)
            elif ask["do"] == "prepare":
                if ask["spec"] != case:
                    case, steps = ask["spec"], {}
                step = prepare(case, ask["variant"])
                if step is None:
                    answer = {"skip": True}
                else:
                    steps[ask["variant"]] = step
                    step()
                    wait()
            else:
                step = steps[ask["variant"]]
                began = time.perf_counter()
                step()
                wait()
                answer = {"seconds": time.perf_counter() - began}
        except Exception as e:  # the caller prints it
            answer = {"error": f"{type(e).__name__}: {e}".splitlines()[0]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
