"""Prints what run.sh found as a short table, and writes it to summary.json."""

import glob
import json
import os
import sys


def median(times):
    return times[len(times) // 2]


def benchmarks(folder):
    for path in sorted(glob.glob(os.path.join(folder, "bench-*.json"))):
        suite = os.path.basename(path)[len("bench-") : -len(".json")]
        with open(path) as f:
            report = json.load(f)
        for r in report["results"]:
            row = {"suite": suite, "name": r["name"], "temper_ms": 1e3 * median(r["seconds"])}
            peers = {v: 1e3 * median(t) for v, t in (r.get("peer") or {}).items()}
            if peers:
                best = min(peers, key=peers.get)
                row |= {"peer": best, "peer_ms": peers[best], "ratio": peers[best] / row["temper_ms"]}
            yield row


def main(folder):
    parts = []
    for name in ("info", "parity", "sanitizer", "repeat", "bench", "train"):
        path = os.path.join(folder, name + ".json")
        if os.path.exists(path):
            with open(path) as f:
                parts.append(json.load(f))
    rows = list(benchmarks(folder))
    with open(os.path.join(folder, "summary.json"), "w") as f:
        json.dump({"parts": parts, "benchmarks": rows}, f, indent=1)
    for r in rows:
        peer = f"{r['peer_ms']:10.3f} ms {r['peer']:14}{r['ratio']:6.2f}x" if "peer" in r else ""
        print(f"{r['suite']:14} {r['name']:48} {r['temper_ms']:10.3f} ms {peer}")
    for p in parts:
        print(f"{p['part']:10} {'ok' if p['ok'] else 'FAILED':7} {p['result']}")
    return 0 if all(p["ok"] for p in parts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
