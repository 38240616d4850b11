"""Disks: what a guest wrote is there, whoever serves it and whatever is killed; what it reads and runs is what it read.

environment: KILN_DISKINIT  the static program that becomes PID 1 (test/e2e/diskinit.c)
"""
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading

from e2e import ENGINE, IMAGE, KILN, Skip, listens, main, same, says, status, wait_for

MIB = 1 << 20
RECORDS = 40  # reported before the machine is killed
LIMIT = 170
FIO = ("--name=v,--filename=/dev/vda,--rw=randwrite,--bsrange=4k-64k,--size=24m,--iodepth=16,--ioengine=libaio,--direct=1,"
       "--verify=crc32c,--do_verify=1,--verify_fatal=1,--verify_backlog=64,--thread,--fsync=32,--minimal")


def need(program, package):
    if not shutil.which(program):
        raise Skip(f"no {program} (Debian: {package})")


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
    init = os.environ.get("KILN_DISKINIT")
    if not init or not os.path.exists(init):
        raise Skip("KILN_DISKINIT is not built")
    w.initrd = w.folder / "initrd"
    w.initrd.write_bytes(cpio([("dev", 0o040755, b""), ("dev/console", 0o020600, b""),
                               ("init", 0o100755, pathlib.Path(init).read_bytes())]))
    folder = pathlib.Path(w.kernel)
    w.vmlinux = folder if folder.is_file() else next(folder / n for n in ("vmlinux", "vmlinuz") if (folder / n).exists())


def command(w, disk, words, *flags, engine=ENGINE):
    return [KILN, "boot", "--engine", engine, "--kernel", str(w.vmlinux), "--initrd", str(w.initrd), "-m", "256m",
            "--cmdline", f"console=ttyS0 panic=-1 quiet {words}", "--disk", str(disk), *flags]


def boot(w, disk, words, *flags, engine=ENGINE):
    done = subprocess.run(command(w, disk, words, *flags, engine=engine), env=w.env, stdin=subprocess.DEVNULL,
                          capture_output=True, check=False, timeout=LIMIT)
    return done, done.stdout.decode(errors="replace").replace("\r", "")


def raw(w, size=48 * MIB):
    path = w.folder / "disk.raw"
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def qcow2(w, *more, size=48 * MIB):
    need("qemu-storage-daemon", "qemu-system-common")
    need("qemu-img", "qemu-utils")
    path = w.folder / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *more, str(path), str(size)], check=True)
    return path


def check_qcow2(path):
    """No error; clusters that leaked when the daemon was killed are no loss."""
    done = subprocess.run(["qemu-img", "check", "-q", str(path)], capture_output=True, check=False)
    assert done.returncode in (0, 3), done.stdout + done.stderr


