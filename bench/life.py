#!/usr/bin/env python3
"""What containers cost while they live: a command inside, their log, and many of them at once, in both classes.

usage: life.py [--runs N] [--machines N] [--log-mib N] [--engine NAME] [--only exec,log,idle] [--json FILE]

exec  milliseconds of `kiln exec NAME true`, start to exit: p50 and p99 of N runs, the classes interleaved
log   MB/s of `kiln logs` of a container that wrote so much, median of 5
idle  so many machines that sleep: memory of the host they take each, PSS each with all their processes, and percent of
      a core each uses over 20 seconds; then the same for the process class

environment: BUILD      the build folder (build)
             KILN_ROOT  the store with kernel and image kiln-test (tools/make-test-image.sh, kiln import)
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
KILN = str(SOURCE / os.environ.get("BUILD", "build") / "kiln")
CLASSES = ("vm", "process")
TICKS = os.sysconf("SC_CLK_TCK")
IDLE_SECONDS = 20


def kiln(*words, **more):
    return subprocess.run([KILN, *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **more).stdout


def name(kind, i=0):
    return f"bench-{os.getpid()}-{kind}-{i}"


def start(kind, i, args, script, memory="128m"):
    flags = ["--engine", args.engine, "-m", memory] if kind == "vm" else []
    kiln("run", "-d", "--rm", "--quiet", f"--isolation={kind}", "--network", "none", *flags, "--name", name(kind, i),
         "kiln-test", "sh", "-c", script)


def exec_times(args):
    took = {kind: [] for kind in CLASSES}
    for kind in CLASSES:
        start(kind, 0, args, "sleep 100000")
    try:
        for i in range(-2, args.runs):
            for kind in CLASSES:
                begun = time.monotonic()
                kiln("exec", name(kind), "true")
                if i >= 0:
                    took[kind].append((time.monotonic() - begun) * 1e3)
    finally:
        kiln("rm", "-f", *map(name, CLASSES))
    out = {}
    for kind, ms in took.items():
        ms.sort()
        out[kind] = {"p50": statistics.median(ms), "p99": ms[min(len(ms) - 1, int(0.99 * len(ms)))]}
        print(f"exec {kind:8} p50 {out[kind]['p50']:6.1f} ms  p99 {out[kind]['p99']:6.1f} ms")
    return out


def log_speed(args):
    out = {}
    for kind in CLASSES:
        start(kind, 0, args, f"yes 'a line of a log, as long as they are' | head -c {args.log_mib << 20}; echo; echo over; "
              "sleep 100000")
        try:
            while b"over" not in kiln("logs", "--tail", "1", name(kind)):
                time.sleep(0.2)
            speeds = []
            for _ in range(5):
                begun = time.monotonic()
                p = subprocess.Popen([KILN, "logs", "-f", name(kind)], stdout=subprocess.PIPE)
                left = args.log_mib << 20
                while left > 0:
                    left -= len(os.read(p.stdout.fileno(), 1 << 20))
                speeds.append((args.log_mib << 20) / 1e6 / (time.monotonic() - begun))
                p.terminate()
                p.wait()
        finally:
            kiln("rm", "-f", name(kind))
        out[kind] = statistics.median(speeds)
        print(f"logs -f of {args.log_mib} MiB, {kind:8} {out[kind]:6.0f} MB/s")
    return out


def meminfo():
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(r"^MemAvailable: *(\d+) kB", text, re.M)[1]) / 1024


def our_processes():
    """Every process whose ancestor is a keeper: they are children of nobody here, but named."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().startswith("kiln-"):
                found.append(entry)
        except OSError:
            continue
    return found


def ticks(processes):
    total = 0
    for entry in processes:
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return total


def pss(processes):
    total = 0
    for entry in processes:
        try:
            total += int(re.search(r"^Pss: *(\d+) kB", (entry / "smaps_rollup").read_text(), re.M)[1])
        except (OSError, TypeError):
            continue
    return total / 1024


def idle(args):
    out = {}
    for kind in CLASSES:
        before, others = meminfo(), {p.name for p in our_processes()}
        begun = time.monotonic()
        made = 0
        try:
            for i in range(args.machines):
                start(kind, i, args, "sleep 100000")
                made += 1
            took = time.monotonic() - begun
            time.sleep(5)
            processes = [p for p in our_processes() if p.name not in others]
            first, at = ticks(processes), time.monotonic()
            time.sleep(IDLE_SECONDS)
            cpu = (ticks(processes) - first) / TICKS / (time.monotonic() - at) * 100 / args.machines
            out[kind] = {"started_s": took, "host_mib": (before - meminfo()) / args.machines,
                         "pss_mib": pss(processes) / args.machines, "cpu_percent": cpu}
            print(f"{args.machines} idle, {kind:8} started in {took:.1f} s; each: {out[kind]['host_mib']:.1f} MiB of the host's "
                  f"memory, {out[kind]['pss_mib']:.1f} MiB PSS, {cpu:.3f} % of a core")
        finally:
            if made:
                kiln("rm", "-f", *(name(kind, i) for i in range(made)))
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--log-mib", type=int, default=100)
    parser.add_argument("--engine", default="bt")
    parser.add_argument("--only", default="exec,log,idle")
    parser.add_argument("--json")
    args = parser.parse_args()
    jobs = {"exec": exec_times, "log": log_speed, "idle": idle}
    out = {what: jobs[what](args) for what in args.only.split(",")}
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(out, indent=1) + "\n")
    return 0


sys.exit(main())
