#!/usr/bin/env python3
"""The network bench: one tap, one kernel, one initramfs; iperf3 and ping against kiln's card and QEMU TCG's, in turns.

usage: net.py [--runs N] [--seconds N] [--engines bt,tcg,...] [--machine microvm|q35] [--json FILE] [--kernel FILE]
              [--memory MIB] [--cpus N]

A tap in a network namespace of the bench's own; the host's end runs the iperf3 client, the guest the server. `to` is host to guest,
`from` guest to host (-R), Gbit/s as the receiver counts; `ping` the median round trip, ms, and `fast` that of a ping every
2 ms. Runs are interleaved (bt, tcg, bt, ...), a figure is the median. Exit status: 0, or 1 when a machine failed.

environment: BUILD      the build folder (build)
             KILN_ROOT  the store with the guest kernels
"""
import argparse
import ctypes
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
CLONE_NEWNET = 0x40000000
TAP, HOST, GUEST = "kilnbench0", "10.93.0.1", "10.93.0.2"
WORDS = "console=ttyS0 panic=-1 reboot=t quiet cryptomgr.notests mitigations=off tsc=reliable"
BOOT_S = 120
INIT = f"""#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ip link set lo up
ip addr add {GUEST}/24 dev eth0
ip link set eth0 up
while true; do iperf3 -s; done
"""


class Failed(Exception):
    pass


def libraries(program):
    out = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", out)


def cpio(files):
    """An initramfs in the newc format: (name, mode, bytes)."""
    out = b""
    for inode, (name, mode, data) in enumerate(files + [("TRAILER!!!", 0, b"")], 1):
        rdev = (5, 1) if mode & 0o170000 == 0o020000 else (0, 0)
        fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name) + 1, 0]
        entry = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        out += entry + b"\0" * (-len(entry) % 4) + data + b"\0" * (-len(data) % 4)
    return out


def initramfs():
    iperf3, busybox = shutil.which("iperf3"), shutil.which("busybox")
    files = {"init": INIT.encode(), "bin/busybox": pathlib.Path(busybox).read_bytes(),
             "bin/iperf3": pathlib.Path(iperf3).read_bytes()}
    for path in libraries(iperf3):
        files[path[1:]] = pathlib.Path(path).read_bytes()
    folders = {"dev", "proc", "sys", "tmp"}
    for name in files:
        folders |= {str(p) for p in pathlib.PurePath(name).parents if str(p) != "."}
    return cpio([(d, 0o040755, b"") for d in sorted(folders)] + [("dev/console", 0o020600, b"")] +
                [(n, 0o100755, data) for n, data in files.items()] +
                [("bin/" + t, 0o120777, b"busybox") for t in ("sh", "mount", "ip")])


