"""Machines that are saved, go on elsewhere, and are copied while they run.

The machines run probe.c as PID 1, which computes, keeps memory, reads a disk, and tells over vsock."""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

from e2e import ENGINE, KILN, LIMIT, Skip, main, same, says, status, wait_for

PROBE = os.environ.get("KILN_PROBE") or str(pathlib.Path(KILN).parent / "test" / "e2e" / "probe")
WORDS = "console=ttyS0 panic=-1 quiet cryptomgr.notests"
OTHER = "bt" if ENGINE == "interp" else "interp"


def cpio(files):
    """An initramfs in the newc format: (name, mode, bytes)."""
    out = b""
    for inode, (name, mode, data) in enumerate(files + [("TRAILER!!!", 0, b"")], 1):
        rdev = (5, 1) if mode & 0o170000 == 0o020000 else (0, 0)
        fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name) + 1, 0]
        entry = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        out += entry + b"\0" * (-len(entry) % 4) + data + b"\0" * (-len(data) % 4)
    return out


def prepare(w):
    kernel = pathlib.Path(w.kernel)
    w.vmlinux = str(kernel / "vmlinux" if kernel.is_dir() else kernel)
    if kernel.name == "debian" or not os.path.exists(w.vmlinux):
        raise Skip("the probe wants a kernel with vsock built in (make kernel)")
    w.initrd = str(w.folder / "initrd")
    pathlib.Path(w.initrd).write_bytes(cpio([("dev", 0o040755, b""), ("dev/console", 0o020600, b""),
                                             ("init", 0o100755, pathlib.Path(PROBE).read_bytes())]))
    w.snapshots = w.folder / "store" / "snapshots"


