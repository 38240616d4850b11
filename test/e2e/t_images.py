"""The image store as a user meets it: registries, full disks, kills in the middle."""
import hashlib
import http.server
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import threading

from e2e import KILN, LIMIT, Skip, main, same, says, status, wait_for


class Registry(http.server.BaseHTTPRequestHandler):
    """One image, x/y:1, as a registry serves it (OCI distribution-spec 1.1, pull)."""
    protocol_version = "HTTP/1.1"
    blobs = {}
    manifest = b""

    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        if self.path == "/v2/":
            self.answer(b"{}", "application/json")
        elif self.path == "/v2/x/y/manifests/1":
            self.answer(self.manifest, "application/vnd.oci.image.manifest.v1+json")
        elif self.path.startswith("/v2/x/y/blobs/") and name in self.blobs:
            self.answer(self.blobs[name], "application/octet-stream")
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def answer(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def serve(layer):
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
                         "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}).encode()
    Registry.blobs = {digest(b): b for b in (layer, config)}
    Registry.manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config),
                   "size": len(config)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(layer),
                    "size": len(layer)}]}).encode()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def pull(w, server, name):
    host = f"127.0.0.1:{server.server_address[1]}"
    conf = w.folder / "home" / ".config" / "containers" / "registries.conf"
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    return w.kiln("pull", "-q", f"{host}/{name}", env={"HOME": str(w.folder / "home")})


def images(w):
    done = w.kiln("images", "--no-trunc", "--format", "json")
    status(done, 0)
    return [json.loads(line) for line in done.stdout.splitlines()]


def name_of(image):
    return f"{image['Repository']}:{image['Tag']}"


def test_pull_from_a_registry(w):
    server = serve(tar([("hello", b"#!/bin/true\n")]))
    done = pull(w, server, "x/y:1")
    status(done, 0)
    found = [i for i in images(w) if name_of(i).endswith("/x/y:1")]
    same(len(found), 1)
    same(found[0]["Digest"], done.stdout.decode().strip())
    assert pathlib.Path(found[0]["Rootfs"]).exists()
    missing = pull(w, server, "x/y:2")
    status(missing, 125)
    says(missing, "x/y:2")
    server.shutdown()


def test_a_registry_that_lies(w):
    server = serve(tar([("hello", b"1")]))
    for name in Registry.blobs:
        Registry.blobs[name] = bytes(len(Registry.blobs[name]))
    done = pull(w, server, "x/y:1")
    status(done, 125)
    says(done)
    server.shutdown()


def test_long_names_are_the_same_commands(w):
    same(w.kiln("image", "ls", "-q").stdout, w.kiln("images", "-q").stdout)
    same(w.kiln("container", "ls", "-aq").stdout, b"")
    wrong = w.kiln("container", "sl")
    status(wrong, 125)
    says(wrong, "container")


def test_names_digests_and_removal(w):
    archive = w.folder / "root.tar"
    archive.write_bytes(tar([("bin/sh", b"x"), ("etc/passwd", b"root:x:0:0::/:/bin/sh\n")]))
    for name in ("one", "two"):
        status(w.kiln("import", str(archive), name), 0)
    listed = w.kiln("images", "-q").stdout.decode().split()
    table = w.kiln("images").stdout.decode()
    assert table.startswith("REPOSITORY") and "one" in table and "two" in table, table
    by_name = {name_of(i): i for i in images(w)}
    same(by_name["one:latest"]["Digest"], by_name["two:latest"]["Digest"])
    assert by_name["one:latest"]["ID"][7:19] in listed
    status(w.kiln("rmi", "one"), 0)
    assert pathlib.Path(by_name["two:latest"]["Rootfs"]).exists()
    gone = w.kiln("rmi", "one")
    status(gone, 1)
    says(gone, "one")
    status(w.kiln("rmi", by_name["two:latest"]["Digest"][7:19]), 0)
    assert not pathlib.Path(by_name["two:latest"]["Rootfs"]).exists()
    status(w.kiln("prune"), 0)


def test_a_folder_and_an_oci_layout(w):
    folder = w.folder / "folder"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "tool").write_bytes(b"x")
    (folder / "link").symlink_to("/etc/passwd")
    status(w.kiln("import", str(folder)), 0)
    layout = w.folder / "layout"
    done = subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", f"docker-archive:{w.folder / 'image.tar'}",
                           f"oci:{layout}:first"], check=False)
    if done.returncode != 0:
        raise Skip("skopeo does not work here")
    status(w.kiln("pull", f"oci:{layout}:first"), 0)
    names = [name_of(i) for i in images(w)]
    assert "folder:latest" in names and "layout:first" in names, names
    done = w.kiln("pull", f"oci:{layout}:second")
    status(done, 125)
    says(done, "second")


def test_no_space(w):
    small = w.folder / "small"
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)], check=False,
                                           stderr=subprocess.DEVNULL).returncode:
        raise Skip("a small file system needs a mount")
    try:
        archive = w.folder / "big.tar"
        archive.write_bytes(tar([("bin/big", os.urandom(8 << 20))]))
        for kind in (str(archive), str(w.folder / "image.tar")):
            done = w.kiln("import", kind, "big", env={"KILN_ROOT": str(small)})
            status(done, 125)
            says(done, "No space" if "image" in kind else "o space")
        same(list((small / "tmp").iterdir()), [])
        same(list((small / "rootfs").iterdir()), [])
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_kill_in_the_middle_leaves_nothing_for_long(w):
    archive = w.folder / "large.tar"
    with tarfile.open(archive, "w") as t:
        for n in range(24):
            info = tarfile.TarInfo(f"bin/{n}")
            info.size = 4 << 20
            t.addfile(info, io.BytesIO(os.urandom(info.size)))
    # Stopped, then looked at: an import that was faster than this loop is made again.
    for _ in range(20):
        child = subprocess.Popen([KILN, "import", "-q", str(archive), "large"], env=w.env, stderr=subprocess.DEVNULL)
        tmp = w.folder / "store" / "tmp"
        wait_for(lambda: any(tmp.glob("work.*/rootfs")) or child.poll() is not None, "no import begins")
        child.send_signal(signal.SIGKILL)
        if child.wait() == -signal.SIGKILL and "large:latest" not in [name_of(i) for i in images(w)]:
            break
        w.kiln("rmi", "large")
    assert "large:latest" not in [name_of(i) for i in images(w)]
    status(w.kiln("prune"), 0)
    w.assert_clean()
    status(w.kiln("import", "-q", str(archive), "large"), 0)
    status(w.kiln("rmi", "large"), 0)


def test_imports_at_once(w):
    archive = w.folder / "root2.tar"
    archive.write_bytes(tar([("bin/sh", b"y")]))
    children = [subprocess.Popen([KILN, "import", "-q", str(archive), f"many{n}"], env=w.env,
                                 stdout=subprocess.DEVNULL) for n in range(6)]
    same([c.wait(LIMIT) for c in children], [0] * 6)
    same(len([i for i in images(w) if name_of(i).startswith("many")]), 6)


sys.exit(main(globals()))
