"""Networks as a user has them: both classes on one bridge, names, published ports, `kiln network`.

All of it in a network namespace of its own, where links and tables of nftables are counted.
"""
import json
import os
import signal
import socket
import subprocess
import sys

from e2e import ENGINE, IMAGE, Skip, main, says, status, wait_for

if os.geteuid() == 0 and not os.environ.get("KILN_E2E_NETNS"):
    os.environ["KILN_E2E_NETNS"] = "1"
    os.execvp("unshare", ["unshare", "-n", sys.executable, *sys.argv])

SERVE = "while true; do echo hello from $0 | nc -l -p 80; done"


def prepare(w):
    if os.geteuid() != 0:
        raise Skip("needs root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    w.import_image()


def good(w, *words):
    done = w.kiln(*words)
    status(done, 0)
    return done.stdout.decode().strip()


def flags(w, kind):
    return ["--isolation", kind] + (["--engine", ENGINE, "--kernel", w.kernel] if kind == "vm" else [])


def detached(w, kind, name, *command, more=()):
    return good(w, "run", "-d", "--name", name, *flags(w, kind), *more, IMAGE, *command)


def once(w, kind, script, *more):
    return good(w, "run", "--rm", *flags(w, kind), *more, IMAGE, "sh", "-c", script)


def on_host():
    """What kiln made in this namespace: interfaces and tables."""
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout)
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, check=True).stdout.decode()
    return [k["ifname"] for k in links if k["ifname"] != "lo"] + tables.splitlines()


def clean(w):
    wait_for(lambda: not on_host(), lambda: f"left: {on_host()}")


def ask(port, host="127.0.0.1"):
    try:
        with socket.create_connection((host, port), 2) as s:
            s.settimeout(2)
            return s.recv(100).decode().strip()
    except OSError:
        return ""


def test_both_classes_are_on_one_segment_and_know_each_other_by_name(w):
    good(w, "network", "create", "--ipv6", "lan")
    detached(w, "vm", "machine", "sh", "-c", SERVE, "machine", more=["--network", "lan", "--network-alias", "m"])
    detached(w, "process", "box", "sh", "-c", SERVE, "box", more=["--network", "lan"])
    for kind, other in (("process", "machine"), ("vm", "box"), ("process", "m"), ("process", "box.lan")):
        script = f"for i in 1 2 3 4 5 6 7 8 9; do nc -w 3 {other} 80 < /dev/null && exit 0; sleep 1; done; exit 1"
        assert "hello from" in once(w, kind, script, "--network", "lan"), (kind, other)
    address = json.loads(good(w, "network", "inspect", "lan"))[0]["Containers"]
    assert sorted(c["Name"] for c in address.values()) == ["box", "machine"]
    says(w.kiln("network", "rm", "lan"), "network lan has active endpoints")
    good(w, "rm", "-f", "box", "machine")
    good(w, "network", "rm", "lan")
    clean(w)


def test_a_published_port_reaches_the_container(w):
    for kind in ("process", "vm"):
        detached(w, kind, "web", "sh", "-c", SERVE, kind, more=["-p", "8081:80", "-p", "127.0.0.1:0:80"])
        wait_for(lambda: ask(8081) == f"hello from {kind}", "the container does not answer")
        free = int(good(w, "port", "web", "80").split("\n")[-1].rsplit(":", 1)[1])
        assert free > 0
        taken = w.kiln("run", "--rm", *flags(w, kind), "-p", "8081:80", IMAGE, "true")
        status(taken, 125)
        says(taken, "failed to bind host port 0.0.0.0:8081/tcp: address already in use")
        good(w, "rm", "-f", "web")
        assert ask(8081) == ""
    clean(w)


