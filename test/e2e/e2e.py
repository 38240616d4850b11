"""What the e2e tests share: kiln as a user calls it, in a store and a state folder of the test's own.

Each t_*.py is a program: functions named test_* run in order and are reported one a line, in cmocka's words, so that
tools/check.py counts them. Exit status 77 with a sentence: nothing could be run here.

environment: KILN         the program (build/kiln)
             KILN_KERNEL  a guest kernel; otherwise one from the default store
             KILN_ENGINE  the engine (auto)
             KILN_COLD    1: machines boot, none starts from a template

Nothing here may wait for ever or depend on how fast the machine is. One call of kiln has LIMIT seconds, one test
TEST_LIMIT (or what the program says instead); what hangs longer fails and says what its processes were doing.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import uuid

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
KILN = os.environ.get("KILN") or str(SOURCE / "build" / "kiln")
ENGINE = os.environ.get("KILN_ENGINE") or "auto"
PROGRAMS = SOURCE / "test" / "e2e" / "programs"  # what is run inside, and NAME.out: what it prints everywhere
COLD = os.environ.get("KILN_COLD") == "1"
IMAGE = "kiln-test"
MARK = "KILN_E2E_MARK=" + uuid.uuid4().hex
LIMIT = 90  # seconds for one call of kiln: far more than it takes on a loaded host
TEST_LIMIT = 180
HUNG_MAX = 3  # tests that hang before the rest is given up


class Skip(Exception):
    pass


class Hung(Exception):
    pass


def debian_image(w, tar, packages=()):
    """Import a Debian root file system, made on the first use, as the image "debian"."""
    made = subprocess.run([SOURCE / "tools" / "make-debian-image.sh", tar, *packages], capture_output=True, text=True,
                          timeout=1200, check=False)
    if made.returncode != 0:
        raise Skip(f"no Debian root file system: {made.stderr.strip()[-200:]}")
    status(w.kiln("import", tar, "debian"), 0)


def default_store():
    if os.environ.get("KILN_ROOT"):
        return pathlib.Path(os.environ["KILN_ROOT"])
    if os.geteuid() == 0:
        return pathlib.Path("/var/lib/kiln")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return pathlib.Path(data) / "kiln"


def find_kernel():
    if os.environ.get("KILN_KERNEL"):
        return os.environ["KILN_KERNEL"]
    for name in ("kiln", "debian"):
        folder = default_store() / "kernels" / name
        if (folder / "vmlinux").exists() or (folder / "vmlinuz").exists():
            return str(folder)
    raise Skip("no guest kernel (make kernel-debian)")


class World:
    """A store with the test image, a state folder, and everything that runs in them."""

    def __init__(self):
        if not os.access(KILN, os.X_OK):
            raise Skip(f"{KILN} is not built")
        self.kernel = find_kernel()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kiln-e2e-"))
        self.run_folder = self.folder / "run"
        self.run_folder.mkdir(mode=0o700)
        key, value = MARK.split("=")
        self.env = {**os.environ, "KILN_ROOT": str(self.folder / "store"), "XDG_RUNTIME_DIR": str(self.run_folder),
                    key: value}
        self.env.pop("KILN_KERNEL", None)

    def import_image(self):
        tar = self.folder / "image.tar"
        subprocess.run([SOURCE / "tools" / "make-test-image.sh", tar], check=True, stdout=subprocess.DEVNULL)
        done = self.kiln("import", str(tar), IMAGE)
        assert done.returncode == 0, done.stderr

    def base_flags(self):
        return ["--engine", ENGINE, "--kernel", self.kernel]

    def flags(self):
        return ["--rm", "--network", "none", *self.base_flags()] + (["--no-template"] if COLD else [])

    def kiln(self, *words, **more):
        more.setdefault("stdin", subprocess.DEVNULL if "input" not in more else None)
        if more["stdin"] is None:
            del more["stdin"]
        more.setdefault("timeout", LIMIT)
        return subprocess.run([KILN, *words], env={**self.env, **more.pop("env", {})}, capture_output=True,
                              check=False, **more)

    def run(self, *command, flags=(), image=IMAGE, **more):
        return self.kiln("run", *self.flags(), *flags, image, *command, **more)

    def sh(self, script, flags=(), **more):
        return self.run("sh", "-c", script, flags=flags, **more)

    def start(self, *command, flags=(), **more):
        """A run that goes on beside the test."""
        more.setdefault("stdin", subprocess.PIPE)
        return subprocess.Popen([KILN, "run", *self.flags(), *flags, IMAGE, *command], env=self.env,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def processes(self):
        """Every process of this test's environment but the test itself."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if MARK.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def machines(self):
        """The processes that are machines: not who started them, and not their wardens."""
        found = []
        for pid in self.processes():
            try:
                if pathlib.Path(f"/proc/{pid}/comm").read_text() == "kiln-vmm\n":
                    found.append(pid)
            except OSError:
                continue
        return found

    def leftovers(self):
        try:
            files = [str(p) for p in self.run_folder.rglob("*") if p.name != "lock" and p.name != "kiln"]
        except FileNotFoundError:  # a warden is just removing them
            return ["folders that are being removed"]
        tmp = self.folder / "store" / "tmp"
        files += [str(p) for p in tmp.iterdir()] if tmp.exists() else []
        return files + [f"process {pid}" for pid in self.processes()]

    def assert_no_processes(self, seconds=20.0):
        end = time.monotonic() + seconds
        while self.processes() and time.monotonic() < end:
            time.sleep(0.02)
        assert not self.processes()

    def assert_clean(self):
        wait_for(lambda: not self.leftovers(), lambda: self.leftovers())

    def doing(self):
        """What every process of the test's does, thread by thread."""
        lines = []
        for pid in self.processes():
            try:
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                lines.append(f"  {pid}: {words[:200]}")
                for task in sorted(pathlib.Path(f"/proc/{pid}/task").iterdir()):
                    name, _, stat = (task / "stat").read_text().rpartition(")")
                    stat = stat.split()
                    lines.append(f"    {name.partition('(')[2]}: {stat[0]}, ran {stat[11]}+{stat[12]} ticks, in "
                                 f"{(task / 'wchan').read_text()}, syscall {(task / 'syscall').read_text().split()[0]}")
            except OSError:
                continue
        return "\n".join(lines) or "  none is left"

    def end_processes(self):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def close(self):
        self.end_processes()
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_for(condition, what, seconds=LIMIT):
    """Until the condition holds. `what` (text, or a function that makes it) says what did not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.01)


def listens(path):
    """Whether a Unix socket of this name takes connections; one that only has its name refuses them."""
    lines = [line.split() for line in pathlib.Path("/proc/net/unix").read_text().splitlines()]
    return any(f[-1] == str(path) and int(f[3], 16) & 0x10000 for f in lines[1:] if len(f) > 7)


def catches(pid, sig):
    """Whether the process has taken this signal in hand: it is caught, or blocked for a signalfd."""
    try:
        fields = dict(line.split(":\t") for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                      if line.startswith("Sig"))
    except OSError:
        return False
    return any(int(fields[name], 16) >> (sig - 1) & 1 for name in ("SigCgt", "SigBlk"))


def same(got, want):
    assert got == want, f"got {got!r}, expected {want!r}"


def status(done, want):
    assert done.returncode == want, f"status {done.returncode}, expected {want}; stderr: {done.stderr!r}"


def says(done, *words):
    """One clear sentence on stderr that holds these words; no trace of a crash."""
    text = done.stderr.decode(errors="replace")
    for word in words:
        assert word in text, f"'{word}' is not in {text!r}"
    assert any(line.startswith("kiln") for line in text.splitlines()), text


def on_alarm(*_):
    raise Hung("the test did not end in time")


def run_test(name, function, world, limit):
    """One test and its line. Returns "passed", "skipped", "failed" or "hung"."""
    print(f"[ RUN      ] {name}", flush=True)
    started = time.monotonic()
    signal.alarm(limit)
    try:
        function(world)
        world.assert_clean()
        print(f"[       OK ] {name} ({time.monotonic() - started:.1f} s)", flush=True)
        return "passed"
    except Skip as reason:
        print(f"[  SKIPPED ] {name}\n{reason}", flush=True)
        return "skipped"
    except Exception as problem:  # noqa: any failure is the test's, and the next one runs
        hung = isinstance(problem, (Hung, subprocess.TimeoutExpired))
        doing = world.doing()
        traceback.print_exc(file=sys.stdout)
        print(f"its processes:\n{doing}\n[  FAILED  ] {name}", flush=True)
        return "hung" if hung else "failed"
    finally:
        signal.alarm(0)
        world.end_processes()  # what a failure left must not stand in the next one's way


def main(namespace):
    """Run what the program defines: prepare(world), if there is such a function, then every test_*."""
    wanted = sys.argv[1:]
    tests = [(n, f) for n, f in namespace.items() if n.startswith("test_") and (not wanted or n in wanted)]
    world = None
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # by way of the clean-up below
    signal.signal(signal.SIGALRM, on_alarm)
    try:
        world = World()
        world.import_image()
        namespace.get("prepare", lambda _: None)(world)
        for name, function in tests:
            ended.append(run_test(name, function, world, namespace.get("TEST_LIMIT", TEST_LIMIT)))
            if ended.count("hung") == HUNG_MAX:
                print(f"{HUNG_MAX} tests hung: the others are not run", flush=True)
                break
    except Skip as reason:
        print(f"skipped: {reason}")
        return 77
    finally:
        if world:
            world.close()
    return 1 if {"failed", "hung"} & set(ended) else 0