class Loop:
    """A block device over a file."""

    def __init__(self, path):
        if os.geteuid() != 0:
            raise Skip("only root makes loop devices")
        done = subprocess.run(["losetup", "-f", "--show", str(path)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Skip(f"no loop device: {done.stderr.strip()}")
        self.path = done.stdout.strip()

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        subprocess.run(["losetup", "-d", self.path], check=True)


class Daemon:
    """A storage daemon of the test's own, as somebody else's would be."""

    def __init__(self, w, path, name="back.sock"):
        need("qemu-storage-daemon", "qemu-system-common")
        self.socket = w.folder / name
        self.words = ["qemu-storage-daemon", "--blockdev", f"driver=file,filename={path},node-name=d", "--export",
                      f"type=vhost-user-blk,id=e,node-name=d,writable=on,addr.type=unix,addr.path={self.socket}"]
        self.env = w.env
        self.start()

    def start(self):
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(self.words, env=self.env)
        wait_for(lambda: listens(self.socket), "the daemon does not listen")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


# --- what is read is what runs ------------------------------------------------------------------

def code_disk(w):
    """Block n begins with a function that returns n: mov eax, n; ret."""
    path = w.folder / "code.raw"
    path.write_bytes(b"".join((b"\xb8" + struct.pack("<I", n) + b"\xc3").ljust(4096, b"\xcc") for n in range(256)))
    return path


def runs_what_it_reads(w, disk, engine):
    done, log = boot(w, disk, "do=code", engine=engine)
    status(done, 0)
    assert "code: 3072 calls, 0 wrong" in log, log[-2000:]


def test_code_read_from_our_own_disk_runs(w):
    runs_what_it_reads(w, code_disk(w), ENGINE)


def test_code_read_by_another_process_runs(w):
    with Daemon(w, code_disk(w)) as d:
        runs_what_it_reads(w, f"vhost-user:{d.socket}", ENGINE)
        runs_what_it_reads(w, f"vhost-user:{d.socket}", "interp")


# --- fio ------------------------------------------------------------------------------------------

def fio_root(w):
    """fio and its libraries, for a share."""
    need("fio", "fio")
    root = w.folder / "fio"
    if root.exists():
        return root
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    fio = shutil.which("fio")
    shutil.copy(fio, root / "bin" / "fio")
    libraries = subprocess.run(["ldd", fio], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+)", libraries):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])
    return root


def fio_verifies(w, disk, more=""):
    done, log = boot(w, disk, f"do=fio fio={FIO}{more}", "--share", f"fio={fio_root(w)}:ro")
    status(done, 0)
    assert "fio: status 0" in log and "verify:" not in log, log[-3000:]


def test_fio_verifies_a_raw_file(w):
    fio_verifies(w, raw(w))


def test_fio_verifies_a_qcow2_file(w):
    path = qcow2(w)
    fio_verifies(w, path)
    check_qcow2(path)


def test_fio_verifies_a_block_device(w):
    with Loop(raw(w)) as device:
        fio_verifies(w, device)


def test_fio_verifies_while_the_back_end_is_killed_and_comes_back(w):
    with Daemon(w, raw(w)) as d:
        done = threading.Event()

        kills = []

        def disturb():
            while not done.wait(1.0):
                d.kill()
                kills.append(1)
                d.start()

        t = threading.Thread(target=disturb)
        t.start()
        try:
            fio_verifies(w, f"vhost-user:{d.socket}", ",--loops=4")
        finally:
            done.set()
            t.join()
        assert kills, "fio was over too soon"


# --- what was flushed is there ------------------------------------------------------------------------

def run_until_killed(w, disk, also=lambda: []):
    """Kill the machine in mid-write. Returns the highest record it reported."""
    p = subprocess.Popen(command(w, disk, "do=records"), env=w.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    reported = 0
    for line in p.stdout:
        found = re.match(rb"record (\d+)", line)
        reported = int(found.group(1)) if found else reported
        if reported >= RECORDS:
            break
    for pid in [p.pid, *also()]:
        os.kill(pid, signal.SIGKILL)
    rest = p.stdout.read()  # reported before it died
    p.stdout.close()
    p.wait()
    reported = max([reported] + [int(n) for n in re.findall(rb"record (\d+)\r?\n", rest)])
    assert reported >= RECORDS, "the machine ended by itself"
    w.assert_no_processes()
    return reported


def assert_records(image, reported):
    with open(image, "rb") as f:
        for n in range(1, reported + 1):
            f.seek(16 * MIB + n * 4096)
            want = b"".join(struct.pack("<I", (n * 2654435761 + i) & 0xffffffff) for i in range(1024))
            assert f.read(4096) == want, f"record {n} of {reported} is not on the disk"


def test_a_killed_machine_loses_no_flushed_byte_of_a_raw_file(w):
    path = raw(w)
    assert_records(path, run_until_killed(w, path))


def qcow2_records(w, path, reported):
    check_qcow2(path)
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(w.folder / "out.raw")], check=True)
    assert_records(w.folder / "out.raw", reported)


def test_a_killed_machine_loses_no_flushed_byte_of_a_qcow2_file(w):
    path = qcow2(w)
    qcow2_records(w, path, run_until_killed(w, path))


def daemons(w):
    return [pid for pid in w.processes() if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("qemu-storage")]


def test_a_daemon_killed_with_its_machine_loses_no_flushed_byte(w):
    path = qcow2(w)
    qcow2_records(w, path, run_until_killed(w, path, lambda: daemons(w)))


# --- life and refusals -----------------------------------------------------------------------------------

def test_the_daemon_ends_with_the_machine(w):
    path = qcow2(w)
    done, log = boot(w, path, "do=nothing")
    status(done, 0)
    assert "nothing to do" in log
    w.assert_no_processes()


def test_an_image_in_use_is_refused(w):
    path = qcow2(w)
    p = subprocess.Popen(command(w, path, "do=records", "--name", "first"), env=w.env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE)
    for line in p.stdout:
        if line.startswith(b"record"):
            break
    done, _ = boot(w, path, "do=nothing")
    status(done, 125)
    says(done, "lock")
    status(w.kiln("stop", "first"), 0)
    p.stdout.close()
    p.wait()


def test_a_back_end_that_hangs_does_not_hold_the_machine(w):
    with Daemon(w, raw(w)) as d:
        p = subprocess.Popen(command(w, f"vhost-user:{d.socket}", "do=records", "--name", "hangs"), env=w.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for line in p.stdout:
            if line.startswith(b"record 3"):
                break
        d.process.send_signal(signal.SIGSTOP)
        status(w.kiln("stop", "hangs"), 0)
        p.stdout.close()
        p.wait()
        assert w.kiln("ps").stdout.count(b"hangs") == 0
        d.process.send_signal(signal.SIGCONT)


def test_the_daemon_is_confined(w):
    path = qcow2(w)
    p = subprocess.Popen(command(w, path, "do=records", "--name", "confined"), env=w.env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE)
    for line in p.stdout:
        if line.startswith(b"record"):
            break
    (pid,) = daemons(w)
    fields = dict(line.split(":\t") for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    same(int(fields["NoNewPrivs"]), 1)
    assert int(fields["CapEff"], 16) & ~2 == 0, fields["CapEff"]  # CAP_DAC_OVERRIDE, and that of root's alone
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    status(w.kiln("stop", "confined"), 0)
    p.stdout.close()
    p.wait()


def test_a_machine_whose_daemon_dies_goes_on_standing(w):
    path = qcow2(w)
    p = subprocess.Popen(command(w, path, "do=records", "--name", "stands"), env=w.env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE)
    for line in p.stdout:
        if line.startswith(b"record 3"):
            break
    for pid in daemons(w):
        os.kill(pid, signal.SIGKILL)
    status(w.kiln("stop", "stands"), 0)
    p.stdout.close()
    p.wait()


def test_a_served_machine_is_not_saved_or_forked(w):
    with Daemon(w, raw(w)) as d:
        p = subprocess.Popen(command(w, f"vhost-user:{d.socket}", "do=records", "--name", "served"), env=w.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        for line in p.stdout:
            if line.startswith(b"record"):
                break
        says(w.kiln("snapshot", "create", "served", str(w.folder / "snap")), "vhost-user", "cannot be saved or forked")
        says(w.kiln("fork", "served"), "vhost-user", "cannot be saved or forked")
        for line in p.stdout:  # it went on
            if line.startswith(b"record"):
                break
        status(w.kiln("stop", "served"), 0)
        p.stdout.close()
        p.wait()


def test_bad_disks_get_a_sentence(w):
    path = raw(w)
    rows = [("vhost-user:/nonexistent", "No such file"), (f"vhost-user:{path}", "connect"), (f"{path},format=qcow2", "qcow2"),
            ("nbd:unix:/nonexistent", "No such file"), ("/nonexistent.qcow2", "No such file"), (f"{path},format=what", "format"),
            ("nbd:x", "nbd:HOST:PORT")]
    need("qemu-storage-daemon", "qemu-system-common")
    for disk, word in rows:
        done, _ = boot(w, disk, "do=nothing")
        status(done, 125)
        says(done, word)


def test_an_image_found_by_its_magic_names_no_other_file(w):
    base = raw(w)
    path = qcow2(w, "-b", str(base), "-F", "raw")
    done, _ = boot(w, path, "do=nothing")
    status(done, 125)
    says(done, "names another file", "format=qcow2")
    done, log = boot(w, f"{path},format=qcow2", "do=nothing")
    status(done, 0)


def test_a_container_has_a_qcow2_file_as_its_device(w):
    path = qcow2(w)
    done = w.sh("echo kept > /dev/xda && sync && head -c 4 /dev/xda", flags=["--network", "none", "--device", f"{path}:/dev/xda"])
    status(done, 0)
    same(done.stdout, b"kept")
    same(w.sh("head -c 4 /dev/xda", flags=["--network", "none", "--device", f"{path}:/dev/xda:r"]).stdout, b"kept")
    w.assert_no_processes()
    check_qcow2(path)


def test_a_jailed_machines_driver_may_reset_the_device(w):
    """The reset is a CPU's doing, whose thread may make few system calls."""
    path = qcow2(w)
    script = """echo kept > /dev/xda; sync; mount -o remount,rw /sys
for b in /sys/block/vd*; do [ $(cat $b/size) = 98304 ] && d=$(basename $(readlink -f $b/device)); done
for n in 1 2 3; do
    echo $d > /sys/bus/virtio/drivers/virtio_blk/unbind; echo $d > /sys/bus/virtio/drivers/virtio_blk/bind
done
head -c 4 /dev/xda"""
    done = w.sh(script, flags=["--network", "none", "--privileged", "--device", f"{path}:/dev/xda"])
    status(done, 0)
    same(done.stdout, b"kept")


def test_a_paused_containers_device_goes_on(w):
    path = qcow2(w)
    status(w.kiln("run", "-d", "--name", "paused", *w.flags(), "--network", "none", "--device", f"{path}:/dev/xda", IMAGE, "sh", "-c",
                  "n=0; while :; do n=$((n+1)); echo $n > /dev/xda; sync; done"), 0)
    first = w.kiln("exec", "paused", "head", "-c", "3", "/dev/xda")
    status(first, 0)
    status(w.kiln("pause", "paused"), 0)
    status(w.kiln("unpause", "paused"), 0)
    status(w.kiln("exec", "paused", "sh", "-c", "dd if=/dev/xda of=/dev/null bs=64k && sync"), 0)
    status(w.kiln("rm", "-f", "paused"), 0)
    w.assert_no_processes()
    check_qcow2(path)


def test_an_nbd_export_is_a_disk(w):
    need("qemu-nbd", "qemu-utils")
    path, socket = code_disk(w), w.folder / "nbd.sock"
    p = subprocess.Popen(["qemu-nbd", "-r", "-f", "raw", "-k", str(socket), "-x", "e", "-t", str(path)], env=w.env)
    try:
        wait_for(lambda: listens(socket), "qemu-nbd does not listen")
        runs_what_it_reads(w, f"nbd:unix:{socket},export=e,ro", ENGINE)
    finally:
        p.kill()
        p.wait()


if __name__ == "__main__":
    sys.exit(main(globals()))
