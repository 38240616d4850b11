"""A machine's network card: taps with and without offloads, several queues, passt, restored machines.

Everything of the host's that takes part (taps, addresses, servers) lies in a network namespace that goes with the
test's process.

environment: KILN_NETRUN  the program that starts a container's machine with a given card (test/e2e/netrun.c)
"""
import ctypes
import hashlib
import http.server
import os
import pathlib
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time

from e2e import COLD, ENGINE, IMAGE, KILN, LIMIT, Skip, default_store, main, same, status, wait_for

NETRUN = os.environ.get("KILN_NETRUN") or str(pathlib.Path(KILN).parent / "test" / "e2e" / "netrun")
CLONE_NEWNET = 0x40000000
HOST, GUEST, HOST6, GUEST6 = "10.91.0.1", "10.91.0.2", "fd91::1", "fd91::2"
TAP = "kilncard0"
CARD = f"tap:{TAP}@ip={GUEST}/24@gw={HOST}@ip6={GUEST6}/64@gw6={HOST6}"
BIG = 100_000_000 if ENGINE != "interp" else 1_000_000
TEST_LIMIT = 400
WORDS = "console=ttyS0 panic=-1 quiet cryptomgr.notests"


def ip(*words):
    subprocess.run(["ip", *words], check=True, stdout=subprocess.DEVNULL)


class Server6(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)


def handler(w):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(w.bytes)))
            self.end_headers()
            self.wfile.write(w.bytes)

        def log_message(self, *_):
            pass
    return Handler


def serve_names():
    """A name server that knows every name: 192.0.2.80."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("198.51.100.53", 53))

    def run():
        while True:
            q, who = s.recvfrom(4096)
            end = q.index(b"\0", 12) + 5
            four = q[end - 4:end - 2] == b"\0\1"
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([192, 0, 2, 80]) if four else b""
            s.sendto(q[:2] + b"\x81\x80\0\1" + struct.pack(">H", bool(answer)) + b"\0\0\0\0" + q[12:end] + answer, who)
    threading.Thread(target=run, daemon=True).start()


def prepare(w):
    if os.geteuid() != 0:
        raise Skip("a network namespace wants root")
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun on this host")
    if not os.access(NETRUN, os.X_OK):
        raise Skip(f"{NETRUN} is not built")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise Skip(f"unshare: {os.strerror(ctypes.get_errno())}")
    ip("link", "set", "lo", "up")
    # A way out, which passt wants to see, and a name server.
    ip("link", "add", "out", "type", "veth", "peer", "name", "away")
    ip("link", "set", "away", "up")
    for a in ("198.51.100.1/24", "198.51.100.53/24", "192.0.2.80/24"):
        ip("addr", "add", a, "dev", "out")
    ip("-6", "addr", "add", "fd98::1/64", "dev", "out", "nodad")
    ip("link", "set", "out", "up")
    ip("route", "add", "default", "via", "198.51.100.2")
    ip("-6", "route", "add", "default", "via", "fd98::2")
    make_tap(TAP)
    w.bytes = os.urandom(BIG)
    w.sum = hashlib.sha256(w.bytes).hexdigest()
    w.http = Server6(("::", 8080), handler(w))
    threading.Thread(target=w.http.serve_forever, daemon=True).start()
    serve_names()


def make_tap(name, queues=1, address=True):
    ip("tuntap", "add", name, "mode", "tap", "vnet_hdr", *(["multi_queue"] if queues > 1 else []))
    if address:
        ip("addr", "add", f"{HOST}/24", "dev", name)
        ip("-6", "addr", "add", f"{HOST6}/64", "dev", name, "nodad")
    ip("link", "set", name, "up")


def words(*more, kernel=None):
    return [NETRUN, *(["-C"] if COLD else []), "-k", kernel or w_kernel(), *more]


def w_kernel():
    return os.environ.get("KILN_KERNEL") or WORLD.kernel


def guest(w, card, script, flags=(), kernel=None):
    global WORLD
    WORLD = w
    done = subprocess.run(words(*flags, "-i", IMAGE, card, "--", "sh", "-c", script, kernel=kernel), env=w.env,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT * 2, check=False)
    assert done.returncode == 0, f"status {done.returncode}: {done.stdout[-500:]!r} {done.stderr[-500:]!r}"
    return done.stdout.decode()


def start_guest(w, card, script, flags=()):
    global WORLD
    WORLD = w
    return subprocess.Popen(words(*flags, "-i", IMAGE, card, "--", "sh", "-c", script), env=w.env,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def connect(host, port, seconds=LIMIT):
    """To a server in a guest that may not be there yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            s = socket.create_connection((host, port), timeout=5)
            s.settimeout(LIMIT)
            return s
        except OSError:
            assert time.monotonic() < end, f"nobody listens at {host} port {port}"
            time.sleep(0.05)


