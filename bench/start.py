#!/usr/bin/env python3
"""How long a start takes: `kiln run --rm IMAGE true` from a template and cold, small and large, beside runc.

usage: start.py [--runs N] [--forks N] [--engine NAME] [--only NAME,...] [--json FILE]

The runs are interleaved, so that a noisy machine is noisy for all; p50 and p99 of wall time, and the median of the CPU
time that the program and all its processes took, which is the steadier measure where others use the machine. Each
variant is run once before it is counted: that makes its template. Then: from the template to the first instruction of
the command, and how many machines a second two at a time. Then forks: 100 of a container that waits, and of one whose
shell loops, until each has answered its host over vsock; and their memory (PSS, the VMM included). Exit status: 0, or 1 when a run failed.

environment: BUILD      the build folder (build)
             KILN_ROOT  the store with kernel and image kiln-test (tools/make-test-image.sh, kiln import)
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import struct
import statistics
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
KILN = str(SOURCE / os.environ.get("BUILD", "build") / "kiln")
PHASE = re.compile(rb"^ *(\d+\.\d+) +(\d+\.\d+) +(.*) \(")


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(p / 100 * len(ordered)))]


def timed(command, cwd=None):
    """Wall and CPU milliseconds of a command that must succeed, and its standard error."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          timeout=120, check=False)
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"start: {' '.join(command)}: status {done.returncode}: {done.stderr.decode(errors='replace')}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall * 1e3, cpu * 1e3, done.stderr


def kiln_run(engine, memory, *flags):
    """Without a network, as runc's container has none."""
    return [KILN, "run", "--rm", "--quiet", "--engine", engine, "-m", memory, "--network", "none", *flags, "kiln-test", "true"]


class Runc:
    """A bundle with the same root, and one container after another in it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        tar = self.folder / "image.tar"
        subprocess.run([SOURCE / "tools" / "make-test-image.sh", tar], check=True, stdout=subprocess.DEVNULL)
        image = self.folder / "image"
        root = self.folder / "rootfs"
        image.mkdir()
        root.mkdir()
        subprocess.run(["tar", "-xf", tar, "-C", image], check=True)
        layers = json.loads((image / "manifest.json").read_text())[0]["Layers"]
        for layer in layers:
            subprocess.run(["tar", "-xf", image / layer, "-C", root], check=True)
        subprocess.run(["runc", "spec"], cwd=self.folder, check=True)
        config = json.loads((self.folder / "config.json").read_text())
        config["process"].update(args=["true"], terminal=False)
        config["process"].pop("rlimits", None)
        (self.folder / "config.json").write_text(json.dumps(config))
        self.count = 0

    def command(self):
        self.count += 1
        return ["runc", "run", f"kiln-bench-{os.getpid()}-{self.count}"]


def launch_rate(engine, seconds=10.0):
    """Machines a second, two at a time."""
    end = time.monotonic() + seconds
    begun = time.monotonic()

    def loop():
        n = 0
        while time.monotonic() < end:
            timed(kiln_run(engine, "128m"))
            n += 1
        return n

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        total = sum(pool.map(lambda _: loop(), range(2)))
    return total / (time.monotonic() - begun)


HELLO = struct.pack("<IHH", 10, 1, 0) + struct.pack("<HII", 1, 4, 2)  # proto/agent.h: HELLO, VERSION 2


def answered(vsock):
    """The agent behind this socket says HELLO."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(vsock)
        s.sendall(b"CONNECT 1024\n")
        f = s.makefile("rb")
        if not f.readline().startswith(b"OK"):
            raise OSError("no answer")
        s.sendall(HELLO)
        return len(f.read(8)) == 8


