"""What one does with a container and its storage: exec, cp, diff, commit, top, stats, events, port, update, inspect,
volumes and mounts. One table of checks, run over both isolation classes.
"""
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import time

from e2e import IMAGE, KILN, LIMIT, main, same, says, status, wait_for
from t_lifecycle import over_both, prepare  # noqa: F401 (main() calls prepare)

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def out(c, *words, **more):
    return c.good(*words, **more).strip()


def refused(done, code, *words):
    status(done, code)
    says(done, *words)


def room(c, name):
    """A folder of the check's own."""
    folder = c.w.folder / f"{name}-{c.name}"
    folder.mkdir()
    return folder


def read(c, name, path):
    return c.good("exec", name, "cat", path)


# ---- exec


@check
def exec_says_what_it_says_and_ends_as_it_ends(c):
    c.detached("x", "sleep", "1000", flags=["-e", "A=1", "-w", "/tmp"])
    done = c.kiln("exec", "x", "sh", "-c", "echo out; echo err >&2; exit 3")
    same((done.returncode, done.stdout, done.stderr), (3, b"out\n", b"err\n"))
    status(c.kiln("exec", "x", "nosuch"), 127)
    status(c.kiln("exec", "x", "/etc"), 126)
    status(c.kiln("exec", "x", "sh", "-c", "kill -9 $$"), 137)
    status(c.kiln("exec", "-u", "nobody-known", "x", "true"), 125)
    same(out(c, "exec", "x", "sh", "-c", "echo $A; pwd"), "1\n/tmp")
    same(out(c, "exec", "-e", "A=2", "-e", "B=3", "-w", "/", "x", "sh", "-c", "echo $A$B; pwd"), "23\n/")
    same(out(c, "exec", "-u", "65534:65534", "x", "id", "-u"), "65534")
    file = c.w.folder / "env"
    file.write_text("C=from file\n")
    same(out(c, "exec", "--env-file", file, "x", "sh", "-c", "echo $C"), "from file")
    same(c.kiln("exec", "-i", "x", "cat", input=b"typed").stdout, b"typed")
    same(c.kiln("exec", "x", "cat", input=b"typed").stdout, b"")
    c.good("rm", "-f", "x")


@check
def exec_detached_goes_on_alone(c):
    c.detached("x", "sleep", "1000")
    same(c.good("exec", "-d", "x", "sh", "-c", "sleep 0.2; echo here > /mark; sleep 1000"), "")
    wait_for(lambda: c.kiln("exec", "x", "cat", "/mark").stdout == b"here\n", lambda: "no mark")
    c.good("rm", "-f", "x")


@check
def exec_has_a_terminal_of_its_own(c):
    c.detached("x", "sleep", "1000")
    done = subprocess.run(["script", "-qec", f"stty rows 33 cols 77; {KILN} exec -it x sh -c 'tty; stty size; exit 4'",
                           "/dev/null"], env=c.w.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT,
                          check=False)
    same(done.returncode, 4)
    assert b"/dev/pts/" in done.stdout and b"33 77" in done.stdout, done.stdout
    refused(c.kiln("exec", "-it", "x", "true", input=b""), 125, "not a terminal")
    c.good("rm", "-f", "x")


@check
def exec_needs_one_that_runs(c):
    ident = c.detached("x", "sleep", "1000")
    status(c.kiln("exec", ident[:12], "true"), 0)
    c.good("pause", "x")
    refused(c.kiln("exec", "x", "true"), 125, "x is paused, unpause the container before exec")
    c.good("unpause", "x")
    c.good("kill", "x")
    c.good("wait", "x")
    refused(c.kiln("exec", "x", "true"), 125, "x is not running")
    c.good("rm", "x")
    refused(c.kiln("exec", "x", "true"), 125, "no such container: x")
    status(c.kiln("exec"), 125)


# ---- files


