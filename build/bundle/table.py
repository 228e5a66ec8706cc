"""Prints what run.sh found as a short table, and writes all of it to summary.json.

The table has a line for each training step, and one for the kernels of each kind:
how many there are, the geometric mean of the ratios, and the smallest. Ratios are
the time of PyTorch's fastest variant over temper's."""

import glob
import json
import math
import os
import sys

PARTS = ("info", "ways", "parity", "sanitizer", "repeat", "profile", "bench", "methods", "train", "robust", "attack")


def median(times):
    return times[len(times) // 2]  # they are sorted


def read(path):
    with open(path) as f:
        return json.load(f)


def benchmarks(folder):
    for path in sorted(glob.glob(os.path.join(folder, "bench", "*", "*.json"))):
        report = read(path)
        for r in report["results"]:
            row = {"precision": report["precision"], "name": r["name"], "temper_ms": 1e3 * median(r["seconds"])}
            if r.get("images"):
                row["images_s"] = r["images"] / median(r["seconds"])
            peers = {v: 1e3 * median(t) for v, t in (r.get("peer") or {}).items()}
            if peers:
                best = min(peers, key=peers.get)
                row |= {"peers_ms": peers, "peer": best, "peer_ms": peers[best], "ratio": peers[best] / row["temper_ms"]}
            if r.get("skipped"):
                row["skipped"] = r["skipped"]
            yield row


def lines(rows):
    kinds = {}
    for r in rows:
        kind = r["name"].split("/")[0]
        if kind == "step":
            peer = f"{r['peer_ms']:10.2f} ms {r['peer']:13}{r['ratio']:6.2f}x" if "peer" in r else ""
            yield f"{r['precision']:8} {r['name'][5:]:42}{r['images_s']:10.0f} images/s {r['temper_ms']:10.2f} ms {peer}"
        else:
            kinds.setdefault((r["precision"], kind), []).append(r)
    for (precision, kind), some in kinds.items():
        compared = [r for r in some if "ratio" in r]
        text = f"{precision:8} {kind:20} {len(some):3} cases"
        if compared:
            mean = math.exp(sum(math.log(r["ratio"]) for r in compared) / len(compared))
            worst = min(compared, key=lambda r: r["ratio"])
            text += f"  ratio {mean:5.2f}x, at least {worst['ratio']:5.2f}x ({worst['name']})"
        yield text


def main(folder):
    files = [os.path.join(folder, name + ".json") for name in PARTS]
    parts = [read(path) for path in files if os.path.exists(path)]
    attacks = [read(path) for path in sorted(glob.glob(os.path.join(folder, "attack-*.json")))]
    rows = list(benchmarks(folder))
    new = os.path.join(folder, "summary.json.new")
    with open(new, "w") as f:
        json.dump({"parts": parts, "benchmarks": rows, "attacks": attacks}, f, indent=1)
    os.replace(new, new.removesuffix(".new"))
    for line in lines(rows):
        print(line)
    for p in parts:
        print(f"{p['part']:10} {'ok' if p['ok'] else 'FAILED':7} {p['result']}")
    return 0 if all(p["ok"] for p in parts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
