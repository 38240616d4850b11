#!/usr/bin/env python3
"""A whole Debian, made by mmdebstrap, works inside `kiln run`: perl, python3, gzip and a C compiler.

environment: as t_linux.py, and
             KILN_ENGINE  the engine (interp)
             KILN_ROOTFS  the root file system as a tar; otherwise one is made once and kept in the store's test/
"""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

import t_linux
from t_linux import KILN, Skip

ENGINE = os.environ.get("KILN_ENGINE") or "interp"
MAKE_LIMIT = 600  # seconds for mmdebstrap: it downloads some 100 MB
RUN_LIMIT = 400   # seconds for one machine on a busy host
PACKAGES = "perl,python3,gcc,libc6-dev"

PROGRAM = r"""
#include <math.h>
#include <stdio.h>
int main(void)
{
    double s = 0;
    for (int i = 1; i <= 1000; i++)
        s += sqrt(i);
    printf("%.3f\n", s);
    return 7;
}
"""


def root_file_system():
    if os.environ.get("KILN_ROOTFS"):
        return pathlib.Path(os.environ["KILN_ROOTFS"])
    tar = t_linux.store() / "test" / "debian.tar"
    if tar.exists():
        return tar
    tar.parent.mkdir(parents=True, exist_ok=True)
    part = tar.with_suffix(".part.tar")
    try:
        subprocess.run(["mmdebstrap", "--quiet", "--variant=essential", "--include=" + PACKAGES,
                        "--aptopt=APT::Install-Recommends \"false\"", "bookworm", str(part)], check=True,
                       timeout=MAKE_LIMIT, stdin=subprocess.DEVNULL, capture_output=True)
    except (OSError, subprocess.SubprocessError) as reason:
        part.unlink(missing_ok=True)
        raise Skip(f"mmdebstrap makes no Debian here: {reason}") from reason
    part.rename(tar)
    return tar


class World:
    def __init__(self):
        if not os.access(KILN, os.X_OK):
            raise Skip(f"{KILN} is not built")
        folders = [t_linux.store() / "kernels" / name for name in ("kiln", "debian")]
        self.kernel = next((str(f) for f in folders if f.exists()), None)
        if not self.kernel:
            raise Skip("no guest kernel (make kernel-debian, make kernel)")
        tar = root_file_system()
        self.folder = tempfile.TemporaryDirectory(prefix="kiln-rootfs-")
        run = pathlib.Path(self.folder.name) / "run"
        run.mkdir(mode=0o700)
        self.env = {**os.environ, "KILN_ROOT": self.folder.name + "/store", "XDG_RUNTIME_DIR": str(run)}
        self.kiln("import", str(tar), "debian")

    def kiln(self, *words, **more):
        done = subprocess.run([KILN, *words], env=self.env, capture_output=True, timeout=RUN_LIMIT, check=False,
                              **more)
        assert done.returncode == 0, f"status {done.returncode}: {done.stderr!r} {done.stdout!r}"
        return done.stdout

    def sh(self, script):
        return self.kiln("run", "--rm", "-i", "-m", "1g", "--engine", ENGINE, "--kernel", self.kernel, "debian", "sh", "-ec", script,
                         input=b"")

    def close(self):
        self.folder.cleanup()


def same(got, want):
    assert got == want, f"got {got!r}, expected {want!r}"


def test_perl_and_python_compute(w):
    want = hashlib.sha256(b"kiln" * 10000).hexdigest().encode()
    same(w.sh("perl -e 'print join(q(,), map { $_ * $_ } 1 .. 9), qq(\\n)'; "
              "python3 -c 'import hashlib; print(hashlib.sha256(b\"kiln\" * 10000).hexdigest())'"),
         b"1,4,9,16,25,36,49,64,81\n" + want + b"\n")


def test_gzip_returns_what_it_was_given(w):
    text = "".join(f"{i}\n" for i in range(1, 200001)).encode()
    same(w.sh("cd /tmp; seq 1 200000 > a; gzip -k a; gunzip -c a.gz | cmp - a && sha256sum < a"),
         hashlib.sha256(text).hexdigest().encode() + b"  -\n")


def test_a_program_is_compiled_and_run(w):
    same(w.sh("cd /tmp; cat > p.c <<'END'\n" + PROGRAM + "END\ngcc -O2 -o p p.c -lm; ./p || echo $?"),
         b"21097.456\n7\n")


if __name__ == "__main__":
    sys.exit(t_linux.main(World, globals()))
