"""Attacks, written from their papers: plain loops, sample by sample where that is clearer.

Projections are found by bisection, so that nothing is shared with an implementation that sorts.
All functions take a model in eval mode, x (N,C,H,W) in [0,1] and labels, and work in float64.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F


def norm_of(delta, norm):
    """(N,) of (N,C,H,W)."""
    flat = delta.flatten(1)
    if norm == "linf":
        return flat.abs().max(1).values
    return flat.norm(dim=1) if norm == "l2" else flat.abs().sum(1)


def column(values):
    return values.view(-1, 1, 1, 1)


def bisect(f, low, high):
    """The root, per sample, of increasing functions f: (N,) -> (N,)."""
    for _ in range(200):
        middle = (low + high) / 2
        below = f(middle) < 0
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def project(x, v, eps, norm):
    """The nearest point to v in the ball and [0,1]; in L2 the usual scaling, then clipping."""
    d = v - x
    if norm == "linf":
        return (x + d.clamp(-eps, eps)).clamp(0, 1)
    if norm == "l2":
        size = norm_of(d, norm)
        return (x + d * column(torch.where(size > eps, eps / size, torch.ones_like(size)))).clamp(0, 1)
    room = torch.where(d > 0, 1 - x, x)

    def shrunk(threshold):
        return torch.minimum((d.abs() - column(threshold)).clamp(min=0), room)

    zero = torch.zeros(len(x))
    inside = norm_of(shrunk(zero), "l1") <= eps
    threshold = bisect(lambda t: eps - norm_of(shrunk(t), "l1"), zero, norm_of(d, "linf"))
    return x + d.sign() * shrunk(torch.where(inside, zero, threshold))


def dlr(z, y):
    top = z.sort(dim=1, descending=True)[0]
    rows = torch.arange(len(z))
    other = torch.where(z.argmax(1) == y, top[:, 1], top[:, 0])
    return (other - z[rows, y]) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(z, y, target):
    top = z.sort(dim=1, descending=True)[0]
    rows = torch.arange(len(z))
    return (z[rows, target] - z[rows, y]) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def cross_entropy(z, y):
    return F.cross_entropy(z, y, reduction="none")


def ranked(z, y, rank):
    """The class of a rank (0: the likeliest) among those that are not the label."""
    return z.scatter(1, y[:, None], -torch.inf).sort(dim=1, descending=True, stable=True)[1][:, rank]


def value_and_gradient(loss, x):
    x = x.detach().clone().requires_grad_(True)
    values = loss(x)
    (gradient,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), gradient


def ascent_direction(gradient, norm):
    if norm == "linf":
        return gradient.sign()
    return gradient / column(norm_of(gradient, "l2"))


def periods(steps):
    """The lengths of Auto-PGD's periods."""
    length, out = max(int(0.22 * steps), 1), []
    while sum(out) + length <= steps:
        out.append(length)
        length = max(length - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return out


def auto_pgd(loss, x, start, eps, norm, steps):
    """Auto-PGD (Croce and Hein, 2020), algorithm 1. Yields (iterate, step size, best loss) after each step."""
    alpha, rho = 0.75, 0.75
    at, before = start, start
    value, gradient = value_and_gradient(loss, at)
    best, best_gradient, best_value = at, gradient, value
    step = torch.full((len(x),), 2 * eps)
    ends = np.cumsum(periods(steps))
    rises, halved, value_then = torch.zeros(len(x)), torch.ones(len(x), dtype=torch.bool), best_value
    since = 0
    for k in range(steps):
        z = project(x, at + column(step) * ascent_direction(gradient, norm), eps, norm)
        following = z if k == 0 else project(x, at + alpha * (z - at) + (1 - alpha) * (at - before), eps, norm)
        before, at, last = at, following, value
        value, gradient = value_and_gradient(loss, at)
        rises, since = rises + (value > last), since + 1
        better = value > best_value
        best, best_gradient = torch.where(column(better), at, best), torch.where(column(better), gradient, best_gradient)
        best_value = torch.where(better, value, best_value)
        if k + 1 in ends:
            halve = (rises <= rho * since) | (~halved & (value_then >= best_value))
            step = torch.where(halve, step / 2, step)
            at, gradient = torch.where(column(halve), best, at), torch.where(column(halve), best_gradient, gradient)
            halved, value_then, rises, since = halve, best_value, torch.zeros(len(x)), 0
        yield at, step, best_value


def moved(delta):
    """The number of elements that differ from 0 by more than rounding: (N,)."""
    return (delta.abs() > 1e-6).flatten(1).sum(1).double()


def auto_pgd_l1(loss, x, start, eps, steps):
    """Auto-PGD in L1 (Croce and Hein, 2021). Yields (iterate, step size, best loss) after each step."""
    size = x[0].numel()
    lengths = [math.ceil(0.3 * steps), math.ceil(0.3 * steps)]
    lengths.append(steps - sum(lengths))
    begin = start
    for factor, length in zip((3, 2, 1), lengths):
        radius = factor * eps
        at = project(x, begin, radius, "l1")
        value, gradient = value_and_gradient(loss, at)
        best, best_gradient, best_value = at, gradient, value
        step = torch.full((len(x),), radius)
        support = moved(at - x)
        share = support / size / 1.5
        period = max(int(0.04 * length), 1)
        for k in range(length):
            direction = torch.zeros_like(x)
            for n in range(len(x)):
                place = min(max(int((1 - share[n].item()) * size + 1e-3), 0), size - 1)
                threshold = gradient[n].abs().flatten().sort()[0][place]
                chosen = gradient[n].abs() >= threshold
                signs = torch.where(chosen, gradient[n].sign(), torch.zeros_like(gradient[n]))
                direction[n] = signs / max(signs.abs().sum(), 1)
            at = project(x, at + column(step) * direction, radius, "l1")
            value, gradient = value_and_gradient(loss, at)
            better = value > best_value
            best, best_gradient = torch.where(column(better), at, best), torch.where(column(better), gradient, best_gradient)
            best_value = torch.where(better, value, best_value)
            if (k + 1) % period == 0:
                now = moved(best - x)
                back = now / support < 0.95
                step = torch.where(back, torch.full_like(step, radius), torch.clamp(step / 1.5, min=radius / 10))
                share, support = now / size / 1.5, now
                at, gradient = torch.where(column(back), best, at), torch.where(column(back), best_gradient, gradient)
            yield at, step, best_value
        begin = best


def momentum_steps(loss, x, start, eps, alpha, norm, steps, mu, nesterov):
    """MI-FGSM (Dong et al., 2018) and NI-FGSM (Lin et al., 2020). Yields the iterates."""
    at, total = start, torch.zeros_like(x)
    for _ in range(steps):
        look = at + alpha * mu * total if nesterov else at
        _, gradient = value_and_gradient(loss, look)
        total = mu * total + gradient / column(norm_of(gradient, "l1"))
        at = project(x, at + alpha * ascent_direction(total, norm), eps, norm)
        yield at


def to_plane(x, w, c, norm):
    """The smallest delta with <w,delta> = c (N,) and x + delta in [0,1], or as far as w allows."""
    w = w * column(torch.where(c < 0, -1.0, 1.0))
    c = c.abs()
    room = torch.where(w > 0, 1 - x, x)
    size = w.abs()

    def delta(t):
        if norm == "linf":
            return torch.minimum(column(t).expand_as(room), room)
        return torch.minimum(column(t) * size, room)

    if norm == "l1":
        out = torch.zeros_like(x)
        for n in range(len(x)):
            left = c[n].item()
            flat, places = out[n].view(-1), size[n].flatten().argsort(descending=True, stable=True)
            for i in places.tolist():
                weight = size[n].flatten()[i].item()
                if weight == 0 or left <= 0:
                    break
                flat[i] = min(left / weight, room[n].flatten()[i].item())
                left -= flat[i].item() * weight
        return w.sign() * out
    most = torch.where(size > 0, room / size, torch.zeros_like(size)).flatten(1).max(1).values.clamp(min=1)
    t = bisect(lambda t: (size * delta(t)).flatten(1).sum(1) - c, torch.zeros(len(x)), most)
    return w.sign() * delta(t)


def boundary(model, x, y, target, norm):
    """f = z_k - z_y (N,) and its gradient, for the target or the class with the nearest linearised boundary."""
    rows = torch.arange(len(x))

    def difference(k):
        def f(x):
            z = model(x)
            return z[rows, k] - z[rows, y]

        return value_and_gradient(f, x)

    if target is not None:
        return difference(target)
    dual = {"linf": "l1", "l2": "l2", "l1": "linf"}[norm]
    best = None
    for k in range(model(x[:1]).shape[1]):
        f, w = difference(torch.full_like(y, k))
        distance = torch.where(y == k, torch.inf, f.abs() / (norm_of(w, dual) + 1e-12))
        if best is None:
            best = [distance, f, w]
            continue
        nearer = distance < best[0]
        best = [torch.where(nearer, distance, best[0]), torch.where(nearer, f, best[1]), torch.where(column(nearer), w, best[2])]
    return best[1], best[2]


def fab(model, x, y, target, norm, steps):
    """FAB (Croce and Hein, 2020) from x. Yields (iterate, nearest hit, its distance) after each step."""
    at, nearest, distance = x, x, torch.full((len(x),), torch.inf)
    for _ in range(steps):
        f, w = boundary(model, at, y, target, norm)
        from_at = to_plane(at, w, -f, norm)
        from_x = to_plane(x, w, (w * (at - x)).flatten(1).sum(1) - f, norm)
        a, b = norm_of(from_at, norm).clamp(min=1e-8), norm_of(from_x, norm).clamp(min=1e-8)
        share = column((a / (a + b)).clamp(0, 0.1))
        at = ((1 - share) * (at + 1.05 * from_at) + share * (x + 1.05 * from_x)).clamp(0, 1)
        hit = model(at).argmax(1) != y
        size = norm_of(at - x, norm)
        nearer = hit & (size < distance)
        nearest, distance = torch.where(column(nearer), at, nearest), torch.where(nearer, size, distance)
        at = torch.where(column(hit), x + 0.9 * (at - x), at)
        yield at.detach(), nearest.detach(), distance.detach()


def deepfool(model, x, y, norm, steps):
    """DeepFool (Moosavi-Dezfooli et al., 2016), clipped to [0,1]: the first hit, or x; and its distance."""
    total, found, distance = torch.zeros_like(x), x, torch.full((len(x),), torch.inf)
    for k in range(steps + 1):
        at = (x + 1.02 * total).clamp(0, 1)
        hit = model(at).argmax(1) != y
        size = norm_of(at - x, norm)
        nearer = hit & (size < distance)
        found, distance = torch.where(column(nearer), at, found), torch.where(nearer, size, distance)
        f, w = boundary(model, at, y, None, norm)
        if norm == "linf":
            step = w.sign() * column(f.abs() / norm_of(w, "l1") + 1e-4)
        else:
            length = norm_of(w, "l2")
            step = w / column(length) * column(f.abs() / length + 1e-4)
        total = torch.where(column(hit), total, total + step)
    return found.detach(), distance.detach()


def carlini_wagner(model, x, y, steps, rate, searches=9):
    """Carlini and Wagner's L2 attack (2017): the nearest hit and its distance."""
    rows = torch.arange(len(x))
    weight, low, high = torch.full((len(x),), 1e-3), torch.zeros(len(x)), torch.full((len(x),), 1e10)
    nearest, distance = x, torch.full((len(x),), torch.inf)
    for _ in range(searches):
        v = torch.atanh((2 * x - 1) * (1 - 1e-6))
        m, u, success = torch.zeros_like(x), torch.zeros_like(x), torch.zeros(len(x), dtype=torch.bool)
        for i in range(steps):
            v = v.detach().requires_grad_(True)
            image = (v.tanh() + 1) / 2
            z = model(image)
            own = z[rows, y]
            other = z.scatter(1, y[:, None], -torch.inf).max(1).values
            loss = (image - x).square().flatten(1).sum(1) + weight * F.relu(own - other)
            (gradient,) = torch.autograd.grad(loss.sum(), v)
            with torch.no_grad():
                hit, size = z.argmax(1) != y, norm_of(image - x, "l2")
                nearer = hit & (size < distance)
                nearest, distance = torch.where(column(nearer), image, nearest), torch.where(nearer, size, distance)
                success |= hit
                m, u = 0.9 * m + 0.1 * gradient, 0.999 * u + 0.001 * gradient.square()
                v = v - rate * (m / (1 - 0.9 ** (i + 1))) / ((u / (1 - 0.999 ** (i + 1))).sqrt() + 1e-8)
        high, low = torch.where(success, torch.minimum(high, weight), high), torch.where(success, low, torch.maximum(low, weight))
        weight = torch.where(high < 1e9, (low + high) / 2, torch.where(success, weight, weight * 10))
    return nearest.detach(), distance


class Philox:
    """The words of temper's generator (engine/rng): Philox 4x32-10, one family a named site."""

    def __init__(self, seed):
        self.seed = seed

    def words(self, site, sample, iteration, count, step=0):
        h = 2166136261
        for byte in site.encode():
            h = ((h ^ byte) * 16777619) & 0xFFFFFFFF
        out = []
        for block in range((count + 3) // 4):
            counter, key = [sample, step, iteration, block], [self.seed, h]
            for _ in range(10):
                a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
                counter = [(b >> 32) ^ counter[1] ^ key[0], b & 0xFFFFFFFF, (a >> 32) ^ counter[3] ^ key[1], a & 0xFFFFFFFF]
                key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
            out += counter
        return out[:count]

    def signs(self, site, sample, iteration, count):
        return torch.tensor([1.0 if w >> 31 else -1.0 for w in self.words(site, sample, iteration, count)])

    def below(self, site, sample, iteration, limit):
        """A whole number from 0 to limit-1."""
        return int((self.words(site, sample, iteration, 1)[0] >> 8) * 2.0**-24 * limit)


def window_side(query, h, w, norm):
    share = 0.8
    for after in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000):
        if query > after:
            share /= 2
    side = round(math.sqrt(share * h * w))
    if norm != "linf":
        side = max(side, 3)
        side += side % 2 == 0
    return min(max(side, 1), h, w)


def bump(side, norm):
    """Square's bump in L2 and L1: two opposite pyramids, of norm 1 together."""
    p, power = (1, 4) if norm == "l1" else (2, 2)

    def pyramid(rows):
        out = torch.zeros(rows, side)
        for i in range(rows):
            for j in range(side):
                ring = max(abs(i - rows // 2), abs(j - side // 2))
                out[i, j] = sum((k + 1) ** -power for k in range(ring, max(rows // 2, side // 2) + 1))
        return out / out.norm(p)

    out = torch.cat([pyramid(side // 2), -pyramid(side - side // 2)])
    return out / out.norm(p)


def square(model, x, y, eps, norm, queries, seed):
    """Square (Andriushchenko et al., 2020). Yields the best point at the start and after each query."""
    n, c, h, w = x.shape
    draw, rows, p = Philox(seed), torch.arange(n), 1 if norm == "l1" else 2

    def margin(x):
        z = model(x)
        return z.scatter(1, y[:, None], -torch.inf).max(1).values - z[rows, y]

    def to_ball(i, delta):
        if norm == "l1":
            return project(x[i : i + 1], x[i : i + 1] + delta, eps, norm)[0]
        return (x[i] + delta / delta.norm() * eps).clamp(0, 1)

    def turned(shape, site, i, iteration, place=0, count=1):
        return shape if draw.words(site, i, iteration, count)[place] >> 31 == 0 else shape.T

    best = x.clone()
    for i in range(n):
        if norm == "linf":
            best[i] = (x[i] + eps * draw.signs("square.stripes", i, 0, c * w).view(c, 1, w)).clamp(0, 1)
            continue
        side, delta = max(min(h // 5, w), 2), torch.zeros(c, h, w)
        top, left = max(h - 5 * side, 0) // 2, max(w - 5 * side, 0) // 2
        down, across = (h + side - 1) // side + 1, (w + side - 1) // side + 1
        signs = draw.signs("square.tiles", i, 0, c * down * across).view(c, down, across)
        for a in range(h // side):
            for b in range(w // side):
                tile = turned(bump(side, norm), "square.tiles.turn", i, 0, a * across + b, down * across)
                area = delta[:, top + a * side : top + (a + 1) * side, left + b * side : left + (b + 1) * side]
                area += (signs[:, a, b].view(c, 1, 1) * tile)[:, : area.shape[1], : area.shape[2]]
        best[i] = to_ball(i, delta)
    value = margin(best)
    yield best.clone()
    for query in range(queries):
        side = window_side(query, h, w, norm)
        new = best.clone()
        for i in range(n):

            def window(site):
                top, left = draw.below(site + ".top", i, query + 1, h - side + 1), draw.below(site + ".left", i, query + 1, w - side + 1)
                return (slice(None), slice(top, top + side), slice(left, left + side))

            here = window("square.window")
            signs = draw.signs("square.sign", i, query + 1, c).view(c, 1, 1)
            if norm == "linf":
                moved = best[i][here] + 2 * eps * signs
                new[i][here] = torch.minimum(torch.maximum(moved, x[i][here] - eps), x[i][here] + eps).clamp(0, 1)
                continue
            there, delta = window("square.from"), best[i] - x[i]
            both = torch.zeros_like(delta)
            both[here], both[there] = delta[here], delta[there]
            old = delta[here]
            shape = signs * turned(bump(side, norm), "square.turn", i, query + 1)
            shape = shape + old / (old.flatten(1).norm(p, dim=1).view(c, 1, 1) + 1e-12)
            unused = max(eps**p - delta.norm(p).item() ** p, 0) / c
            size = (unused + both.flatten(1).norm(p, dim=1) ** p) ** (1 / p) * (c if norm == "l1" else 1)
            delta[there] = 0
            delta[here] = shape / (shape.flatten(1).norm(p, dim=1).view(c, 1, 1) + 1e-12) * size.view(c, 1, 1)
            new[i] = to_ball(i, delta)
        found = margin(new)
        hit, was = found > 0, value > 0
        better = (hit & ~was) | ((hit == was) & (found > value))
        best, value = torch.where(column(better), new, best), torch.where(better, found, value)
        yield best.clone()


def every(model, x, starts, settings):
    """{name: tensor} of the attack fixtures; the labels are what the model says."""
    with torch.no_grad():
        z = model(x)
    y = z.argmax(1)
    out = {"y": y}
    eps = settings["eps"]
    target = ranked(z, y, 1)
    out["target"] = target
    losses = {
        "ce": lambda x: cross_entropy(model(x), y),
        "dlr": lambda x: dlr(model(x), y),
        "t": lambda x: targeted_dlr(model(x), y, target),
    }

    def keep(name, run, steps, at):
        """Iterates at some steps, and what else a run yields at all of them."""
        rest = []
        for k, (iterate, *values) in enumerate(run, 1):
            if k in at:
                out[f"{name}/{k}"] = iterate.detach()
            rest.append(values)
        assert len(rest) == steps
        return [torch.stack([row[i] for row in rest]) for i in range(len(rest[0]))]

    for loss in ("ce", "dlr", "t"):
        for norm in ("linf", "l2"):
            radius = eps["dlr_" + norm] if loss == "dlr" else eps[norm]
            start = project(x, starts[norm], radius, norm)
            name, steps = f"apgd/{loss}/{norm}", settings["apgd_steps"]
            run = auto_pgd(losses[loss], x, start, radius, norm, steps)
            out[name + "/start"] = start
            out[name + "/step"], out[name + "/top"] = keep(name, run, steps, (1, 2, 3, 6, steps))
    for loss in ("ce", "dlr", "t"):
        radius = eps["dlr_l1"] if loss == "dlr" else eps["l1"]
        start = project(x, starts["l1"], 3 * radius, "l1")
        out[f"apgd/{loss}/l1/start"] = start
        for steps in (3, 7, settings["apgd_l1_steps"]):
            keep(f"apgd/{loss}/l1", auto_pgd_l1(losses[loss], x, start, radius, steps), steps, (steps,))
    for name, nesterov in (("mi-fgsm", False), ("ni-fgsm", True)):
        for norm in ("linf", "l2"):
            run = momentum_steps(losses["ce"], x, x, eps[norm], settings["alpha"][norm], norm, 4, 1.0, nesterov)
            keep(f"{name}/{norm}", ((at,) for at in run), 4, (1, 4))
    for name, aim in (("fab-t", target), ("fab", None)):
        for norm in ("linf", "l2", "l1"):
            steps = settings["fab_steps"]
            run = ((at, near, size) for at, near, size in fab(model, x, y, aim, norm, steps))
            near, size = keep(f"{name}/{norm}", run, steps, (1, 2, steps) if aim is not None else (1, steps))
            out[f"{name}/{norm}/nearest"], out[f"{name}/{norm}/size"] = near[-1], size[-1]
    for norm in ("linf", "l2"):
        out[f"deepfool/{norm}/nearest"], out[f"deepfool/{norm}/size"] = deepfool(model, x, y, norm, settings["deepfool_steps"])
    out["cw-l2/nearest"], out["cw-l2/size"] = carlini_wagner(model, x, y, settings["cw_steps"], settings["cw_rate"])
    for name in [name for name in out if name.endswith("/size")]:
        out[name] = torch.where(out[name].isinf(), -torch.ones(len(x)), out[name])  # no hit
    return out | squares(model, x, y, settings)


def squares(model, x, y, settings):
    """Square's best points after 0 (the start), 5 and all queries, by norm."""
    out, queries = {}, settings["queries"]
    for norm in ("linf", "l2", "l1"):
        runs = list(square(model, x, y, settings["eps"][norm], norm, queries, settings["seed"]))
        for k in (0, 5, queries):
            out[f"square/{norm}/{k}"] = runs[k].detach()
    return out


def colour(model, x, starts, settings):
    """What more than one channel makes a difference to: Square."""
    y = model(x).argmax(1)
    return {"y": y} | squares(model, x, y, settings)