def ask(vsock, line):
    """One question, one answer. A machine that only begins is asked again."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(LIMIT)
                s.connect(str(vsock))
                s.sendall(b"CONNECT 5000\n")
                f = s.makefile("rb")
                if f.readline().startswith(b"OK"):
                    s.sendall(line.encode() + b"\n")
                    answer = f.readline().decode().strip()
                    if answer:
                        return answer
        except OSError:
            pass
        time.sleep(0.01)
    raise AssertionError(f"no answer to '{line}' from {vsock}")


def state(vsock):
    """(counter, monotonic ns, random number) of a machine that computed right."""
    got = re.fullmatch(r"counter (\d+) right mono (\d+) wall \d+ random (\w+)", ask(vsock, "state"))
    assert got, ask(vsock, "state")
    return int(got[1]), int(got[2]), got[3]


class Boot:
    """A machine in the foreground of a kiln boot."""

    def __init__(self, w, name="m", ram="128m", engine=ENGINE, flags=()):
        self.vsock = w.folder / f"vsock-{name}"
        self.process = subprocess.Popen(
            [KILN, "boot", "--engine", engine, "--kernel", w.vmlinux, "--initrd", w.initrd, "-m", ram, "--cmdline",
             WORDS, "--name", name, "--vsock", str(self.vsock), *flags], env=w.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE)
        for line in self.process.stdout:
            if b"probe listens" in line:
                return
        raise AssertionError("the machine did not come up")

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(LIMIT)
        self.process.stdout.close()


def vsock_of(w, machine):
    return w.run_folder / "kiln" / machine / "vsock"


def good(done):
    status(done, 0)
    return done.stdout.decode().strip()


def restored(w, *words):
    """A machine in the background; its id."""
    return good(w.kiln("restore", "--detach", *words))


def stop(w, *machines):
    good(w.kiln("stop", *machines))


def test_a_saved_machine_goes_on(w):
    m = Boot(w)
    kept = ask(m.vsock, "touch 5")
    before = state(m.vsock)
    text = good(w.kiln("snapshot", "create", "m", "one"))
    assert "stood for" in text, text
    after = state(m.vsock)
    assert after[0] >= before[0] and after[1] > before[1], (before, after)
    m.end()
    seen = set()
    for engine in (ENGINE, OTHER, ENGINE):
        machine = restored(w, "--engine", engine, "one")
        got = state(vsock_of(w, machine))
        assert got[0] >= before[0] and got[1] > before[1], (before, got)
        same(ask(vsock_of(w, machine), "check"), kept)
        later = state(vsock_of(w, machine))
        assert later[1] > got[1], (got, later)
        seen |= {got[2], later[2]}
        stop(w, machine)
    same(len(seen), 6)  # no random number comes twice
    good(w.kiln("snapshot", "rm", "one"))


def test_a_machine_saved_and_stopped_goes_on_in_the_foreground(w):
    m = Boot(w)
    before = state(m.vsock)
    good(w.kiln("snapshot", "create", "m", "one", "--stop", "--compress"))
    m.process.wait(LIMIT)
    m.end()
    vsock = w.folder / "again"
    p = subprocess.Popen([KILN, "restore", "--engine", ENGINE, "--name", "m", "--vsock", str(vsock), "--verify", "one"],
                         env=w.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    got = state(vsock)
    assert got[0] >= before[0] and got[1] > before[1], (before, got)
    same(good(w.kiln("ps", "--format", "{{.Names}}")).split(), ["m"])
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(vsock))
            s.sendall(b"CONNECT 5000\n")
            s.makefile("rb").readline()
            s.sendall(b"quit\n")
            same(p.wait(LIMIT), 0)  # powered off from inside
    finally:
        p.kill()
    good(w.kiln("snapshot", "rm", "one"))


def test_a_chain_of_diffs_goes_on(w):
    m = Boot(w)
    ask(m.vsock, "touch 8")
    good(w.kiln("snapshot", "create", "m", "one"))
    kept = ask(m.vsock, "touch 1")
    good(w.kiln("snapshot", "create", "m", "two", "--diff-of", "one"))
    before = state(m.vsock)
    good(w.kiln("snapshot", "create", "m", "three", "--diff-of", "two"))
    says(w.kiln("snapshot", "create", "m", "four", "--diff-of", "one"), "another snapshot")
    m.end()
    pages = {n: json.loads(good(w.kiln("snapshot", "inspect", n)))["pages"] for n in ("one", "two", "three")}
    assert pages["one"] > 2048 > pages["two"] >= 256 and pages["three"] < 2048, pages
    good(w.kiln("snapshot", "verify", "three"))
    machine = restored(w, "--engine", ENGINE, "three")
    got = state(vsock_of(w, machine))
    assert got[0] >= before[0], (before, got)
    same(ask(vsock_of(w, machine), "check"), kept)
    # The restored machine knows what it changed since.
    good(w.kiln("snapshot", "create", machine, "side", "--diff-of", "three", "--stop"))
    machine = restored(w, "--engine", OTHER, "side")
    same(ask(vsock_of(w, machine), "check"), kept)
    stop(w, machine)
    says(w.kiln("snapshot", "rm", "two"), "three", "remove that first")
    for name in ("side", "three", "two", "one"):
        good(w.kiln("snapshot", "rm", name))
    same(list(w.snapshots.iterdir()), [])


def test_memory_is_read_as_it_is_touched(w):
    """From a compressed snapshot and a plain diff on it; a snapshot and forks made at once have all of it."""
    m = Boot(w)
    ask(m.vsock, "touch 8")
    good(w.kiln("snapshot", "create", "m", "one", "--compress"))
    kept = ask(m.vsock, "touch 2")
    before = state(m.vsock)
    good(w.kiln("snapshot", "create", "m", "two", "--diff-of", "one"))
    m.end()
    first = w.kiln("restore", "--detach", "--lazy", "--engine", ENGINE, "two")
    if b"wants root" in first.stderr:
        raise Skip("userfaultfd needs root here")
    machine = good(first)
    good(w.kiln("snapshot", "create", machine, "three", "--compress"))
    copies = good(w.kiln("fork", machine, "-n", "2")).split()
    for which in (machine, *copies):
        got = state(vsock_of(w, which))
        assert got[0] >= before[0], (before, got)
        same(ask(vsock_of(w, which), "check"), kept)
    stop(w, machine, *copies)
    machine = restored(w, "--lazy", "--engine", OTHER, "three")
    same(ask(vsock_of(w, machine), "check"), kept)
    stop(w, machine)
    for name in ("three", "two", "one"):
        good(w.kiln("snapshot", "rm", name))


def test_damage_that_is_found_later_ends_the_machine(w):
    m = Boot(w)
    good(w.kiln("snapshot", "create", "m", "one", "--compress", "--stop"))
    m.process.wait(LIMIT)
    m.end()
    memory = w.snapshots / "one" / "memory.zst"
    with open(memory, "r+b") as f:
        f.seek(memory.stat().st_size // 2)
        f.write(bytes(64))
    done = w.kiln("restore", "--lazy", "--console", "none", "--timeout", "60", "one")
    if b"wants root" in done.stderr:
        raise Skip("userfaultfd needs root here")
    status(done, 125)
    says(done, "damaged")
    good(w.kiln("snapshot", "rm", "one"))


def test_a_machine_is_forked_while_it_runs(w):
    m = Boot(w)
    kept = ask(m.vsock, "touch 5")
    before = state(m.vsock)
    made = json.loads(good(w.kiln("fork", "m", "-n", "5", "--name-prefix", "f", "--format", "json")))
    machines = sorted(made["machines"], key=lambda x: x["name"])  # they come as they got ready
    same([x["name"] for x in machines], [f"f-{i}" for i in range(1, 6)])
    states = [state(x["vsock"]) for x in machines] + [state(m.vsock)]
    assert all(s[0] >= before[0] and s[1] > before[1] for s in states), (before, states)
    same(len({s[2] for s in states}), 6)
    for x in machines:
        same(ask(x["vsock"], "check"), kept)
    # One that writes is seen by none of the others; a fork can be forked, and outlives its parent.
    changed = ask(machines[0]["vsock"], "touch 5")
    assert changed != kept
    [second] = json.loads(good(w.kiln("fork", "f-1", "--format", "json")))["machines"]
    same(ask(second["vsock"], "check"), changed)
    same(ask(m.vsock, "check"), kept)
    m.end()
    same(ask(machines[1]["vsock"], "check"), kept)
    good(w.kiln("snapshot", "create", "f-2", "one"))
    machine = restored(w, "--engine", ENGINE, "one")
    same(ask(vsock_of(w, machine), "check"), kept)
    listed = good(w.kiln("ps", "-q")).split()
    same(len(listed), 7)
    stop(w, *listed)
    good(w.kiln("snapshot", "rm", "one"))


def test_writable_disks_are_part_of_it(w):
    disk = w.folder / "disk.img"
    with open(disk, "wb") as f:
        f.write(b"first\n")
        f.truncate(1 << 20)
    m = Boot(w, flags=("--disk", str(disk)))
    same(ask(m.vsock, "read"), "first")
    same(ask(m.vsock, "disk saved"), "written")
    good(w.kiln("snapshot", "create", "m", "one"))
    same(ask(m.vsock, "disk later"), "written")
    [f] = json.loads(good(w.kiln("fork", "m", "--format", "json")))["machines"]
    same(ask(f["vsock"], "read"), "later")
    same(ask(f["vsock"], "disk forked"), "written")
    same(ask(m.vsock, "read"), "later")
    a, b = restored(w, "one"), restored(w, "one")
    same(ask(vsock_of(w, a), "disk restored"), "written")
    same(ask(vsock_of(w, b), "read"), "saved")
    stop(w, a, b, f["id"])
    m.end()
    same(disk.read_bytes()[:6], b"later\n")
    same((w.snapshots / "one" / "disk0").read_bytes()[:6], b"saved\n")
    good(w.kiln("snapshot", "rm", "one"))


def test_a_container_is_saved_while_it_runs(w):
    p = w.start("sh", "-c", "echo ready; read x; echo $x", flags=("-i", "--name", "box"))
    same(p.stdout.readline(), b"ready\n")
    good(w.kiln("snapshot", "create", "box", "one"))
    p.stdin.write(b"on it goes\n")
    p.stdin.close()
    same(p.stdout.read(), b"on it goes\n")
    same(p.wait(LIMIT), 0)
    p.stdout.close()
    p.stderr.close()
    machine = restored(w, "--name", "box", "one")
    assert machine in good(w.kiln("ps"))
    stop(w, "box")
    good(w.kiln("snapshot", "rm", "one"))


def test_fifty_copies_of_a_container_are_told_apart(w):
    shared = w.folder / "shared"
    shared.mkdir()
    script = ("while :; do name=$(hostname); test -e /mnt/$name || echo $(cat /etc/machine-id) "
              "$(head -c 16 /dev/urandom | od -An -tx1) > /mnt/.$name && mv /mnt/.$name /mnt/$name; sleep 0.05; done")
    p = w.start("sh", "-c", script, flags=("--name", "box", "-m", "128m", "-v", f"{shared}:/mnt"))
    wait_for(lambda: os.listdir(shared), "the container writes nothing")
    copies = json.loads(good(w.kiln("fork", "box", "-n", "50", "--name-prefix", "f", "--format", "json")))["machines"]
    names = {f"f-{i}" for i in range(1, 51)}
    same({c["name"] for c in copies}, names)
    wait_for(lambda: names <= set(os.listdir(shared)), lambda: str(names - set(os.listdir(shared))))
    told = [n.read_text().split() for n in shared.iterdir() if not n.name.startswith(".")]
    same(len(told), 51)
    same(len({t[0] for t in told}), 51)  # machine-ids
    same(len({tuple(t[1:]) for t in told}), 51)  # random numbers
    same(len({c["vsock"] for c in copies}), 50)
    stop(w, "box", *names)
    p.wait(LIMIT)
    for stream in (p.stdin, p.stdout, p.stderr):
        stream.close()


def test_user_code_in_a_copy_runs_as_nobody_else(w):
    """What the container writes down is the same in all copies up to where they were made, and then each one's own."""
    good(w.run("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i $(cat /proc/sys/kernel/hostname) >> /tmp/log; done",
               flags=("-d", "--name", "p")))
    wait_for(lambda: w.kiln("exec", "p", "test", "-s", "/tmp/log").returncode == 0, "the parent writes nothing")
    names = good(w.kiln("exec", "p", "hostname"))
    copies = good(w.kiln("fork", "p", "-n", "3")).split()
    last = set()
    for copy in copies:
        wait_for(lambda: w.kiln("exec", copy, "sh", "-c", "grep -q $(hostname) /tmp/log").returncode == 0,
                 "the copy writes nothing")
        log = good(w.kiln("exec", copy, "cat", "/tmp/log")).splitlines()
        mine = good(w.kiln("exec", copy, "hostname"))
        assert mine not in names.split()
        owners = [line.split()[1] for line in log]
        same(sorted(set(owners)), sorted({names, mine}))
        last.add(owners.index(mine))
        same(set(owners[owners.index(mine):]), {mine})
    same(len(last), 1)
    stop(w, *copies)
    good(w.kiln("rm", "-f", "p"))