def tree(folder):
    folder.mkdir(parents=True)
    (folder / "f").write_text("one\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "g").write_text("two\n")
    (folder / "link").symlink_to("f")
    (folder / "f").chmod(0o640)
    os.utime(folder / "f", (1000000000, 1000000000))
    return folder


@check
def files_are_copied_by_dockers_rules(c):
    here = room(c, "cp")
    tree(here / "d")
    c.detached("x", "sleep", "1000")
    c.good("exec", "x", "mkdir", "/there")
    c.good("cp", here / "d", "x:/new")  # as DEST
    c.good("cp", here / "d", "x:/there")  # into it
    c.good("cp", f"{here}/d/.", "x:/there")  # what is in it
    c.good("cp", here / "d" / "f", "x:/there/named")
    c.good("cp", here / "d" / "f", "x:/there/sub/")
    same(out(c, "exec", "x", "sh", "-c", "cd /; cat new/sub/g there/d/f there/sub/g there/named there/sub/f;"
             "readlink new/link; stat -c '%a %Y %u' new/f"),
         "two\none\ntwo\none\none\nf\n640 1000000000 0")
    c.good("cp", "x:/new", here / "back")
    c.good("cp", "x:/new", here)
    c.good("cp", "x:/new/.", here / "d")
    c.good("cp", "x:new/f", here / "f")
    same((here / "back" / "sub" / "g").read_text(), "two\n")
    same(os.readlink(here / "new" / "link"), "f")
    same((here / "f").stat().st_mtime, 1000000000)
    c.good("cp", "-L", "x:/new/link", here / "followed")
    same((here / "followed").read_text(), "one\n")
    c.good("cp", "x:/new/link", here / "itself")
    same(os.readlink(here / "itself"), "f")
    for source, dest, sentence in (
            ("x:/nosuch", here, "could not find the file /nosuch"),
            (here / "nosuch", "x:/", "No such file"),
            (here / "f", "x:/no/such", "no such directory: '/no'"),
            (here / "f", "x:/nosuch/", "no such directory"),
            (here / "d", "x:/new/f", "cannot copy directory"),
            ("x:/new", here / "f", "cannot copy directory"),
            ("x:/new/f", here / "no" / "where", "no such directory"),
            ("x:/a", "x:/b", "between containers"),
            (here, here, "at least one container"),
            ("nosuch:/a", here, "no such container: nosuch"),
    ):
        refused(c.kiln("cp", source, dest), 1, sentence)
    status(c.kiln("cp", "x:/a"), 125)
    c.good("rm", "-f", "x")


@check
def dash_is_a_tar(c):
    here = room(c, "tar")
    tree(here / "d")
    c.detached("x", "sleep", "1000")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as t:
        t.add(here / "d", "d")
    status(c.kiln("cp", "-", "x:/tmp", input=buffer.getvalue()), 0)
    same(read(c, "x", "/tmp/d/sub/g"), "two\n")
    done = c.kiln("cp", "x:/tmp/d", "-")
    status(done, 0)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as t:
        same(sorted(t.getnames()), ["d", "d/f", "d/link", "d/sub", "d/sub/g"])
        same(t.extractfile("d/f").read(), b"one\n")
    refused(c.kiln("cp", "-", "x:/etc/passwd", input=buffer.getvalue()), 1, "not a directory")
    refused(c.kiln("cp", "-", "x:/", input=b"no tar at all" * 100), 1, "tar")
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as t:
        t.addfile(tarfile.TarInfo("../../evil"))
    refused(c.kiln("cp", "-", "x:/tmp", input=evil.getvalue()), 1, "leads out")
    c.good("rm", "-f", "x")


@check
def links_of_a_container_do_not_lead_out_of_it(c):
    here = room(c, "out")
    (here / "secret").write_text("the host's\n")
    c.detached("x", "sh", "-c", f"ln -s {here}/secret /l; ln -s {here} /d; mkdir /t; ln -s {here} /t/d; exec sleep 1000")
    wait_for(lambda: c.kiln("exec", "x", "test", "-h", "/t/d").returncode == 0, lambda: "no link")
    refused(c.kiln("cp", "-L", "x:/l", here / "got"), 1, "could not find")
    mine = room(c, "mine")
    (mine / "f").write_text("mine")
    c.kiln("cp", mine / "f", "x:/d/secret")
    same((here / "secret").read_text(), "the host's\n")
    c.good("cp", "x:/t", mine / "t")
    c.kiln("cp", "x:/t/.", mine / "t")
    same(sorted(p.name for p in here.iterdir()), ["secret"])
    c.good("rm", "-f", "x")


@check
def a_stopped_one_has_its_files(c):
    status(c.run("sh", "-c", "echo written > /kept; rm -f /etc/motd", flags=["--name", "x"]), 0)
    file = c.w.folder / "kept"
    c.good("cp", "x:/kept", file)
    same(file.read_text(), "written\n")
    file.write_text("changed\n")
    c.good("cp", file, "x:/kept")
    c.good("cp", file, "x:/late")
    listed = c.good("diff", "x").splitlines()
    for line in ("A /kept", "A /late", "C /etc", "D /etc/motd"):
        assert line in listed, listed
    c.good("start", "-a", "x")
    c.good("cp", "x:/late", file)
    same(file.read_text(), "changed\n")
    c.good("rm", "x")
    c.good("create", *c.flags, "--name", "x", IMAGE, "true")
    c.good("cp", file, "x:/early")
    same(c.good("diff", "x"), "A /early\n")
    c.good("rm", "x")
    c.good("create", *c.flags, "--storage-memory", "--name", "x", IMAGE, "true")
    refused(c.kiln("cp", "x:/etc/passwd", file), 1, "was in memory")
    c.good("rm", "x")


@check
def what_changed_is_told(c):
    c.detached("x", "sh", "-c", "mkdir /a; touch /a/b; chmod 600 /etc/passwd; rm /etc/group; touch /ready; exec sleep 1000")
    wait_for(lambda: c.kiln("exec", "x", "test", "-e", "/ready").returncode == 0, lambda: "not ready")
    same(sorted(c.good("diff", "x").splitlines()),
         ["A /a", "A /a/b", "A /ready", "C /etc", "C /etc/passwd", "D /etc/group"])
    refused(c.kiln("diff", "nosuch"), 1, "no such container: nosuch")
    c.good("rm", "-f", "x")


@check
def a_container_becomes_an_image(c):
    c.detached("x", "sh", "-c", "echo mine > /added; rm /etc/motd; touch /ready; exec sleep 1000", flags=["-v", "/vol"])
    wait_for(lambda: c.kiln("exec", "x", "test", "-e", "/ready").returncode == 0, lambda: "not ready")
    c.good("exec", "x", "touch", "/vol/not-in-it")
    digest = out(c, "commit", "-m", "why", "-a", "who", "-c", "ENV A=b c", "-c", 'CMD ["cat","/added"]', "x", "made:one")
    assert digest.startswith("sha256:"), digest
    same(c.good("run", *c.flags, "--rm", "made:one"), "mine\n")
    same(c.good("run", *c.flags, "--rm", "made:one", "sh", "-c", "echo $A; ls /vol; test -e /etc/motd || echo gone"),
         "b c\ngone\n")
    same(out(c, "exec", "x", "echo", "goes on"), "goes on")
    refused(c.kiln("commit", "-c", "FOO x", "x", "made:two"), 1, "not a valid change command")
    refused(c.kiln("commit", "x", "NOT A NAME"), 1, "name")
    c.good("rm", "-f", "-v", "x")
    c.good("rmi", "made:one")


# ---- looking at it


@check
def its_processes_are_listed(c):
    c.detached("x", "sh", "-c", "sleep 998 & sleep 999; true")
    wait_for(lambda: "sleep 999" in c.good("top", "x"), lambda: c.good("top", "x"))
    lines = c.good("top", "x").splitlines()
    for heading in ("PID", "PPID", "USER", "CMD"):
        assert heading in lines[0], lines
    same(len(lines), 4)
    rows = [line.split(None, 1) for line in c.good("top", "x", "-o", "pid,args").splitlines()[1:]]
    assert sorted(r[1] for r in rows)[-2:] == ["sleep 998", "sleep 999"], rows
    refused(c.kiln("top", "x", "-o", "nosuch"), 1, "no column 'nosuch'")
    c.good("kill", "x")
    c.good("wait", "x")
    refused(c.kiln("top", "x"), 1, "is not running")
    c.good("rm", "x")


@check
def what_it_uses_is_shown(c):
    c.detached("x", "sh", "-c", "while true; do :; done", flags=["-m", "128m"])
    row = json.loads(c.good("stats", "--no-stream", "--format", "json", "x"))
    same((row["Name"], row["PIDs"]), ("x", "1"))
    assert float(row["CPUPerc"].rstrip("%")) > 1 and "MiB" in row["MemUsage"], row
    c.good("kill", "x")
    c.good("wait", "x")
    same(len(c.good("stats", "--no-stream").splitlines()), 1)
    assert "--" in c.good("stats", "--no-stream", "-a"), "no row"
    refused(c.kiln("stats", "--no-stream", "nosuch"), 1, "no such container: nosuch")
    c.good("rm", "x")


@check
def events_are_told_and_followed(c):
    start = str(time.time())
    p = c.popen("events", "--filter", "container=x", "--filter", "event=die", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
    c.detached("x", "sleep", "1000")
    c.good("kill", "x")
    c.good("wait", "x")
    same(p.stdout.readline(), b"die x\n")
    p.kill()
    p.communicate(timeout=LIMIT)
    c.good("rm", "x")
    told = [json.loads(line)["Action"] for line in
            c.good("events", "--since", start, "--until", "0s", "--filter", "container=x", "--format", "json").splitlines()]
    for action in ("create", "start", "die", "destroy"):
        assert action in told, told
    assert told.index("create") < told.index("start") < told.index("die") < told.index("destroy"), told
    status(c.kiln("events", "--filter", "nosuch=1"), 125)
    status(c.kiln("events", "--since", "yesterdayish", "--until", "0s"), 1)


@check
def all_of_it_can_be_inspected(c):
    c.detached("x", "sleep", "1000", flags=["-e", "A=b", "-l", "k=v", "-v", "named:/v", "-m", "128m"])
    one = json.loads(c.good("inspect", "x"))[0]
    same((one["Name"], one["Path"], one["Args"]), ("/x", "sleep", ["1000"]))
    same((one["State"]["Status"], one["State"]["Running"], one["Kiln"]["Isolation"]), ("running", True, c.name))
    same((one["HostConfig"]["Memory"], one["Config"]["Labels"]), (128 << 20, {"k": "v"}))
    assert "A=b" in one["Config"]["Env"], one["Config"]
    same((one["Mounts"][0]["Type"], one["Mounts"][0]["Name"], one["Mounts"][0]["Destination"]), ("volume", "named", "/v"))
    same(out(c, "inspect", "-f", "{{.State.Pid}}", "x"), str(one["State"]["Pid"]))
    same(json.loads(c.good("inspect", "named"))[0]["Mountpoint"], one["Mounts"][0]["Source"])
    same(json.loads(c.good("inspect", "--type", "image", IMAGE))[0]["RepoTags"], [IMAGE + ":latest"])
    done = c.kiln("inspect", "nosuch")
    same((done.returncode, json.loads(done.stdout)), (1, []))
    refused(done, 1, "no such object: nosuch")
    refused(c.kiln("inspect", "--type", "volume", "x"), 1, "no such volume: x")
    c.good("rm", "-f", "x")
    c.good("volume", "rm", "named")


@check
def limits_change_while_it_runs(c):
    c.detached("x", "sleep", "1000", flags=["-m", "256m"])
    same(out(c, "update", "--pids-limit", "6", "x"), "x")
    done = c.kiln("exec", "x", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1000 >/dev/null 2>&1 & done; echo all")
    assert b"all" not in done.stdout, done
    c.good("update", "--pids-limit", "-1", "--cpus", "0.5", "x")
    if c.name == "process":
        c.good("update", "-m", "64m", "x")
        same(out(c, "inspect", "-f", "{{.HostConfig.Memory}}", "x"), str(64 << 20))
    else:
        c.good("update", "-m", "128m", "x")
        refused(c.kiln("update", "-m", "1g", "x"), 1, "keeps its memory")
    refused(c.kiln("update", "-m", "1k", "x"), 1, "minimum memory limit")
    refused(c.kiln("update", "--cpus", "1000", "x"), 1, "range of CPUs")
    refused(c.kiln("update", "x"), 125, "nothing is to be changed")
    refused(c.kiln("update", "-m", "100m", "nosuch"), 1, "no such container: nosuch")
    c.good("kill", "x")
    c.good("wait", "x")
    c.good("update", "-m", "200m", "x")
    same(out(c, "inspect", "-f", "{{.HostConfig.Memory}}", "x"), str(200 << 20))
    c.good("rm", "x")


@check
def ports_are_shown(c):
    c.good("create", *c.flags, "--name", "x", IMAGE, "true")
    same(c.good("port", "x"), "")
    refused(c.kiln("port", "x", "80"), 1, "no public port '80/tcp' published for x")
    refused(c.kiln("port", "x", "80/what"), 1, "invalid port")
    refused(c.kiln("port", "nosuch"), 1, "no such container: nosuch")
    c.good("rm", "x")


# ---- storage


@check
def volumes_outlive_containers(c):
    same(out(c, "volume", "create", "--label", "k=v", "data"), "data")
    same(out(c, "volume", "create", "data"), "data")
    status(c.run("sh", "-c", "echo kept > /d/f", flags=["--rm", "-v", "data:/d"]), 0)
    same(c.run("cat", "/d/f", flags=["--rm", "-v", "data:/d:ro"]).stdout, b"kept\n")
    done = c.run("touch", "/d/g", flags=["--rm", "-v", "data:/d:ro"])
    assert done.returncode == 1 and b"ead-only" in done.stderr, done
    same(json.loads(c.good("volume", "inspect", "data"))[0]["Labels"], {"k": "v"})
    same(c.good("volume", "ls", "-q", "--filter", "label=k"), "data\n")
    c.good("create", *c.flags, "--name", "x", "-v", "data:/d", IMAGE, "true")
    refused(c.kiln("volume", "rm", "data"), 1, "volume is in use - [")
    same(c.good("volume", "ls", "-q", "--filter", "dangling=true"), "")
    c.good("rm", "x")
    c.good("volume", "rm", "data")
    refused(c.kiln("volume", "rm", "data"), 1, "no such volume: data")
    same(c.good("volume", "rm", "-f", "data"), "data\n")
    refused(c.kiln("volume", "create", "not/a/name"), 1, "not a volume's name")
    refused(c.kiln("volume", "inspect", "data"), 1, "no such volume: data")


@check
def a_new_volume_has_what_the_image_has_there(c):
    status(c.run("sh", "-c", "test -s /etc/passwd && rm /etc/passwd", flags=["--rm", "-v", "etc:/etc"]), 0)
    status(c.run("sh", "-c", "test ! -e /etc/passwd && test -e /etc/group", flags=["--rm", "-v", "etc:/etc"]), 0)
    status(c.run("sh", "-c", "test -z \"$(ls /nothing)\"", flags=["--rm", "-v", "none:/nothing"]), 0)
    c.good("volume", "rm", "etc", "none")


@check
def nameless_volumes_go_with_their_container(c):
    status(c.run("touch", "/v/f", flags=["--rm", "-v", "/v"]), 0)
    same(c.good("volume", "ls", "-q"), "")
    status(c.run("touch", "/v/f", flags=["--name", "x", "-v", "/v"]), 0)
    name = out(c, "volume", "ls", "-q")
    same(len(name), 64)
    status(c.kiln("start", "-a", "x"), 0)
    c.good("rm", "x")
    same(out(c, "volume", "ls", "-q"), name)
    assert name in c.good("volume", "prune", "-f"), "not pruned"
    status(c.run("true", flags=["--name", "x", "-v", "/v", "-v", "stays:/w"]), 0)
    c.good("rm", "-v", "x")
    same(out(c, "volume", "ls", "-q"), "stays")
    same(out(c, "volume", "prune", "-f"), "freed 0B")
    assert "stays" in c.good("volume", "prune", "-f", "-a"), "not pruned"


@check
def folders_and_single_files_of_the_host(c):
    here = room(c, "bind")
    (here / "d" / "sub").mkdir(parents=True)
    (here / "d" / "f").write_text("host\n")
    (here / "one").write_text("single\n")
    (here / "two").write_text("not this\n")
    done = c.run("sh", "-c", "cat /d/f /etc/one.conf; echo more >> /etc/one.conf; echo new > /d/sub/g; ls /d/sub/..",
                 flags=["--rm", "-v", f"{here}/d:/d", "-v", f"{here}/one:/etc/one.conf"])
    same((done.returncode, done.stdout), (0, b"host\nsingle\nf\nsub\n"))
    same(((here / "one").read_text(), (here / "d" / "sub" / "g").read_text()), ("single\nmore\n", "new\n"))
    done = c.run("sh", "-c", "echo no > /one", flags=["--rm", "-v", f"{here}/one:/one:ro"])
    assert done.returncode != 0 and (here / "one").read_text() == "single\nmore\n", done
    status(c.run("touch", "/m/x", flags=["--rm", "-v", f"{here}/made/here:/m"]), 0)
    assert (here / "made" / "here" / "x").exists()
    refused(c.run("true", flags=["--rm", "--mount", f"type=bind,source={here}/nosuch,target=/m"]), 125,
         "bind source path does not exist")
    refused(c.run("true", flags=["--rm", "-v", f"{here}/d:relative"]), 125, "absolute path")
    refused(c.run("true", flags=["--rm", "-v", f"{here}/d:/x", "-v", f"{here}/d:/x"]), 125, "duplicate mount point")
    same(c.good("ps", "-aq"), "")


@check
def folders_in_memory(c):
    done = c.run("sh", "-c", "grep ' /t ' /proc/mounts; grep ' /dev/shm ' /proc/mounts | tail -1; touch /t/f /u/f",
                 flags=["--rm", "--tmpfs", "/t:size=1m,exec", "--mount", "type=tmpfs,target=/u", "--shm-size", "2m"])
    status(done, 0)
    text = done.stdout.decode()
    assert "tmpfs" in text and "size=1024k" in text and "size=2048k" in text, text
    assert "noexec" not in text.splitlines()[0] and "nosuid" in text.splitlines()[0], text


@check
def files_survive_a_stop(c):
    c.detached("x", "sh", "-c", "test -e /big || head -c 3000000 /dev/zero > /big; sync; echo ready; exec sleep 1000")
    c.logged("x", "ready")
    c.good("exec", "x", "sh", "-c", "echo last > /last")
    c.good("stop", "-t", "0", "x")
    c.good("start", "x")
    same(out(c, "exec", "x", "sh", "-c", "cat /last; stat -c %s /big"), "last\n3000000")
    c.good("rm", "-f", "x")


@check
def a_layer_in_memory_is_gone(c):
    status(c.run("touch", "/f", flags=["--name", "x", "--storage-memory", "--storage-size", "32m"]), 0)
    done = c.kiln("start", "-a", "x")
    status(done, 0)
    c.good("rm", "x")
    done = c.run("sh", "-c", "head -c 40000000 /dev/zero > /f", flags=["--rm", "--storage-memory", "--storage-size", "32m"])
    assert done.returncode == 1, done


# ---- a machine's own


def test_vm_a_layer_has_its_size(w):
    from t_lifecycle import Class
    c = Class(w, "vm")
    done = c.run("sh", "-c", "df -k / | tail -1; head -c 60000000 /dev/zero > /f", flags=["--rm", "--storage-size", "48m"])
    assert done.returncode == 1, done
    refused(c.run("true", flags=["--rm", "--storage-size", "1m"]), 125, "out of range")


def test_vm_a_disk_is_a_device_at_its_path(w):
    from t_lifecycle import Class
    c = Class(w, "vm")
    disk = w.folder / "disk"
    disk.write_bytes(b"on the disk\n".ljust(1 << 20, b"\0"))
    refused(c.run("true", flags=["--rm", "--device", "/dev/null:/dev/mine"]), 125, "takes block devices")
    refused(c.run("true", flags=["--rm", "--device", f"{disk}.none:/dev/mine"]), 125, "No such file")
    done = c.run("sh", "-c", "head -c 12 /dev/mine; printf changed > /dev/mine; sync",
                 flags=["--rm", "--device", f"{disk}:/dev/mine"])
    status(done, 0)
    same(done.stdout, b"on the disk\n")
    same(disk.read_bytes()[:12], b"changeddisk\n")
    done = c.run("sh", "-c", "head -c 7 /dev/theirs; printf x > /dev/theirs && sync",
                 flags=["--rm", "--device", f"{disk}:/dev/theirs:r"])
    same(done.stdout, b"changed")
    same(disk.read_bytes()[:1], b"c")


def test_vm_more_folders_than_places_are_refused(w):
    from t_lifecycle import Class
    c = Class(w, "vm")
    many = [f for i in range(8) for f in ("-v", f"{w.folder}:/m{i}")]
    refused(c.run("true", flags=["--rm", *many]), 125, "places for 7")


over_both(CHECKS, globals())
if __name__ == "__main__":
    sys.exit(main(globals()))
