"""Bad input: a clear sentence, a status of 125, nothing left behind."""
import gzip
import json
import os
import sys
import tarfile

from e2e import IMAGE, main, says, status


def refused(done, *words):
    status(done, 125)
    says(done, *words)
    assert done.stdout == b"", done.stdout


def test_flags(w):
    refused(w.kiln("run"), "IMAGE")
    refused(w.kiln("run", "--no-such-flag", IMAGE), "--no-such-flag")
    refused(w.kiln("run", "-Z", IMAGE), "-Z")
    refused(w.kiln("run", "--memory"), "--memory")
    refused(w.kiln("run", "-e", "=x", IMAGE), "name")
    refused(w.kiln("run", "-v", "tmp/x:/y", IMAGE), "-v")
    refused(w.kiln("run", "-v", "/tmp:x", IMAGE), "absolute path")
    refused(w.run("true", flags=["--mount", "type=bind,src=/no/such,dst=/x"]), "/no/such")
    refused(w.run("true", flags=["--name", "a/b"]), "a/b")
    refused(w.kiln("run", "--timeout", "soon", IMAGE), "soon")
    refused(w.kiln("no-such-verb"), "no-such-verb")


def test_memory_and_cpus_out_of_range(w):
    for size in ("1m", "31m", "999999g", "-5", "lots", "", "12q"):
        refused(w.run("true", flags=["-m", size]), "--memory")
    for cpus in ("0", "33", "-1", "two", "1.5.5", ""):
        refused(w.run("true", flags=["--cpus", cpus]), "--cpus")


def test_code_cache_out_of_range(w):
    for size in ("1023k", "1025m", "0", "-1", "big", ""):
        refused(w.run("true", flags=["--code-cache", size]), "--code-cache")
        refused(w.kiln("boot", "--kernel", "/no/such/kernel", "--code-cache", size), "--code-cache")


def test_engine_and_kernel(w):
    refused(w.kiln("run", "--kernel", w.kernel, "--engine", "steam", IMAGE, "true"), "steam")
    refused(w.kiln("run", "--kernel", "/no/such/kernel", IMAGE, "true"), "/no/such/kernel")
    empty = w.folder / "empty"
    empty.mkdir(exist_ok=True)
    refused(w.kiln("run", "--kernel", str(empty), IMAGE, "true"), "vmlinu")


def test_kernels_that_are_none(w):
    source = w.kernel if os.path.isfile(w.kernel) else None
    for name in ("vmlinuz", "vmlinux"):
        if source is None and os.path.exists(os.path.join(w.kernel, name)):
            source = os.path.join(w.kernel, name)
    with open(source, "rb") as f:
        whole = f.read()
    bad = w.folder / "bad-kernel"
    arm = bytearray(whole[:4096] if whole[:4] == b"\x7fELF" else b"\x7fELF\x02\x01\x01" + bytes(4089))
    arm[18:20] = (183).to_bytes(2, "little")
    for content in (b"", b"hello", bytes(100000), whole[:len(whole) // 2], bytes(arm)):
        bad.write_bytes(content)
        refused(w.kiln("run", "--kernel", str(bad), IMAGE, "true"), "kernel")


def test_an_unknown_image(w):
    refused(w.kiln("run", "--kernel", w.kernel, "oci:/no/such/layout", "true"))


def archive(w, name, members):
    path = w.folder / name
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data)
            import io
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def not_imported(w, path):
    done = w.kiln("import", path, "bad")
    assert done.returncode != 0, done
    says(done)
    assert not (w.folder / "escaped").exists()


def test_archives_that_climb_out(w):
    target = f"../../../../../../../../{w.folder}/escaped"
    link = tarfile.TarInfo("way")
    link.type = tarfile.SYMTYPE
    link.linkname = str(w.folder)
    for members in ([(target, b"x")], [("a/../../" + target, b"x")]):
        done = w.kiln("import", archive(w, "climb.tar", members), "bad")
        assert not (w.folder / "escaped").exists(), done
    w.kiln("import", archive(w, "link.tar", [(link, b""), ("way/escaped", b"x")]), "bad")
    assert not (w.folder / "escaped").exists()


def test_archives_that_lie(w):
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}).encode()
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l.tar"]}]).encode()
    layer = open(archive(w, "layer.tar", [("file", b"data")]), "rb").read()
    not_imported(w, archive(w, "digest.tar", [("c.json", config), ("l.tar", layer), ("manifest.json", manifest)]))
    not_imported(w, archive(w, "missing.tar", [("c.json", config), ("manifest.json", manifest)]))
    not_imported(w, archive(w, "garbage.tar", [("manifest.json", b"{[")]))
    broken = w.folder / "broken.tar.gz"
    broken.write_bytes(gzip.compress(layer)[:60])
    not_imported(w, str(broken))
    not_imported(w, "/no/such/archive")


sys.exit(main(globals()))