def refused(w, folder, *words):
    done = w.kiln("restore", "--console", "none", "--timeout", "60", str(folder) + "/")
    status(done, 125)
    says(done, *words)


def test_what_is_no_snapshot_is_refused_with_a_sentence(w):
    m = Boot(w)
    good(w.kiln("snapshot", "create", "m", "one"))
    good(w.kiln("snapshot", "create", "m", "two", "--diff-of", "one", "--stop"))
    m.process.wait(LIMIT)
    m.end()
    one, bad = w.snapshots / "one", w.folder / "bad"
    raw = (one / "state").read_bytes()
    cases = [(raw[:-1], "truncated"), (raw[:10], "truncated"), (raw + b"x", "truncated"), (b"", "0 bytes"),
             (b"something else", "not the state"), (raw[:8] + b"\x63\0\0\0" + raw[12:], "version 99"),
             (raw[:200] + bytes([raw[200] ^ 1]) + raw[201:], "damaged")]
    for data, word in cases:
        bad.mkdir()
        os.link(one / "memory", bad / "memory")
        (bad / "state").write_bytes(data)
        refused(w, bad, word)
        shutil.rmtree(bad)
    shutil.copytree(one, bad)
    os.truncate(bad / "memory", 1 << 20)
    refused(w, bad, "memory file", "bytes")
    (bad / "memory").unlink()
    refused(w, bad, "memory", "No such file")
    (bad / "memory").symlink_to(one / "memory")
    refused(w, bad, "memory")
    shutil.rmtree(bad)
    refused(w, bad, "No such file")
    says(w.kiln("restore", "nothing"), "no snapshot 'nothing'")
    # A diff whose parent is gone, or is another one.
    os.rename(one, w.snapshots / "away")
    refused(w, w.snapshots / "two", "its parent")
    shutil.copytree(w.snapshots / "two", one)
    says(w.kiln("restore", "two"), "not the parent")
    for name in ("one", "two", "away"):
        shutil.rmtree(w.snapshots / name)