def test_a_running_container_joins_and_leaves_a_network(w):
    good(w, "network", "create", "one")
    good(w, "network", "create", "two")
    detached(w, "process", "a", "sleep", "1000", more=["--network", "one"])
    detached(w, "process", "b", "sh", "-c", SERVE, "b", more=["--network", "two"])
    detached(w, "vm", "m", "sleep", "1000", more=["--network", "one"])
    good(w, "network", "connect", "--alias", "alpha", "two", "a")
    assert "eth1" in good(w, "exec", "a", "ip", "link")
    address = json.loads(good(w, "inspect", "b"))[0]["NetworkSettings"]["Networks"]["two"]["IPAddress"]
    assert "hello" in good(w, "exec", "a", "nc", "-w", "3", address, "80")
    says(w.kiln("network", "connect", "two", "a"), "already exists in network two")
    says(w.kiln("network", "connect", "two", "m"), "a running machine takes no further network card")
    good(w, "network", "disconnect", "two", "a")
    assert "eth1" not in good(w, "exec", "a", "ip", "link")
    says(w.kiln("network", "disconnect", "two", "a"), "is not connected to network two")
    good(w, "rm", "-f", "a", "b", "m")
    assert good(w, "network", "prune", "-f").split() == ["one", "two"]
    clean(w)


def test_networks_are_listed_and_described(w):
    long = good(w, "network", "create", "--subnet", "198.18.4.0/24", "--label", "a=b", "-o", "mtu=1400", "n1")
    good(w, "network", "create", "--internal", "n2")
    assert good(w, "network", "ls", "-q", "--filter", "name=n1") == long[:12]
    assert good(w, "network", "ls", "--no-trunc", "-q", "--filter", "label=a=b") == long
    assert good(w, "network", "ls", "--format", "{{.Name}} {{.Internal}}", "--filter", "name=n2") == "n2 true"
    known = json.loads(good(w, "network", "inspect", long[:6]))[0]
    assert known["IPAM"]["Config"] == [{"Subnet": "198.18.4.0/24", "Gateway": "198.18.4.1"}]
    assert known["Labels"] == {"a": "b"} and known["Options"] == {"mtu": "1400"}
    says(w.kiln("network", "create", "n1"), "network with name n1 already exists")
    says(w.kiln("network", "create", "--subnet", "198.18.4.128/25", "n3"), "Pool overlaps")
    says(w.kiln("network", "create", "host"), "predefined host network")
    says(w.kiln("network", "rm", "n9"), "network n9 not found")
    bad = w.kiln("run", "--rm", *flags(w, "process"), "--network", "n9", IMAGE, "true")
    status(bad, 125)
    says(bad, "network n9 not found")
    assert good(w, "network", "rm", "n1", "n2").split() == ["n1", "n2"]
    clean(w)


def test_a_killed_keeper_leaves_nothing_for_long(w):
    for kind in ("process", "vm"):
        detached(w, kind, "k", "sleep", "1000", more=["-p", "8082:80"])
        record = json.loads(good(w, "inspect", "k"))[0]
        for pid in w.processes():
            try:
                with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                    if f.read().strip() == "kiln-keeper":
                        os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        wait_for(lambda: "k" not in good(w, "ps", "--format", "{{.Names}}").split(), "ps still says that it runs")
        assert record["Id"] in good(w, "ps", "-aq", "--no-trunc")
        # its port is free for the next at once
        assert once(w, "process", "echo yes", "-p", "8082:80") == "yes"
        good(w, "rm", "k")
    clean(w)


def test_a_process_container_joins_another_and_a_machine_says_what_it_can(w):
    detached(w, "process", "x", "sh", "-c", SERVE, "x", more=["--network", "none"])
    script = "for i in 1 2 3 4 5; do nc -w 3 127.0.0.1 80 < /dev/null && exit 0; sleep 1; done; exit 1"
    assert once(w, "process", script, "--network", "container:x") == "hello from x"
    says(w.kiln("run", "--rm", *flags(w, "vm"), "--network", "host", IMAGE, "true"),
         "a machine has a network stack of its own")
    says(w.kiln("run", "--rm", *flags(w, "process"), "--network", "container:nosuch", IMAGE, "true"), "nosuch")
    good(w, "rm", "-f", "x")
    clean(w)


sys.exit(main(globals()))
