"""The models, with the state_dict names of the reference implementations.

Widths are arguments, so that one definition serves the reduced and the
full-width fixtures. Every model takes (N,C,H,W) and returns logits (N,classes).
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


def in_batch_norm(name, names):
    """Whether the state_dict entry name belongs to a batch norm, given all names."""
    return name.rsplit(".", 1)[0] + ".running_var" in names


class PatchCNN(nn.Module):
    """Two-layer smoothed-ReLU CNN: F_i = sum over the m filters of class i and all patches.

    Input (N,d,1,P). Filter r of class i is row i*m+r of conv.weight (k*m,d,1,1).
    """

    def __init__(self, k, m, d, q, rho):
        super().__init__()
        self.k, self.m, self.q, self.rho = k, m, q, rho
        self.conv = nn.Conv2d(d, k * m, 1, bias=False)

    def smoothed_relu(self, z):
        power = z.clamp(0, self.rho) ** self.q / (self.q * self.rho ** (self.q - 1))
        return power + F.relu(z - self.rho)

    def forward(self, x):
        out = self.smoothed_relu(self.conv(x))  # (N,k*m,1,P)
        return out.reshape(len(x), self.k, -1).sum(2)


def mnist_wong(c1, c2, hidden, side):
    """The MNIST network of Wong et al.: two stride-2 4x4 convolutions and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, c1, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(c1, c2, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(c2 * (side // 4) ** 2, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


class Normalize(nn.Module):
    """(x - mean) / std per channel; the constants are no part of the state_dict."""

    def __init__(self, mean, std):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            values = torch.tensor(values, dtype=torch.float32).double()  # float32 values, as in practice
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)

    def forward(self, x):
        return (x - self.mean) / self.std


def cifar_normalize():
    """The usual CIFAR-10 channel statistics."""
    return Normalize((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))


class SmallCNN(nn.Module):
    """Two (convolution, ReLU, 2x2 max pool) stages and two linear layers.

    kernel 5 is Madry's MNIST network; kernel 3 with normalisation is cifar-small.
    """

    def __init__(self, c_in, side, c1, c2, hidden, kernel, normalize=None):
        super().__init__()
        self.normalize = normalize or nn.Identity()
        self.conv1 = nn.Conv2d(c_in, c1, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(c1, c2, kernel, padding=kernel // 2)
        self.fc1 = nn.Linear(c2 * (side // 4) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, 10)

    def forward(self, x):
        out = F.max_pool2d(F.relu(self.conv1(self.normalize(x))), 2)
        out = F.max_pool2d(F.relu(self.conv2(out)), 2)
        return self.fc2(F.relu(self.fc1(out.flatten(1))))


class PreActBlock(nn.Module):
    """BN, ReLU, conv twice; a projected shortcut starts after the first ReLU."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False))

    def forward(self, x):
        act = F.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(act)
        return self.conv2(F.relu(self.bn2(self.conv1(act)))) + skip


class PreActResNet(nn.Module):
    """PreActResNet-18 with blocks=(2,2,2,2), width=64, and a final BN and ReLU before the global mean."""

    def __init__(self, width, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        c_in = width
        for stage, count in enumerate(blocks):
            c_out, layers = width * 2**stage, []
            for block in range(count):
                layers.append(PreActBlock(c_in, c_out, 2 if stage > 0 and block == 0 else 1))
                c_in = c_out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.bn = nn.BatchNorm2d(c_in)
        self.linear = nn.Linear(c_in, 10)

    def forward(self, x):
        out = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return self.linear(F.relu(self.bn(out)).mean((2, 3)))


class ResBlock(nn.Module):
    """Conv, BN, ReLU, conv, BN, plus the input; a projected shortcut has a BN of its own."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet-18 for 32-pixel images with blocks=(2,2,2,2), width=64."""

    def __init__(self, width, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        c_in = width
        for stage, count in enumerate(blocks):
            c_out, layers = width * 2**stage, []
            for block in range(count):
                layers.append(ResBlock(c_in, c_out, 2 if stage > 0 and block == 0 else 1))
                c_in = c_out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(c_in, 10)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(out.mean((2, 3)))


class SameBlock(nn.Module):
    """The block of Gowal et al.: WideBlock with SiLU, other names, and a stride of 2 that pads below and on the right."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.margin = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)
        self.batchnorm_0 = nn.BatchNorm2d(c_in)
        self.conv_0 = nn.Conv2d(c_in, c_out, 3, stride=stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(c_out)
        self.conv_1 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False) if c_in != c_out else None

    def forward(self, x):
        act = F.silu(self.batchnorm_0(x))
        out = self.conv_1(F.silu(self.batchnorm_1(self.conv_0(F.pad(act, self.margin)))))
        return out + (x if self.shortcut is None else self.shortcut(act))


class DMWideResNet(nn.Module):
    """The SiLU WideResNet of Gowal et al., without its normalisation."""

    def __init__(self, depth, widen, base):
        super().__init__()
        count, c = (depth - 4) // 6, [base, base * widen, 2 * base * widen, 4 * base * widen]
        self.init_conv = nn.Conv2d(3, c[0], 3, padding=1, bias=False)
        stages = []
        for i in range(3):
            stage = nn.Module()
            stage.block = nn.Sequential(*[SameBlock(c[i] if j == 0 else c[i + 1], c[i + 1], 2 if i > 0 and j == 0 else 1) for j in range(count)])
            stages.append(stage)
        self.layer = nn.ModuleList(stages)
        self.batchnorm = nn.BatchNorm2d(c[3])
        self.logits = nn.Linear(c[3], 10)

    def forward(self, x):
        out = self.init_conv(x)
        for stage in self.layer:
            out = stage.block(out)
        return self.logits(F.silu(self.batchnorm(out)).mean((2, 3)))


class WideBlock(nn.Module):
    """Wide ResNet's block; where the channels change, BN and ReLU come before the split."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.convShortcut = None
        if c_in != c_out:
            self.convShortcut = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)

    def forward(self, x):
        act = F.relu(self.bn1(x))
        skip = x if self.convShortcut is None else self.convShortcut(act)
        return self.conv2(F.relu(self.bn2(self.conv1(act)))) + skip


class WideStage(nn.Module):
    """count blocks; the reference implementation calls their list "layer"."""

    def __init__(self, c_in, c_out, count, stride):
        super().__init__()
        blocks = [WideBlock(c_in if i == 0 else c_out, c_out, stride if i == 0 else 1) for i in range(count)]
        self.layer = nn.Sequential(*blocks)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    """WideResNet-depth-widen as used by TRADES; base is 16 at full width."""

    def __init__(self, depth, widen, base):
        super().__init__()
        count = (depth - 4) // 6
        c = [base, base * widen, 2 * base * widen, 4 * base * widen]
        self.conv1 = nn.Conv2d(3, c[0], 3, padding=1, bias=False)
        self.block1 = WideStage(c[0], c[1], count, 1)
        self.block2 = WideStage(c[1], c[2], count, 2)
        self.block3 = WideStage(c[2], c[3], count, 2)
        self.bn1 = nn.BatchNorm2d(c[3])
        self.fc = nn.Linear(c[3], 10)

    def forward(self, x):
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(out)).mean((2, 3)))
