#!/usr/bin/env python3
"""The engine bench: one workload program natively, under QEMU's TCG and under kiln's engines, side by side.

usage: engine.py [--runs N] [--only NAME,...] [--engines native,tcg,bt,interp] [--quick] [--json FILE]
                 [--kernel FILE] [--memory MIB] [--no-boot]

Every engine boots the same kernel with the same memory and the same initramfs, whose init is the workload program.
The runs are interleaved (native, tcg, bt, native, ...), so that a noisy machine is noisy for all; a figure is the
median. Workloads are timed by the guest's own CLOCK_MONOTONIC; the whole is timed from outside too, and a guest whose
clock drifts is told. The CPU time that a machine's process took for each is kept beside it: where others use the machine
it is the steadier measure. Checks must be those of the native run. Exit status: 0, or 1 when an engine failed or was wrong.

environment: BUILD      the build folder (build)
             KILN_ROOT  the store with the guest kernels
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from engine_report import Results, boots_table, row, summary, table, targets

HERE = pathlib.Path(__file__).resolve().parent
LINE = re.compile(r"^([a-z0-9-]+) (\d+\.\d+) ([0-9a-f]{16})$")
END = re.compile(r"^end (\d+\.\d+)$")
TRANSLATED = re.compile(r"^translated\s+(.*)$")
CMDLINE = "console=ttyS0 panic=-1 reboot=t quiet cryptomgr.notests mitigations=off tsc=reliable"
GUEST_TIMEOUT_S = 900
PAUSE_MS = 1500  # how long the guest stands still at the end, while its memory is counted
QUICK_SCALE = 0.1
INTERP_SCALE = 0.05
VM_ENGINES = ("tcg", "bt", "interp")


class Failed(Exception):
    pass


def kernel_line(words):
    """The kernel's command line and, behind `--`, the program's. Where the host is busy a guest of QEMU measures its TSC
    wrongly, so all kernels are told its frequency: half the host's BogoMIPS."""
    bogomips = re.search(r"^bogomips\s*: ([\d.]+)", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    khz = f" tsc_early_khz={int(float(bogomips[1]) * 500)}" if bogomips else ""
    return f"{CMDLINE}{khz} -- {words}"


def cpio_entry(name, mode, data, inode):
    """One file in the "newc" format (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)."""
    fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def initramfs(program, busybox):
    files = [("dev", 0o040755, b""), ("proc", 0o040755, b""), ("tmp", 0o041777, b""), ("bin", 0o040755, b""),
             ("init", 0o100755, program.read_bytes()), ("bin/busybox", 0o100755, busybox.read_bytes()),
             ("TRAILER!!!", 0, b"")]
    return b"".join(cpio_entry(name, mode, data, n + 1) for n, (name, mode, data) in enumerate(files))


class Mapping:
    """One line group of /proc/PID/smaps, in KiB."""

    def __init__(self, name):
        self.name = name
        self.size = self.rss = self.pss = 0


def mappings(pid):
    found = []
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text(errors="replace").splitlines():
        words = line.split()
        if re.match(r"^[0-9a-f]+-[0-9a-f]+$", words[0]):
            found.append(Mapping(words[5] if len(words) > 5 else ""))
        elif words[0] in ("Size:", "Rss:", "Pss:"):
            setattr(found[-1], words[0][:-1].lower(), int(words[1]))
    return found


def overhead_mib(pid, memory_mib):
    """What the machine's process holds beyond the guest's RAM: the mapping as large as the RAM is left out."""
    total = 0
    for m in mappings(pid):
        if m.size != memory_mib * 1024:
            total += m.pss
    return total / 1024


class Run:
    """What one run of the workload program gave."""

    def __init__(self):
        self.seconds = {}
        self.checks = {}
        self.cpu = {}  # CPU seconds of the whole process, from line to line
        self.guest_whole = self.outer_whole = self.boot = self.overhead = self.translation = None
        self.ended = False


def cpu_seconds(pid):
    """clock_getcpuclockid(3)'s clock of another process: ~pid in the high bits, CPUCLOCK_SCHED below."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return None  # it has just ended


def read_run(process, started, at_end):
    """Parse the program's lines as they come; the time of `begin` and `end` is taken here, outside."""
    run, begun = Run(), None
    noise, used = [], None
    for raw in process.stdout:
        now, before, used = time.monotonic(), used, cpu_seconds(process.pid)
        line = raw.decode(errors="replace").strip()
        if line.endswith("begin"):  # firmware leaves control sequences before it
            begun = now
            run.boot = now - started
        elif match := LINE.match(line):
            run.seconds[match[1]] = float(match[2])
            run.checks[match[1]] = match[3]
            if before is not None and used is not None:
                run.cpu[match[1]] = used - before
        elif match := END.match(line):
            run.guest_whole = float(match[1])
            run.outer_whole = now - begun if begun else None
            run.ended = True
            at_end(run)
        elif match := TRANSLATED.match(line):
            run.translation = f"translated {match[1]}"
        else:
            noise.append(line)
            if line.startswith("FAIL"):
                break
    if not run.ended:
        process.kill()
        raise Failed("; ".join(noise[-3:]) or "no output")
    return run


def execute(command, env=None, cpus=None, at_end=lambda pid, run: None):
    started = time.monotonic()
    pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
                          preexec_fn=pin) as process:
        timer = threading.Timer(GUEST_TIMEOUT_S, process.kill)
        timer.start()
        try:
            return read_run(process, started, lambda run: at_end(process.pid, run))
        finally:
            timer.cancel()


