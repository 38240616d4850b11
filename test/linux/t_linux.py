#!/usr/bin/env python3
"""The linux suite: unmodified kernels come up in `kiln boot` and reach user space, engine by engine.

Functions named test_* run in order and are reported one a line, in cmocka's words, so that tools/check.py
counts them. Exit status 77 with a sentence: nothing could be run here.

environment: KILN       the program (build/kiln)
             KILN_INIT  the static program that becomes PID 1 (build/test/linux/init)
             KILN_ROOT  the store whose kernels/debian and kernels/kiln are booted
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import traceback

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
KILN = os.environ.get("KILN") or str(SOURCE / "build" / "kiln")
INIT = os.environ.get("KILN_INIT") or str(SOURCE / "build" / "test" / "linux" / "init")
LIMIT = 240  # seconds for one boot: the host may be busy, the interpreter is not fast
KVM_LIMIT = 400  # a KVM that emulates ring 0 needs half a minute on an idle host
# Words that only such a KVM needs: instructions its emulator lacks.
KVM_WORDS = "noxsave clearcpuid=308,151"
WORDS = "console=ttyS0 panic=-1 cryptomgr.notests"


class Skip(Exception):
    pass


def store():
    if os.environ.get("KILN_ROOT"):
        return pathlib.Path(os.environ["KILN_ROOT"])
    if os.geteuid() == 0:
        return pathlib.Path("/var/lib/kiln")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return pathlib.Path(data) / "kiln"


def kernel(name, file):
    path = store() / "kernels" / name / file
    if not path.exists():
        how = "make kernel" if name == "kiln" else "make kernel-debian"
        raise Skip(f"no {path} ({how})")
    return str(path)


def cpio(files):
    """An initramfs in the newc format: (name, mode, bytes)."""
    out = b""
    for inode, (name, mode, data) in enumerate(files + [("TRAILER!!!", 0, b"")], 1):
        # /dev/console, 5:1: where the kernel opens PID 1's streams.
        rdev = (5, 1) if mode & 0o170000 == 0o020000 else (0, 0)
        fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name) + 1, 0]
        entry = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        out += entry + b"\0" * (-len(entry) % 4) + data + b"\0" * (-len(data) % 4)
    return out


class World:
    def __init__(self):
        if not os.access(KILN, os.X_OK):
            raise Skip(f"{KILN} is not built")
        if not (store() / "kernels").exists():
            raise Skip("no guest kernel (make kernel-debian, make kernel)")
        self.folder = tempfile.TemporaryDirectory(prefix="kiln-linux-")
        self.initrd = pathlib.Path(self.folder.name) / "initrd"
        init = pathlib.Path(INIT).read_bytes()
        self.initrd.write_bytes(cpio([("dev", 0o040755, b""), ("dev/console", 0o020600, b""),
                                      ("init", 0o100755, init)]))

    def command(self, image, engine, cpus, words):
        return [KILN, "boot", "--engine", engine, "--kernel", image, "--initrd", str(self.initrd),
                "--cpus", str(cpus), "-m", "512m", "--cmdline", f"{WORDS} {words}"]

    def boot(self, image, engine="interp", cpus=1, words="", says=b"hello\n", flags=()):
        """Boot to the end. The kernel's log and what init said."""
        done = subprocess.run(self.command(image, engine, cpus, words) + [*flags], input=says, capture_output=True,
                              timeout=LIMIT, check=False)
        log = done.stdout.decode(errors="replace").replace("\r", "")
        assert done.returncode == 0, f"status {done.returncode}: {done.stderr!r}\n{log[-2000:]}"
        self.said = done.stderr.decode(errors="replace")
        return log

    def close(self):
        self.folder.cleanup()


