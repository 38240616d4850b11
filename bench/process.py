#!/usr/bin/env python3
"""Start to end of a container in namespaces and cgroups: kiln's process class against crun and runc.

usage: process.py [--runs N] [--image IMAGE] [--engines a,b]     (make bench-process ARGS=...)

Runs are paired: in each round every runtime runs once, in changing order, and only what ran side by side is compared.
Each runs `true` of the same files: kiln of the image, the others of a bundle of what is in it. "bridge" is kiln with root's
default network, addresses and NAT; the others have a network namespace with nothing in it, as has "kiln". Needs root. On a host with
v1 and v2 cgroups all run in a mount namespace without the v2 part, as crun refuses that layout.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(os.environ.get("BUILD") or "build").resolve()
UNIFIED = "/sys/fs/cgroup/unified"
NAMESPACE_MARK = "KILN_BENCH_NAMESPACE"


def own_namespace():
    """Start over in a mount namespace without the v2 hierarchy of a hybrid host."""
    if os.environ.get(NAMESPACE_MARK) or not os.path.ismount(UNIFIED):
        return
    script = f'umount {UNIFIED} && exec "$@"'
    os.environ[NAMESPACE_MARK] = "1"
    os.execvp("unshare", ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, *sys.argv])


def image_file(image):
    """The file system image behind a name in the store."""
    root = pathlib.Path(os.environ.get("KILN_ROOT") or "/var/lib/kiln")
    names = json.loads((root / "names.json").read_text())
    name = image if ":" in image else image + ":latest"
    if name not in names:
        sys.exit(f"process.py: no image {image} in the store (make quickstart)")
    manifest = json.loads((root / "blobs/sha256" / names[name].split(":")[1]).read_text())
    return root / "rootfs" / (manifest["config"]["digest"].split(":")[1] + ".squashfs")


def make_bundle(folder, image):
    subprocess.run(["unsquashfs", "-q", "-n", "-d", folder / "rootfs", image_file(image)], check=True,
                   stdout=subprocess.DEVNULL)
    for tool in ("crun", "runc"):
        if shutil.which(tool):
            subprocess.run([tool, "spec"], cwd=folder, check=True)
            break
    config = json.loads((folder / "config.json").read_text())
    config["process"].update(terminal=False, args=["true"])
    config["root"]["readonly"] = False
    (folder / "config.json").write_text(json.dumps(config))


def run(command):
    """Wall ms, CPU ms of all its processes, and peak MiB of any, of one run."""
    done = subprocess.run([BUILD / "bench/peak", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, check=True)
    wall, status, peak, cpu = done.stderr.split("\n")[-2].split()
    if status != "0":
        sys.exit(f"process.py: {command[0]} ended with status {status}\n{done.stderr}")
    return int(wall) / 1e6, int(cpu) / 1e6, int(peak) / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--image", default="kiln-test")
    parser.add_argument("--engines", default="kiln,bridge,crun,runc")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("process.py: needs root")
    own_namespace()
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as folder:
        bundle = pathlib.Path(folder)
        make_bundle(bundle, options.image)
        commands = {
            "kiln": [str(BUILD / "kiln"), "run", "--isolation=process", "--network", "none", "--rm", options.image, "true"],
            "bridge": [str(BUILD / "kiln"), "run", "--isolation=process", "--rm", options.image, "true"],
            "crun": ["crun", "run", "--bundle", folder, f"bench-{os.getpid()}"],
            "runc": ["runc", "run", "--bundle", folder, f"bench-{os.getpid()}"],
        }
        engines = [e for e in options.engines.split(",") if shutil.which(commands[e][0])]
        wall = {e: [] for e in engines}
        cpu = {e: [] for e in engines}
        peak = {e: 0.0 for e in engines}
        for turn in range(options.runs + 1):
            for engine in random.sample(engines, len(engines)):
                ms, cpu_ms, mib = run(commands[engine])
                if turn > 0:  # the first fills the caches
                    wall[engine].append(ms)
                    cpu[engine].append(cpu_ms)
                    peak[engine] = max(peak[engine], mib)
    base = statistics.median(wall["crun"]) if "crun" in wall else 0
    print(f"{'':8}{'median ms':>10}{'fastest':>9}{'to crun':>9}{'CPU ms':>9}{'peak MiB':>10}")
    for engine in engines:
        median = statistics.median(wall[engine])
        # Of pairs, not of medians: what the host did meanwhile hits both.
        pairs = [a / b for a, b in zip(wall[engine], wall["crun"])] if base else []
        ratio = f"{statistics.median(pairs):9.2f}" if pairs else f"{'-':>9}"
        print(f"{engine:8}{median:10.2f}{min(wall[engine]):9.2f}{ratio}{statistics.median(cpu[engine]):9.2f}{peak[engine]:10.1f}")


if __name__ == "__main__":
    main()