def test_addresses_and_routes_are_there_before_the_command(w):
    out = guest(w, CARD + "@mtu=1400@dns=10.9.9.9",
                "ip addr show eth0; ip route; ip -6 route; cat /etc/resolv.conf")
    for text in (f"inet {GUEST}/24 brd 10.91.0.255", f"inet6 {GUEST6}/64", "mtu 1400", f"default via {HOST}",
                 f"default via {HOST6}", "nameserver 10.9.9.9"):
        assert text in out, f"'{text}' is not in {out}"
    assert "tentative" not in out


def test_ping_both_families(w):
    out = guest(w, CARD, f"ping -c 3 {HOST}; ping -6 -c 3 {HOST6}")
    same(out.count(" 0% packet loss"), 2)


def test_a_large_file_comes_whole(w):
    out = guest(w, CARD, f"wget -q -O - http://{HOST}:8080/big | sha256sum; "
                         f"wget -q -O - http://[{HOST6}]:8080/big | sha256sum")
    same(out.split()[0::2], [w.sum, w.sum])


def test_a_large_file_goes_whole(w):
    p = start_guest(w, CARD, f"head -c {BIG} /dev/zero | tr '\\0' 'k' | nc -l -p 7000; sleep 1")
    try:
        with connect(GUEST, 7000) as s:
            got = hashlib.sha256()
            n = 0
            while True:
                b = s.recv(1 << 20)
                if not b:
                    break
                got.update(b)
                n += len(b)
        same(n, BIG)
        same(got.hexdigest(), hashlib.sha256(b"k" * BIG).hexdigest())
    finally:
        p.kill()
        p.communicate()


def test_datagrams(w):
    out = guest(w, CARD, "nslookup some.name 198.51.100.53")
    assert "192.0.2.80" in out, out


def test_two_queue_pairs(w):
    make_tap("kilncard2", queues=2, address=False)
    ip("addr", "add", "10.92.0.1/24", "dev", "kilncard2")
    try:
        out = guest(w, "tap:kilncard2,queues=2@ip=10.92.0.2/24",
                    "ls -d /sys/class/net/eth0/queues/*; "
                    "for i in 1 2 3 4; do wget -q -O - http://10.92.0.1:8080/big | sha256sum & done; wait",
                    flags=["-c", "2"])
        same(out.count("tx-"), 2)
        same(out.count(w.sum), 4)
    finally:
        ip("link", "del", "kilncard2")


def test_a_rate_is_kept(w):
    if ENGINE == "interp":
        raise Skip("the interpreter is slower than the limit")
    begun = time.monotonic()
    guest(w, CARD.replace(TAP, TAP + ",rx-rate=40m"), f"wget -q -O /dev/null http://{HOST}:8080/big")
    took = time.monotonic() - begun
    assert took > BIG / (40 << 20) - 0.3, f"{BIG} bytes in {took} s"


def test_debians_kernel(w):
    kernel = default_store() / "kernels" / "debian"
    modules = kernel / "modules" / "list"
    if not modules.exists() or " net\n" not in modules.read_text() + "\n":
        raise Skip("no Debian kernel with the card's modules (make kernel-debian)")
    out = guest(w, CARD, f"uname -r; ping -c 2 {HOST}; ping -6 -c 2 {HOST6}; wget -q -O - http://{HOST}:8080/big | sha256sum",
                kernel=str(kernel))
    same(out.count(" 0% packet loss"), 2)
    assert w.sum in out


PASST = "user@ip=198.51.100.1/24@gw=198.51.100.2@ip6=fd98::1/64@gw6=fd98::2@dns=198.51.100.53@mtu=65520"


def wants_passt():
    if not shutil.which("passt"):
        raise Skip("no passt on this host")


def test_passt_carries_tcp_udp_and_names(w):
    wants_passt()
    out = guest(w, PASST, "wget -q -O - http://192.0.2.80:8080/big | sha256sum; "
                          "wget -q -O - http://some.name:8080/big | sha256sum")
    same(out.count(w.sum), 2)


def test_passt_publishes_ports(w):
    wants_passt()
    p = start_guest(w, PASST.replace("user", "user,publish=127.0.0.1/7001:7000", 1),
                    f"head -c {BIG} /dev/zero | nc -l -p 7000; sleep 1")
    try:
        end = time.monotonic() + LIMIT
        n = 0
        while n == 0:  # until somebody listens in there, passt takes calls and drops them
            assert time.monotonic() < end, "nothing came"
            with connect("127.0.0.1", 7001) as s:
                try:
                    s.sendall(b"go\n")
                    while True:
                        b = s.recv(1 << 20)
                        if not b:
                            break
                        n += len(b)
                except OSError:
                    n = 0
        same(n, BIG)
    finally:
        p.kill()
        p.communicate()