def assert_user_space(log, cpus):
    want = f"user space: {cpus} cpus, all run, time passes, year {time.gmtime().tm_year}"
    assert want in log, f"'{want}' is not in\n{log[-3000:]}"
    assert "heard: hello" in log, log[-1000:]
    for bad in ("Call Trace", "BUG:", "Oops", "unchecked MSR access", "ACPI Error", "ACPI BIOS Error"):
        assert bad not in log, f"the kernel complains: {log[log.index(bad) - 500:][:2500]}"


def test_debian_bzimage_reaches_user_space_on_interp(w):
    assert_user_space(w.boot(kernel("debian", "vmlinuz")), 1)


def test_debian_vmlinux_by_its_pvh_entry_on_interp_with_2_cpus(w):
    log = w.boot(kernel("debian", "vmlinux"), cpus=2)
    assert "Booting paravirtualized kernel on KVM" in log, log[:3000]
    assert_user_space(log, 2)


def test_kilns_kernel_reaches_user_space_on_interp(w):
    assert_user_space(w.boot(kernel("kiln", "vmlinux")), 1)


def test_kilns_kernel_brings_up_2_and_8_cpus_on_interp(w):
    for cpus in (2, 8):
        assert_user_space(w.boot(kernel("kiln", "vmlinux"), cpus=cpus), cpus)


def test_a_code_cache_that_holds_little_is_flushed_and_boots_on_bt(w):
    """Both vCPUs run into it: the world stops for each flush."""
    for cpus in (1, 2):
        log = w.boot(kernel("kiln", "vmlinux"), "bt", cpus, flags=["--code-cache", "1m", "--stats"])
        assert_user_space(log, cpus)
        assert re.search(r"^code cache +flushed [1-9]\d* times$", w.said, re.M), w.said


def test_stats_tell_what_the_translator_did(w):
    w.boot(kernel("kiln", "vmlinux"), "bt", flags=["--stats"])
    for line in (r"engine +bt, 1 CPU", r"instructions +\d{7,}", r"translated +\d{4,} blocks, \d+ KiB to \d+ KiB, in [\d.]+ ms",
                 r"code cache +flushed \d+ times", r"TLB +\d+ misses, \d+ page walks, \d+ flushes",
                 r"exits .*mmio \d+, pio \d+.*", r"events +interrupts \d+, exceptions \d+:.*#PF \d+.*",
                 r"interpreted +\d+ \([\d.]+ % of all\); .*", r" +\d+ +[\d.]+ %  out"):
        assert re.search(f"^{line}$", w.said, re.M), f"'{line}' is not in\n{w.said}"