class Bench:
    def __init__(self, o, folder):
        self.o = o
        self.initrd = pathlib.Path(folder) / "initrd"
        self.initrd.write_bytes(initramfs())
        self.kiln = pathlib.Path(os.environ.get("BUILD") or SOURCE / "build").resolve() / "kiln"

    def command(self, engine):
        o = self.o
        bogomips = re.search(r"^bogomips\s*: ([\d.]+)", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
        khz = f" tsc_early_khz={int(float(bogomips[1]) * 500)}" if bogomips else ""
        common = ["-m", f"{o.memory}M" if engine == "tcg" else f"{o.memory}m"]
        if engine != "tcg":
            return [str(self.kiln), "boot", "--engine", engine, "--cpus", str(o.cpus), *common, "--console", "none",
                    "--kernel", o.kernel, "--initrd", str(self.initrd), "--cmdline", WORDS + khz, "--net", f"tap:{TAP}"]
        card = "virtio-net-device" if o.machine == "microvm" else "virtio-net-pci"
        machine = "microvm,acpi=on,pit=on,pic=on,rtc=on" if o.machine == "microvm" else o.machine
        return ["qemu-system-x86_64", "-M", machine, "-accel", "tcg", "-cpu", "max,la57=off", "-smp", str(o.cpus), *common,
                "-nographic", "-serial", "none", "-monitor", "none", "-no-reboot", "-kernel", o.kernel, "-initrd", str(self.initrd),
                "-append", WORDS + khz, "-netdev", f"tap,id=n,ifname={TAP},script=no,downscript=no,vhost=off",
                "-device", f"{card},netdev=n"]

    def wait(self, machine):
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            if machine.poll() is not None:
                raise Failed(f"the machine ended with status {machine.returncode}")
            if subprocess.run(["ping", "-c", "1", "-W", "1", GUEST], stdout=subprocess.DEVNULL, check=False).returncode == 0:
                time.sleep(1)  # it will listen by then; iperf() asks again if it does not
                return
        raise Failed("the guest did not come up")

    def iperf(self, *words):
        for _ in range(10):
            done = self.run_iperf(*words)
            if "onnection re" not in done.stdout:
                break
            time.sleep(1)
        try:
            return json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 1e9
        except (KeyError, ValueError):
            raise Failed(f"iperf3: {done.stdout[-300:]} {done.stderr[-300:]}") from None

    def run_iperf(self, *words):
        return subprocess.run(["iperf3", "-c", GUEST, "-J", "-t", str(self.o.seconds), "-O", "1", *words],
                              capture_output=True, text=True, timeout=self.o.seconds + 60, check=False)

    def ping(self, interval, count):
        done = subprocess.run(["ping", "-n", "-i", str(interval), "-c", str(count), GUEST], capture_output=True, text=True,
                              timeout=60, check=False)
        times = [float(t) for t in re.findall(r"time=([\d.]+) ms", done.stdout)]
        if not times:
            raise Failed(f"ping: {done.stdout[-300:]}")
        return statistics.median(times)

    def measure(self, engine):
        machine = subprocess.Popen(self.command(engine), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            self.wait(machine)
            return {"to": self.iperf(), "from": self.iperf("-R"), "ping": self.ping(0.05, 60), "fast": self.ping(0.002, 500)}
        finally:
            machine.kill()
            machine.wait()


def default_kernel():
    root = pathlib.Path(os.environ.get("KILN_ROOT") or "/var/lib/kiln")
    return str(root / "kernels" / "kiln" / "vmlinux")


def options():
    p = argparse.ArgumentParser(usage=__doc__.split("usage: ", 1)[1].split("\n\n", 1)[0])
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--seconds", type=int, default=5)
    p.add_argument("--engines", type=lambda t: t.split(","), default=["bt", "tcg"])
    p.add_argument("--machine", default="microvm", choices=["microvm", "q35"])
    p.add_argument("--kernel", default=default_kernel())
    p.add_argument("--memory", type=int, default=512)
    p.add_argument("--cpus", type=int, default=1)
    p.add_argument("--json")
    return p.parse_args()


def prepare():
    """None, or why nothing can be measured here."""
    for tool in ("iperf3", "busybox", "ping", "ip"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return f"a network namespace: {os.strerror(ctypes.get_errno())}"
    for words in (["link", "set", "lo", "up"], ["tuntap", "add", TAP, "mode", "tap", "vnet_hdr"],
                  ["addr", "add", f"{HOST}/24", "dev", TAP], ["link", "set", TAP, "up"]):
        if subprocess.run(["ip", *words], check=False).returncode != 0:
            return "no tap can be made"
    return None


def report(results, engines):
    print(f"\n{'':8}{'to guest':>12}{'from guest':>12}{'ping':>10}{'fast ping':>11}    Gbit/s, Gbit/s, ms, ms")
    medians = {e: {k: statistics.median(r[k] for r in results[e]) for k in results[e][0]} for e in engines if results[e]}
    for e, m in medians.items():
        print(f"{e:8}{m['to']:12.2f}{m['from']:12.2f}{m['ping']:10.3f}{m['fast']:11.3f}")
    if "tcg" in medians:
        for e, m in medians.items():
            if e != "tcg":
                t = medians["tcg"]
                print(f"{e}/tcg{m['to'] / t['to']:>{14 - len(e)}.2f}{m['from'] / t['from']:12.2f}"
                      f"{m['ping'] / t['ping']:10.2f}{m['fast'] / t['fast']:11.2f}")
    return medians


def main():
    o = options()
    why = prepare()
    if why or not os.path.exists(o.kernel):
        print(f"bench: nothing to measure: {why or o.kernel + ' is missing (make kernel)'}")
        return 0
    if "tcg" in o.engines and not shutil.which("qemu-system-x86_64"):
        print("bench: qemu-system-x86_64 is not installed: TCG is left out")
        o.engines.remove("tcg")
    results = {e: [] for e in o.engines}
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(o, folder)
        for run in range(o.runs):
            for e in o.engines:
                try:
                    r = bench.measure(e)
                except (Failed, subprocess.TimeoutExpired) as why:
                    print(f"{e}: {why}")
                    failed = True
                    continue
                results[e].append(r)
                print(f"run {run + 1} {e:6}" + "".join(f" {k} {v:.3f}" for k, v in r.items()) +
                      f"   (load {os.getloadavg()[0]:.1f})", flush=True)
    medians = report(results, o.engines)
    if o.json:
        pathlib.Path(o.json).write_text(json.dumps({"runs": results, "medians": medians}, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
