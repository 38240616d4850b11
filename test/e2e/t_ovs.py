"""Two machines on an Open vSwitch bridge that works in user space: by vhost-user, and by taps.

The switch is the test's own: database, sockets and logs in its folder, ended by its pid, in a network namespace that goes
with the test's process.

environment: KILN_NETINIT  the static program that becomes PID 1 (test/e2e/netinit.c)
"""
import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

from e2e import ENGINE, KILN, Skip, listens, main, status, wait_for

CLONE_NEWNET = 0x40000000
LIMIT = 170
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
DPDK = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
PLAIN = "/usr/lib/openvswitch-switch/ovs-vswitchd"
# No huge pages, no devices but vhost-user ports, nothing shared with another process.
EAL = "--no-huge --legacy-mem --no-pci --no-telemetry --no-shconf --file-prefix={} -m 384"


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
    init = os.environ.get("KILN_NETINIT")
    if not init or not os.path.exists(init):
        raise Skip("KILN_NETINIT is not built")
    if not shutil.which("ovsdb-server") or not os.path.exists(SCHEMA):
        raise Skip("no Open vSwitch (Debian: openvswitch-switch)")
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise Skip("only root has a network of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    w.initrd = w.folder / "initrd"
    w.initrd.write_bytes(cpio([("dev", 0o040755, b""), ("dev/console", 0o020600, b""),
                               ("init", 0o100755, pathlib.Path(init).read_bytes())]))
    folder = pathlib.Path(w.kernel)
    w.vmlinux = folder if folder.is_file() else next(folder / n for n in ("vmlinux", "vmlinuz") if (folder / n).exists())


class Switch:
    """A bridge br0 with two ports."""

    def __init__(self, w, program, ports, settings=()):
        if not os.path.exists(program):
            raise Skip(f"no {program}")
        self.folder = w.folder / "ovs"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.prefix = f"kiln{os.getpid()}"
        self.env = {**w.env, **{f"OVS_{k}DIR": str(self.folder) for k in ("RUN", "LOG", "DB", "SYSCONF")}}
        self.db = f"unix:{self.folder}/db.sock"
        self.running = []
        subprocess.run(["ovsdb-tool", "create", self.folder / "conf.db", SCHEMA], env=self.env, check=True)
        self.start("ovsdb-server", self.folder / "conf.db", f"--remote=punix:{self.folder}/db.sock")
        wait_for(lambda: listens(self.folder / "db.sock"), "the database does not listen")
        self.vsctl("--no-wait", "init")
        for s in settings:
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:" + s.format(EAL.format(self.prefix)))
        self.start(program, self.db)
        try:
            self.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
            for name, kind in ports:
                path = [f"options:vhost-server-path={self.folder}/{name}"] if kind == "dpdkvhostuserclient" else []
                self.vsctl("add-port", "br0", name, "--", "set", "Interface", name, f"type={kind}", *path)
        except BaseException:
            self.__exit__()
            raise

    def start(self, program, *words):
        name = os.path.basename(program)
        with open(self.folder / (name + ".err"), "wb") as err:
            self.running.append(subprocess.Popen(
                [program, *map(str, words), f"--unixctl={self.folder}/{name}.ctl", f"--log-file={self.folder}/{name}.log",
                 "-vconsole:off"], env=self.env, stdin=subprocess.DEVNULL, stdout=err, stderr=err))

    def vsctl(self, *words):
        done = subprocess.run(["ovs-vsctl", f"--db={self.db}", "--timeout=60", *words], env=self.env, capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stderr + self.log()

    def log(self):
        return "".join(p.read_text(errors="replace")[-3000:] for p in self.folder.glob("*.log"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in reversed(self.running):
            p.send_signal(signal.SIGTERM)
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        shutil.rmtree(f"/var/run/dpdk/{self.prefix}", ignore_errors=True)
        try:
            os.rmdir("/var/run/dpdk")
        except OSError:
            pass


def machine(w, me, net):
    return subprocess.Popen([KILN, "boot", "--engine", ENGINE, "--kernel", str(w.vmlinux), "--initrd", str(w.initrd), "-m",
                             "128m", "--cmdline", f"console=ttyS0 panic=-1 quiet me={me}", "--net", net],
                            env=w.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def they_talk(w, switch, one, two):
    p = machine(w, 1, one)
    for line in p.stdout:
        if line.startswith(b"listening"):
            break
    q = machine(w, 2, two)
    try:
        out, err = q.communicate(timeout=LIMIT)
    finally:
        p.kill()
        p.communicate()
        q.kill()
    log = out.decode(errors="replace") + err.decode(errors="replace")
    assert re.search(r"talked: 8388608 bytes, 0 wrong", log), log[-2000:] + switch.log()


def test_two_machines_talk_by_vhost_user(w):
    """The switch listens for one of them and connects to the other."""
    settings = ("dpdk-init=true", 'dpdk-extra="{}"', "per-port-memory=true", "pmd-maxsleep=500", "pmd-cpu-mask=1",
                "vhost-sock-dir=.")
    with Switch(w, DPDK, [("p1", "dpdkvhostuser"), ("p2", "dpdkvhostuserclient")], settings) as s:
        they_talk(w, s, f"vhost-user:{s.folder}/p1", f"vhost-user-server:{s.folder}/p2")
        wait_for(lambda: not (s.folder / "p2").exists(), "the socket's name stays")


def test_two_machines_talk_by_taps(w):
    program = PLAIN if os.path.exists(PLAIN) else shutil.which("ovs-vswitchd") or PLAIN
    for name in ("kt1", "kt2"):
        subprocess.run(["ip", "tuntap", "add", name, "mode", "tap", "vnet_hdr"], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    with Switch(w, program, [("kt1", "system"), ("kt2", "system")]) as s:
        they_talk(w, s, "tap:kt1", "tap:kt2")


def test_a_card_without_its_switch_gets_a_sentence(w):
    done = w.kiln("boot", "--kernel", str(w.vmlinux), "--net", "vhost-user:/nonexistent")
    status(done, 125)
    assert b"/nonexistent" in done.stderr and b"No such file" in done.stderr, done.stderr
    done = w.kiln("boot", "--kernel", str(w.vmlinux), "--net", "vhost-user:/nonexistent,queues=2")
    status(done, 125)
    assert b"back end" in done.stderr, done.stderr


if __name__ == "__main__":
    sys.exit(main(globals()))
