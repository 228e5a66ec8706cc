"""Images a second of PyTorch in the training step of the recipe fast-at on MNIST:
FGSM from a random start, then Adam, batches of 100, on random images."""

import time

import torch
from torch import nn

torch.set_num_threads(2)
EPS, STEP = 0.3, 0.375


def rate(channels_last, compiled, steps=300):
    net = nn.Sequential(nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
                        nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = net.to(memory_format=layout)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(net) if compiled else net
    loss = nn.functional.cross_entropy
    images, labels = torch.rand(60000, 1, 28, 28), torch.randint(0, 10, (60000,))
    order = torch.randperm(60000)

    def step(i):
        of = order[i * 100:(i + 1) * 100]
        x, y = images[of].contiguous(memory_format=layout), labels[of]
        d = torch.empty_like(x).uniform_(-EPS, EPS).requires_grad_()
        gradient, = torch.autograd.grad(loss(forward(x + d), y), d)  # the input's alone
        d = (d.detach() + STEP * gradient.sign()).clamp_(-EPS, EPS)
        optimizer.zero_grad()
        loss(forward((x + d).clamp(0, 1)), y).backward()
        optimizer.step()

    for i in range(30):
        step(i)
    start = time.time()
    for i in range(30, 30 + steps):
        step(i)
    return steps * 100 / (time.time() - start)


for name, arguments in {"nchw": (False, False), "channels_last": (True, False), "compile": (False, True)}.items():
    print(name, round(rate(*arguments)), "images/s")