def test_verify_finds_what_restore_does_not_read(w):
    m = Boot(w)
    good(w.kiln("snapshot", "create", "m", "one", "--stop"))
    m.process.wait(LIMIT)
    m.end()
    memory = w.snapshots / "one" / "memory"
    size = memory.stat().st_size
    with open(memory, "r+b") as f:
        for at in [random.Random(1).randrange(size) for _ in range(20)]:
            f.seek(at)
            was = f.read(1)
            f.seek(at)
            f.write(bytes([was[0] ^ 0x40]))
            f.flush()
            says(w.kiln("snapshot", "verify", "one"), "memory file")
            f.seek(at)
            f.write(was)
            f.flush()
    good(w.kiln("snapshot", "verify", "one"))
    good(w.kiln("snapshot", "rm", "one"))


def test_the_working_set_is_recorded_once_and_is_only_advice(w):
    m = Boot(w)
    good(w.kiln("snapshot", "create", "m", "one", "--stop"))
    m.process.wait(LIMIT)
    m.end()
    record = w.snapshots / "one" / "working-set"
    machine = restored(w, "one")
    assert state(vsock_of(w, machine))
    stop(w, machine)
    wait_for(record.exists, "no working set was recorded")
    raw = record.read_bytes()
    assert raw.startswith(b"KILNWSET") and len(raw) > 50, raw[:60]
    for data in (raw, raw[:20], b"", os.urandom(len(raw)), raw[:30] + b"\xff\xff\xff\xff" + raw[34:]):
        record.write_bytes(data)
        machine = restored(w, "one")
        assert state(vsock_of(w, machine))
        stop(w, machine)
        same(record.read_bytes(), data)
    good(w.kiln("snapshot", "verify", "one"))
    good(w.kiln("snapshot", "rm", "one"))