def test_a_port_that_is_taken_is_refused(w):
    wants_passt()
    done = subprocess.run([NETRUN, "-k", w.kernel, PASST.replace("user", "user,publish=8080", 1), "--", "true"],
                          env=w.env, capture_output=True, timeout=LIMIT, check=False)
    same(done.returncode, 125)
    assert b"8080: Address already in use" in done.stderr, done.stderr


# --- machines without a container: kiln boot -----------------------------------------------

INIT = b"""#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
ip addr add %s/24 dev eth0
ip link set eth0 up
for w in $(cat /proc/cmdline); do case $w in get) GET=1;; esac; done
echo up
if [ "$GET" ]; then
    ping -c 2 -W 10 %s | grep loss
    wget -q -O - http://%s:8080/big | sha256sum
    poweroff -f
fi
n=0
while true; do n=$((n + 1)); echo answer $n | nc -l -p 7000; done
""" % (GUEST.encode(), HOST.encode(), HOST.encode())


def cpio(files):
    """An initramfs in the newc format: (name, mode, bytes)."""
    out = b""
    for inode, (name, mode, data) in enumerate(files + [("TRAILER!!!", 0, b"")], 1):
        rdev = (5, 1) if mode & 0o170000 == 0o020000 else (0, 0)
        fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name) + 1, 0]
        entry = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        out += entry + b"\0" * (-len(entry) % 4) + data + b"\0" * (-len(data) % 4)
    return out


def boot_flags(w, words_too=""):
    kernel = pathlib.Path(w.kernel)
    vmlinux = kernel / "vmlinux" if kernel.is_dir() else kernel
    if kernel.name == "debian" or not vmlinux.exists():
        raise Skip("this wants a kernel with everything built in (make kernel)")
    initrd = w.folder / "initrd"
    if not initrd.exists():
        tools = ["sh", "mount", "ip", "nc", "cat", "ping", "grep", "wget", "sha256sum", "poweroff"]
        initrd.write_bytes(cpio([(d, 0o040755, b"") for d in ("dev", "proc", "bin")] +
                                [("dev/console", 0o020600, b""), ("init", 0o100755, INIT),
                                 ("bin/busybox", 0o100755, pathlib.Path(shutil.which("busybox")).read_bytes())] +
                                [("bin/" + t, 0o120777, b"busybox") for t in tools]))
    return ["--engine", ENGINE, "--kernel", str(vmlinux), "--initrd", str(initrd), "-m", "256m",
            "--cmdline", f"{WORDS} {words_too}"]


def test_without_offloads(w):
    """The driver takes neither checksums nor segments, so the host's kernel does that work."""
    done = w.kiln("boot", *boot_flags(w, "get virtio_net.csum=0 virtio_net.gso=0"), "--net", f"tap:{TAP}",
                  timeout=LIMIT * 2)
    status(done, 0)
    assert w.sum.encode() in done.stdout and b" 0% packet loss" in done.stdout, done.stdout[-500:]


def answer(w):
    with connect(GUEST, 7000) as s:
        return s.makefile().read()


def number(text):
    assert text.startswith("answer "), text
    return int(text.split()[1])


def test_a_server_that_is_restored_answers(w):
    """Its connections are gone; it listens as before, on a tap that is opened anew."""
    snap = str(w.folder / "server")
    p = subprocess.Popen([KILN, "boot", *boot_flags(w), "--net", f"tap:{TAP}", "--name", "server", "--console", "none"],
                         env=w.env, stdin=subprocess.DEVNULL)
    try:
        first = number(answer(w))
        done = w.kiln("snapshot", "create", "server", snap)
        status(done, 0)
        assert number(answer(w)) > first  # it went on
        done = w.kiln("fork", "server", "--name-prefix", "copy")
        status(done, 0)
        assert number(answer(w)) > first  # the network is the first one's alone
        status(w.kiln("stop", "copy-1"), 0)
    finally:
        p.send_signal(signal.SIGTERM)
        p.wait(LIMIT)
    for _ in range(2):
        p = subprocess.Popen([KILN, "restore", "--engine", ENGINE, "--net", f"tap:{TAP}", "--console", "none", snap],
                             env=w.env, stdin=subprocess.DEVNULL)
        try:
            assert number(answer(w)) >= first
        finally:
            p.send_signal(signal.SIGTERM)
            p.wait(LIMIT)


def test_a_machine_with_a_card_is_restored_without_a_network(w):
    snap = str(w.folder / "server")
    if not os.path.exists(snap):
        raise Skip("the test before this one made no snapshot")
    p = subprocess.Popen([KILN, "restore", "--engine", ENGINE, "--console", "none", "--name", "alone", snap], env=w.env,
                         stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: w.kiln("stop", "alone").returncode == 0, "it does not run")
    finally:
        p.send_signal(signal.SIGTERM)
        p.wait(LIMIT)


if __name__ == "__main__":
    sys.exit(main(globals()))