class Bench:
    def __init__(self, options, folder):
        self.options = options
        self.build = pathlib.Path(os.environ.get("BUILD") or "build").resolve()
        self.program = self.build / "bench/work/bench-work"
        self.kiln = self.build / "kiln"
        self.folder = pathlib.Path(folder)
        self.busybox = pathlib.Path(shutil.which("busybox") or "/bin/busybox")
        self.initrd = self.folder / "initrd"
        self.initrd.write_bytes(initramfs(self.program, self.busybox))

    def machine(self, engine, cpus, words, stats=False):
        """The command line of one machine. Counting (--stats) costs time: not where it is measured."""
        line, o = kernel_line(words), self.options
        if engine == "tcg":
            # la57=off: kiln offers four levels of page tables, and a fifth would only slow TCG down.
            return ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max,la57=off",
                    "-smp", str(cpus), "-m", str(o.memory), "-nographic", "-no-reboot",
                    "-kernel", str(o.kernel), "-initrd", str(self.initrd), "-append", line]
        return [str(self.kiln), "boot", *(["--stats"] if stats else []), "--engine", engine, "--cpus", str(cpus), "-m", f"{o.memory}m",
                "--kernel", str(o.kernel), "--initrd", str(self.initrd), "--cmdline", line]

    def run(self, engine, scale, two):
        words = f"--scale {scale}" + (" --two" if two else "")
        if self.options.only:
            words += f" --only {self.options.only}"
        if engine == "native":
            env = {**os.environ, "BUSYBOX": str(self.busybox), "TMPDIR": str(self.folder)}
            first = min(os.sched_getaffinity(0))
            return execute([str(self.program), *words.split()], env=env, cpus=None if two else {first})

        def count(pid, run):
            time.sleep(PAUSE_MS / 3000)
            run.overhead = overhead_mib(pid, self.options.memory)

        words += f" --pause {PAUSE_MS}"
        return execute(self.machine(engine, 2 if two else 1, words), at_end=count)

    def translation(self):
        """What translating costs: a small run of bt by itself."""
        words = f"--scale {INTERP_SCALE * self.options.scale}"
        if self.options.only:
            words += f" --only {self.options.only}"
        return execute(self.machine("bt", 1, words, stats=True)).translation

    def names(self, two):
        words = ["--list"] + (["--two"] if two else []) + (["--only", self.options.only] if self.options.only else [])
        out = subprocess.run([str(self.program), *words], capture_output=True, text=True, check=True).stdout
        return [line for line in out.split() if line not in ("begin", "end") and not line[0].isdigit()]


def measure(bench, results):
    o = bench.options
    kinds = [two for two in (False, True) if bench.names(two)]
    truth = {}
    for engine in o.engines:
        scale = INTERP_SCALE * o.scale if engine == "interp" else o.scale
        for two in kinds:
            truth.setdefault((scale, two), None)
    for scale, two in truth:  # a native run that fails ends the bench
        truth[scale, two] = bench.run("native", scale, two)
        results.add(key("native", scale, o), truth[scale, two], None)
    for n in range(o.runs):
        for engine in o.engines:
            slow = engine == "interp"
            if (slow and n > 0) or (engine == "native" and n == 0):
                continue  # interp is for scale only; the first native run gave the checks
            scale = INTERP_SCALE * o.scale if slow else o.scale
            for two in kinds:
                print(f"bench: {n + 1}/{o.runs} {engine}{' on 2 CPUs' if two else ''}", file=sys.stderr, flush=True)
                try:
                    results.add(key(engine, scale, o), bench.run(engine, scale, two), truth[scale, two])
                except Failed as e:
                    results.problems.append(f"{engine}: {e}")
    if "bt" in o.engines and bench.names(False):
        results.translation["bt"] = [bench.translation()]


