#!/usr/bin/env python3
"""Programs that are hard on a machine: precise faults, code that is written while it runs, debuggers, threads, address
spaces that change all the time. The same static program runs natively, and as PID 1 of both kernels on the engines.

environment: as t_linux.py, and
             KILN_USER    the static program (build/test/linux/user)
             KILN_USER32  its 32-bit sister (build/test/linux/user32)
"""
import os
import pathlib
import subprocess
import sys

import t_linux
from t_linux import kernel

USER = os.environ.get("KILN_USER") or str(t_linux.SOURCE / "build" / "test" / "linux" / "user")
USER32 = os.environ.get("KILN_USER32") or str(t_linux.SOURCE / "build" / "test" / "linux" / "user32")
NATIVE_LIMIT = 120  # seconds


class World(t_linux.World):
    def __init__(self):
        super().__init__()
        self.initrd.write_bytes(t_linux.cpio([("dev", 0o040755, b""), ("dev/console", 0o020600, b""),
                                              ("init", 0o100755, pathlib.Path(USER).read_bytes()),
                                              ("user32", 0o100755, pathlib.Path(USER32).read_bytes())]))


def assert_all_good(text, ends=("\nall done", "32 bits: all done")):
    lines = [line for line in text.splitlines() if line.startswith(("good: ", "failed: "))]
    bad = [line for line in lines if line.startswith("failed: ")]
    assert not bad, "\n".join(bad)
    for word in ends:
        assert word in text, f"'{word}' is not in {text[-3000:]}"
    for trouble in ("BUG:", "Oops", "Call Trace", "soft lockup", "rcu_sched self-detected"):
        assert trouble not in text, f"the kernel complains: {text[text.index(trouble) - 500:][:2500]}"


def natively(program):
    return subprocess.run([program], capture_output=True, timeout=NATIVE_LIMIT, check=False, stdin=subprocess.DEVNULL)


def test_natively(w):
    assert_all_good(natively(USER).stdout.decode(errors="replace"), ["\nall done"])


def test_natively_in_32_bits(w):
    try:
        assert_all_good(natively(USER32).stdout.decode(errors="replace"), ["32 bits: all done"])
    except OSError as reason:
        raise t_linux.Skip(f"the host runs no 32-bit programs: {reason}") from reason


def test_kilns_kernel_on_bt(w):
    assert_all_good(w.boot(kernel("kiln", "vmlinux"), engine="bt"))


def test_kilns_kernel_on_bt_with_2_cpus(w):
    assert_all_good(w.boot(kernel("kiln", "vmlinux"), engine="bt", cpus=2))


def test_debians_kernel_on_bt_with_2_cpus(w):
    assert_all_good(w.boot(kernel("debian", "vmlinuz"), engine="bt", cpus=2))


def test_kilns_kernel_on_interp(w):
    assert_all_good(w.boot(kernel("kiln", "vmlinux"), engine="interp"))


if __name__ == "__main__":
    sys.exit(t_linux.main(World, globals()))