def test_a_killed_machine_leaves_no_half_a_snapshot(w):
    for n in range(12):
        m = Boot(w)
        maker = subprocess.Popen([KILN, "snapshot", "create", "m", "half"], env=w.env, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        # Wherever it is by then: not begun, on its way, done.
        time.sleep(n * 0.012)
        m.process.send_signal(signal.SIGKILL)
        maker.wait(LIMIT)
        m.end()
        wait_for(lambda: not w.processes(), "the machine does not end with its owner")
        if (w.snapshots / "half").exists():
            good(w.kiln("snapshot", "verify", "half"))
            good(w.kiln("snapshot", "rm", "half"))
    m = Boot(w)
    good(w.kiln("snapshot", "create", "m", "whole"))  # and sweeps
    good(w.kiln("snapshot", "verify", "whole"))
    m.end()
    wait_for(lambda: os.listdir(w.snapshots) == ["whole"], lambda: str(os.listdir(w.snapshots)))
    good(w.kiln("snapshot", "rm", "whole"))
    # What the killed machine's state folder held goes with the next machine's start; here by hand.
    for stale in (w.run_folder / "kiln").iterdir():
        if stale.is_dir():
            shutil.rmtree(stale)


def test_a_full_disk_leaves_the_old_snapshot_whole(w):
    small = w.folder / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(small)], check=False,
                             capture_output=True)
    if mounted.returncode != 0:
        raise Skip("cannot mount a tmpfs")
    try:
        m = Boot(w)
        good(w.kiln("snapshot", "create", "m", f"{small}/one"))
        ask(m.vsock, "touch 60")
        done = w.kiln("snapshot", "create", "m", f"{small}/two")
        status(done, 125)
        says(done, "No space left")
        same(os.listdir(small), ["one"])
        good(w.kiln("snapshot", "verify", f"{small}/one"))
        # The machine goes on, and what it changed since the old one is not forgotten.
        ask(m.vsock, "touch 1")
        good(w.kiln("snapshot", "create", "m", "three", "--diff-of", f"{small}/one"))
        kept = ask(m.vsock, "check")
        m.end()
        machine = restored(w, "three")
        same(ask(vsock_of(w, machine), "check"), kept)
        stop(w, machine)
        good(w.kiln("snapshot", "rm", "three"))
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def test_a_fork_that_memory_would_not_suffice_for_is_refused(w):
    meminfo = w.folder / "meminfo"
    meminfo.write_text("MemTotal: 1000000 kB\nMemAvailable: 50000 kB\n")
    m = Boot(w)

    def fork(*words):
        return subprocess.run(["unshare", "-m", "sh", "-c", 'mount --bind "$0" /proc/meminfo || exit 77; exec "$@"',
                               str(meminfo), KILN, "fork", "m", *words], env=w.env, stdin=subprocess.DEVNULL,
                              capture_output=True, check=False, timeout=LIMIT)

    done = fork("-n", "100")
    if done.returncode == 77:
        m.end()
        raise Skip("cannot mount over /proc/meminfo")
    says(done, "100 copies want 800 MiB")
    good(fork("-n", "2", "--name-prefix", "f"))
    assert state(m.vsock)
    stop(w, "m", "f-1", "f-2")
    m.process.wait(LIMIT)
    m.end()


