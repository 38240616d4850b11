"""What the e2e tests share: kiln as a user calls it, in a store and a state folder of the test's own.

Each t_*.py is a program: functions named test_* run in order and are reported one a line, in cmocka's words, so that
tools/check.py counts them. Exit status 77 with a sentence: nothing could be run here.

environment: KILN         the program (build/kiln)
             KILN_KERNEL  a guest kernel; otherwise one from the default store
             KILN_ENGINE  the engine (auto)
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
IMAGE = "kiln-test"
MARK = "KILN_E2E_MARK=" + uuid.uuid4().hex
LIMIT = 300  # seconds; a guest on the interpreter beside other tests takes its time


class Skip(Exception):
    pass


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

    def flags(self):
        return ["--engine", ENGINE, "--kernel", self.kernel]

    def kiln(self, *words, **more):
        more.setdefault("stdin", subprocess.DEVNULL if "input" not in more else None)
        if more["stdin"] is None:
            del more["stdin"]
        return subprocess.run([KILN, *words], env={**self.env, **more.pop("env", {})}, capture_output=True,
                              timeout=LIMIT, check=False, **more)

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

    def leftovers(self):
        files = [str(p) for p in self.run_folder.rglob("*") if p.name != "lock" and p.name != "kiln"]
        tmp = self.folder / "store" / "tmp"
        files += [str(p) for p in tmp.iterdir()] if tmp.exists() else []
        return files + [f"process {pid}" for pid in self.processes()]

    def assert_clean(self, seconds=5.0):
        end = time.monotonic() + seconds
        while self.leftovers() and time.monotonic() < end:
            time.sleep(0.05)
        assert not self.leftovers(), self.leftovers()

    def close(self):
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


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


def main(namespace):
    wanted = sys.argv[1:]
    tests = [(n, f) for n, f in namespace.items() if n.startswith("test_") and (not wanted or n in wanted)]
    world = None
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # by way of the clean-up below
    try:
        world = World()
        world.import_image()
        for name, function in tests:
            print(f"[ RUN      ] {name}", flush=True)
            started = time.monotonic()
            try:
                function(world)
                world.assert_clean()
                print(f"[       OK ] {name} ({time.monotonic() - started:.1f} s)", flush=True)
            except Skip as reason:
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
    return 1 if failed else 0