def pss(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: *(\d+) kB", text, re.M)[1]) / 1024


def forks(engine, n, script):
    """Seconds until n copies have answered, milliseconds their parent stood, MiB each of them has."""
    name = f"bench-{os.getpid()}"
    parent = subprocess.Popen([KILN, "run", "--rm", "--quiet", "--network", "none", "--engine", engine, "-m", "128m", "--name", name, "kiln-test",
                               "sh", "-c", f"echo up; {script}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    parent.stdout.readline()
    machines = []
    try:
        begun = time.monotonic()
        done = subprocess.run([KILN, "fork", name, "-n", str(n), "--format", "json"], check=True, stdout=subprocess.PIPE)
        said = json.loads(done.stdout)
        machines = said["machines"]
        for m in machines:
            answered(m["vsock"])
        took = time.monotonic() - begun
        each = statistics.mean(pss(m["pid"]) for m in machines)
    finally:
        if machines:
            subprocess.run([KILN, "stop", *[m["id"] for m in machines]], check=True, stdout=subprocess.DEVNULL)
        parent.terminate()
        parent.wait(60)
    return took, said["pause_ns"] / 1e6, each


def first_instruction(engine, runs):
    """From the moment the machine's process is forked to the command's exec, by --stats."""
    took = []
    for _ in range(runs + 1):
        stderr = timed([*kiln_run(engine, "128m")[:-2], "--stats", "kiln-test", "true"])[2]
        at = {m.group(3): float(m.group(1)) for m in map(PHASE.match, stderr.splitlines()) if m}
        took.append(at[b"command ran"] - at[b"machine made"])
    return took[1:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--forks", type=int, default=100)
    parser.add_argument("--engine", default="bt")
    parser.add_argument("--only", default="")
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as folder:
        runc = Runc(folder) if shutil.which("runc") and os.geteuid() == 0 else None
        variants = {
            "template-128m": lambda: (kiln_run(args.engine, "128m"), None),
            "template-4g": lambda: (kiln_run(args.engine, "4g"), None),
            "with-network": lambda: (kiln_run(args.engine, "128m", "--network", "bridge"), None),
            "cold-128m": lambda: (kiln_run(args.engine, "128m", "--no-template"), None),
            "cold-4g": lambda: (kiln_run(args.engine, "4g", "--no-template"), None),
        }
        if runc:
            variants["runc"] = lambda: (runc.command(), runc.folder)
        if args.only:
            variants = {n: v for n, v in variants.items() if n in args.only.split(",")}
        results = {name: [] for name in variants}
        for i in range(-2, args.runs):
            for name, make in variants.items():
                command, cwd = make()
                wall, cpu, _ = timed(command, cwd)
                if i >= 0:
                    results[name].append((wall, cpu))
        print(f"{'ms':14} {'p50':>8} {'p99':>8} {'CPU p50':>8}")
        out = {}
        for name, pairs in results.items():
            wall, cpu = [p[0] for p in pairs], [p[1] for p in pairs]
            out[name] = {"p50": statistics.median(wall), "p99": percentile(wall, 99), "cpu": statistics.median(cpu)}
            print(f"{name:14} {out[name]['p50']:8.1f} {out[name]['p99']:8.1f} {out[name]['cpu']:8.1f}")
        if not args.only:
            first = first_instruction(args.engine, args.runs)
            out["first-instruction"] = {"p50": statistics.median(first), "p99": percentile(first, 99)}
            print(f"{'to the command':14} {statistics.median(first):8.1f} {percentile(first, 99):8.1f}")
            out["rate"] = launch_rate(args.engine)
            print(f"{'rate, two at a time':22} {out['rate']:.1f} machines a second")
            for what, script in ("waiting", "sleep 1000"), ("looping", "while :; do :; done"):
                took, pause, each = forks(args.engine, args.forks, script)
                out[f"forks-{what}"] = {"s": took, "pause_ms": pause, "pss_mib": each}
                print(f"{args.forks} forks, {what}: {took:.2f} s, the parent stood {pause:.1f} ms, {each:.1f} MiB each")
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(out, indent=1) + "\n")
    return 0


sys.exit(main())
