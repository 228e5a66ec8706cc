"""Builds the Dockerfile's images where there is no container engine: carries out
every instruction in a clean root of Debian, and runs what comes out in its own.

    python3 build/clean_root.py            # both images
    python3 build/clean_root.py cpu        # one, and what it is built from

For golang:1.26-bookworm stands Debian bookworm with gcc and this machine's Go, and
for nvidia/cuda Debian bookworm alone, whose C library is older than Ubuntu
24.04's: both have less than the images. Go's caches are this machine's, and so
are the certificates. It needs root, debootstrap and the network; a root of Debian
stays in the user's cache folder.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "temper")
# Base images, by what their names begin with: what Debian lacks of them.
BASES = {"golang:1.26-bookworm": "ca-certificates,gcc,libc6-dev", "nvidia/cuda:": "", "scratch": None}
# What runs in each image: arguments of its entry point.
CHECKS = {
    "cpu": ["version", "devices", "train --epochs 1 --run-dir /tmp/run"],
    "gpu": ["version", "devices", "kernels build --arch sm_90", "train --device cpu --epochs 1 --run-dir /tmp/run"],
}


def main(targets):
    if os.geteuid() != 0:
        sys.exit("clean_root.py: only root may change roots")
    stages = parse(open("Dockerfile").read())
    with tempfile.TemporaryDirectory(prefix="clean-root-") as work:
        built = {}
        for target in targets:
            build(target, stages, built, work)
            root, entry = built[target]["root"], built[target]["entry"]
            for arguments in CHECKS[target]:
                say(f"{target}: {shlex.join(entry)} {arguments}")
                inside(built[target], entry + arguments.split())
            if os.path.exists(os.path.join(root, "src")):
                sys.exit(f"clean_root.py: {target} has the source in it")


def parse(text):
    """Gives each stage's base and instructions, by its name."""
    stages, name = {}, None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, rest = line.split(None, 1)
        if word == "FROM":
            base, _, name = rest.split()
            stages[name] = {"base": base, "steps": []}
        else:
            stages[name]["steps"].append((word, rest))
    return stages


def build(name, stages, built, work):
    if name in built:
        return
    base = stages[name]["base"]
    root = os.path.join(work, name)
    if base in stages:
        build(base, stages, built, work)
        subprocess.run(["cp", "-a", built[base]["root"], root], check=True)
        stage = dict(built[base], env=dict(built[base]["env"]))
    else:
        extract(base, root)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {"PATH": path, "HOME": "/root"}
        if base.startswith("golang:"):
            env |= {"PATH": "/usr/local/go/bin:" + path, "GOPATH": "/go", "GOTOOLCHAIN": "local"}
        stage = {"folder": "/", "env": env, "entry": []}
    built[name] = stage = dict(stage, root=root, go=base.startswith("golang:") or stage.get("go", False))
    for word, rest in stages[name]["steps"]:
        say(f"{name}: {word} {rest}")
        if word == "RUN":
            inside(stage, ["/bin/sh", "-c", rest])
        elif word == "WORKDIR":
            stage["folder"] = rest
            os.makedirs(root + rest, exist_ok=True)
        elif word == "ENV":
            stage["env"].update(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "ENTRYPOINT":
            stage["entry"] = json.loads(rest)
        elif word == "COPY":
            copy(rest.split(), stage, stages, built, work)
        else:
            sys.exit(f"clean_root.py: no {word} here yet")


def copy(words, stage, stages, built, work):
    source = None
    if words[0].startswith("--from="):
        name = words.pop(0).removeprefix("--from=")
        build(name, stages, built, work)
        source = built[name]["root"]
    *names, to = words
    to = stage["root"] + os.path.join(stage["folder"], to)
    os.makedirs(to if len(names) > 1 or to.endswith(("/", "/.")) else os.path.dirname(to), exist_ok=True)
    for name in names:
        if source:
            subprocess.run(["cp", "-a", source + name + ("." if name.endswith("/") else ""), to], check=True)
        elif name == ".":  # what git has or would have, which a clean checkout is
            files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], check=True, capture_output=True).stdout
            tar = subprocess.run(["tar", "--null", "-T", "-", "-cf", "-"], check=True, input=files, capture_output=True).stdout
            subprocess.run(["tar", "-C", to, "-xf", "-"], check=True, input=tar)
        else:
            shutil.copy(name, to)


def extract(base, root):
    packages = next((p for b, p in BASES.items() if base.startswith(b)), "unknown")
    if packages == "unknown":
        sys.exit(f"clean_root.py: nothing stands in for {base}")
    os.makedirs(root)
    if packages is None:
        return
    tar = os.path.join(CACHE, f"debian-bookworm{'-' if packages else ''}{packages.replace(',', '-')}.tar")
    if not os.path.exists(tar):
        if not shutil.which("debootstrap"):
            subprocess.run("apt-get update -q && apt-get install -y -q debootstrap", shell=True, check=True, stdout=subprocess.DEVNULL)
        os.makedirs(CACHE, exist_ok=True)
        include = [f"--include={packages}"] if packages else []
        new = root + ".new"
        subprocess.run(["debootstrap", "--variant=minbase", *include, "bookworm", new], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["tar", "-C", new, "-cf", f"{tar}.{os.getpid()}", "."], check=True)
        os.rename(f"{tar}.{os.getpid()}", tar)
        subprocess.run(["rm", "-rf", new], check=True)
    subprocess.run(["tar", "-C", root, "-xf", tar], check=True)
    for name in ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"):
        if os.path.exists(name):
            os.makedirs(os.path.dirname(root + name), exist_ok=True)
            shutil.copy(name, root + name)


# Changes the root, in namespaces of its own, so that nothing stays mounted.
CHANGE = """
root=$1 folder=$2 && shift 2
if [ -d "$root/usr" ]; then
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
fi
for pair in $MOUNTS; do
  mkdir -p "$root${pair#*:}"
  mount --bind "${pair%%:*}" "$root${pair#*:}"
done
unset MOUNTS OLDPWD
exec chroot "$root" /usr/bin/env --chdir="$folder" "$@"
"""


def inside(stage, command):
    """Runs a command in a stage's root."""
    mounts = ""
    if stage["go"]:
        root, modules, cache = subprocess.run(["go", "env", "GOROOT", "GOMODCACHE", "GOCACHE"], check=True, capture_output=True, text=True).stdout.split()
        mounts = f"{root}:/usr/local/go {modules}:/go/pkg/mod {cache}:/root/.cache/go-build"
    change = CHANGE
    if not os.path.isdir(stage["root"] + "/usr"):  # an empty base has no env
        change = CHANGE.replace('/usr/bin/env --chdir="$folder" ', "")
    passed = {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy", "goproxy")}
    subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "/bin/bash", "-euc", change, "-", stage["root"], stage["folder"], *command],
        check=True,
        env=stage["env"] | passed | {"MOUNTS": mounts},
    )


def say(text):
    print("== " + text, flush=True)


if __name__ == "__main__":
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    try:
        main(sys.argv[1:] or ["cpu", "gpu"])
    except subprocess.CalledProcessError as e:
        sys.exit(f"clean_root.py: {e}")