def test_wrong_requests_get_a_sentence(w):
    says(w.kiln("fork", "nobody"), "no machine 'nobody'")
    says(w.kiln("snapshot", "create", "nobody", "x"), "no machine 'nobody'")
    says(w.kiln("fork", "m", "-n", "0"), "--count: '0'")
    says(w.kiln("snapshot", "create", "m", ".x"), "not a snapshot's name")
    says(w.kiln("snapshot", "frobnicate"), "frobnicate")
    says(w.kiln("snapshot", "rm", "nothing"), "no snapshot 'nothing'")
    m = Boot(w)
    says(w.kiln("snapshot", "create", "m", "/nowhere/x"), "/nowhere")
    says(w.kiln("snapshot", "create", "m", "x", "--diff-of", "nothing"), "nothing")
    good(w.kiln("snapshot", "create", "m", "one"))
    says(w.kiln("snapshot", "create", "m", "one"), "exists already")
    says(w.kiln("restore", "--disk", "0=/etc/passwd", "one"), "0 disks")
    says(w.kiln("restore", "--engine", "none", "one"), "none")
    folder = next(p for p in (w.run_folder / "kiln").iterdir() if (p / "control").exists())
    for line, word in ((b"nonsense\n", "not a request"), (b"{}\n", "not a request"), (b'{"op":"dance"}\n', "not"),
                       (b'{"op":"snapshot"}\n', "needs its files"), (b'{"op":"fork","n":-1}\n', "copies")):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(folder / "control"))
            s.sendall(line)
            answer = json.loads(s.makefile("rb").readline())
            assert not answer["ok"] and word in answer["error"], answer
    assert state(m.vsock)
    m.end()
    good(w.kiln("snapshot", "rm", "one"))


sys.exit(main(globals()))