def test_a_perf_map_names_what_lies_in_the_code_cache(w):
    command = w.command(kernel("kiln", "vmlinux"), "bt", 1, "") + ["--perf-map"]
    # Files in the way, for the processes to come: links that would have led elsewhere.
    precious = pathlib.Path(w.folder.name) / "precious"
    precious.write_text("mine")
    script = f'for i in 0 1 2 3 4 5 6 7; do ln -s {precious} /tmp/perf-$(($$ + i)).map; done; exec "$@"'
    with subprocess.Popen(["sh", "-c", script, "sh", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as vm:
        machine = vm.pid
        try:
            log = b""
            while b"user space: " not in log:
                part = vm.stdout.read1()
                assert part, log[-2000:]
                log += part
            while children := pathlib.Path(f"/proc/{machine}/task/{machine}/children").read_text().split():
                machine = int(children[0])
            path = pathlib.Path(f"/tmp/perf-{machine}.map")
            maps = pathlib.Path(f"/proc/{machine}/maps").read_text()
            vm.communicate(b"hello\n", timeout=LIMIT)
            text, mode = path.read_text(), path.lstat().st_mode
        finally:
            vm.kill()
            for i in {*range(vm.pid, vm.pid + 8), machine}:
                pathlib.Path(f"/tmp/perf-{i}.map").unlink(missing_ok=True)
    assert mode == 0o100600, oct(mode)
    assert precious.read_text() == "mine"
    found = re.findall(r"^(\w+)-(\w+) r-xs .*/dev/zero", maps, re.M)
    assert len(found) == 1, maps
    low, high = (int(x, 16) for x in found[0])
    at, names = low, set()
    for line in text.splitlines():
        entry = re.fullmatch(r"([0-9a-f]+) ([0-9a-f]+) (guest_[ku]_[0-9a-f]{1,16}|kiln_bt_stubs)", line)
        assert entry, line
        assert int(entry[1], 16) >= at, line  # in order, none over another
        at = int(entry[1], 16) + int(entry[2], 16)
        names.add(entry[3])
    assert at <= high
    assert len(names) > 1000, names
    for part in ("guest_k_ffffffff8", "guest_u_"):
        assert any(n.startswith(part) for n in names), part


def test_bt_and_interp_agree_on_a_whole_boot_of_kilns_kernel(w):
    """Block by block, until init has done its work: some 13 million blocks."""
    command = w.command(kernel("kiln", "vmlinux"), "bt", 1, "") + ["--lockstep", "--stats"]
    for flag in ("--engine", "--cpus"):
        del command[command.index(flag):command.index(flag) + 2]
    done = subprocess.run(command, input=b"hello\n", capture_output=True, timeout=LIMIT, check=False)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said
    assert_user_space(done.stdout.decode(errors="replace").replace("\r", ""), 1)
    agreed = re.search(r"^lockstep +(\d+) blocks agreed, (\d+) not compared$", said, re.M)
    assert agreed and int(agreed[1]) > 5000000 and int(agreed[2]) < int(agreed[1]) / 10, said


def test_a_reboot_ends_the_machine(w):
    w.boot(kernel("kiln", "vmlinux"), words="-- reboot")


def test_memory_sizes_are_seen(w):
    image = kernel("kiln", "vmlinux")
    command = w.command(image, "interp", 1, "")
    command[command.index("512m")] = "96m"
    log = subprocess.run(command, input=b"x\n", capture_output=True, timeout=LIMIT, check=True).stdout.decode()
    found = re.search(r"Memory: \d+K/(\d+)K available", log)
    assert found and 90 << 10 < int(found[1]) < 96 << 10, log[:3000]


def test_kilns_kernel_reaches_run_init_on_kvm(w):
    image = kernel("kiln", "vmlinux")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Skip("no access to /dev/kvm")
    command = w.command(image, "kvm", 1, KVM_WORDS)
    command[command.index("512m")] = "96m"  # less to initialize
    end = time.monotonic() + KVM_LIMIT
    log = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as vm:
        os.set_blocking(vm.stdout.fileno(), False)
        while time.monotonic() < end and b"Run /init" not in log and vm.poll() is None:
            log += vm.stdout.read() or b""
            time.sleep(0.1)
        vm.kill()
    assert b"Run /init" in log, log[-3000:].decode(errors="replace")


def main(world_type, namespace):
    wanted = sys.argv[1:]
    failed = skipped = ran = 0
    world = None
    try:
        world = world_type()
        for name, function in [(n, f) for n, f in namespace.items() if n.startswith("test_")]:
            if wanted and name not in wanted:
                continue
            print(f"[ RUN      ] {name}", flush=True)
            started = time.monotonic()
            ran += 1
            try:
                function(world)
                print(f"[       OK ] {name} ({time.monotonic() - started:.1f} s)", flush=True)
            except Skip as reason:
                skipped += 1
                print(f"[  SKIPPED ] {name}\n{reason}", flush=True)
            except Exception:  # noqa: any failure is the test's, and the next one runs
                failed += 1
                traceback.print_exc(file=sys.stdout)
                print(f"[  FAILED  ] {name}", flush=True)
    except Skip as reason:
        print(f"skipped: {reason}")
        return 77
    finally:
        if world:
            world.close()
    if failed:
        return 1
    return 77 if ran == skipped else 0


if __name__ == "__main__":
    sys.exit(main(World, globals()))