def key(engine, scale, options):
    """interp's smaller runs, and the native ones they are compared with, are kept apart."""
    return engine if scale == options.scale or engine == "interp" else "native-small"


def boots(runs):
    """bench/boot.sh: {name: (seconds, CPU seconds)}"""
    env = {**os.environ, "ENGINES": "bt", "RUN": "0"}
    out = subprocess.run(["sh", str(HERE / "boot.sh"), str(runs)], capture_output=True, text=True, env=env, check=False)
    if out.returncode:
        raise Failed("boot.sh: " + (out.stderr.strip().splitlines() or ["failed"])[-1])
    return {m[1]: (float(m[2]), float(m[3])) for m in re.finditer(r"^(\S+) ([\d.]+) s, CPU ([\d.]+) s", out.stdout, re.M)}


def default_kernel():
    root = subprocess.run(["sh", "-c", ". tools/store-root.sh; echo $store"], capture_output=True, text=True,
                          cwd=HERE.parent, check=False).stdout.strip()
    for name in ("kiln", "debian"):
        kernel = pathlib.Path(root) / "kernels" / name / "vmlinux"
        if os.access(kernel, os.R_OK):
            return kernel
    return None


def parse():
    p = argparse.ArgumentParser(description="kiln's engines against QEMU's TCG, workload by workload")
    p.add_argument("--runs", type=int, help="3; with --quick 1")
    p.add_argument("--only", help="workloads, with commas between")
    p.add_argument("--engines", default="native,tcg,bt,interp", help="of native, tcg, bt, interp")
    p.add_argument("--quick", action="store_true", help="a tenth of the work, one run unless told otherwise, no boots")
    p.add_argument("--json", metavar="FILE", help="keep every figure there")
    p.add_argument("--kernel", type=pathlib.Path, help="a bzImage or vmlinux; kiln's or Debian's of the store by default")
    p.add_argument("--memory", type=int, default=512, help="the guest's, in MiB")
    p.add_argument("--no-boot", action="store_true", help="without the cold boots")
    o = p.parse_args()
    o.engines = [e for e in o.engines.split(",") if e]
    unknown = [e for e in o.engines if e not in ("native",) + VM_ENGINES]
    o.runs = (1 if o.quick else 3) if o.runs is None else o.runs
    if unknown or o.runs < 1:
        p.error(f"no such engine: {', '.join(unknown)}" if unknown else "--runs: at least 1")
    o.scale = QUICK_SCALE if o.quick else 1.0
    return o


def main():
    o = parse()
    if "tcg" in o.engines and not shutil.which("qemu-system-x86_64"):
        print("bench: qemu-system-x86_64 is not installed (apt-get install qemu-system-x86): TCG is left out")
        o.engines.remove("tcg")
    o.kernel = o.kernel or default_kernel()
    if not o.kernel and set(o.engines) & set(VM_ENGINES):
        print("bench: there is no guest kernel: make kernel-debian fetches one")
        return 0
    results, times = Results(), {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(o, folder)
        names = [n for two in (False, True) for n in bench.names(two)]
        started = time.monotonic()
        try:
            measure(bench, results)
            if not (o.no_boot or o.quick or o.only):
                times = boots(o.runs)
        except Failed as e:
            results.problems.append(str(e))
        except KeyboardInterrupt:
            results.problems.append("interrupted: the figures are those of the runs until then")
    rows = [row(results, n) for n in names]
    print(table(rows))
    print(summary(results))
    if times:
        print(boots_table(times))
    print(targets(rows, results, times))
    print(f"{time.monotonic() - started:.0f} s in all, runs: {o.runs}, kernel: {o.kernel}")
    for problem in results.problems:
        print(f"PROBLEM {problem}")
    if o.json:
        pathlib.Path(o.json).write_text(json.dumps({"rows": rows, "seconds": results.seconds, "cpu_seconds": results.cpu,
            "boots": times,
            "overhead_mib": results.overhead, "clock": results.clock, "problems": results.problems}, indent=1) + "\n")
    return 1 if results.problems else 0


if __name__ == "__main__":
    sys.exit(main())
