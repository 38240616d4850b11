"""The life of containers, from create to rm: one table of checks, run over both isolation classes.

What is left behind is counted after each: processes, run folders, mounts, control groups, network leases.
"""
import json
import os
import pathlib
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import time

from e2e import ENGINE, IMAGE, KILN, LIMIT, Skip, main, same, says, status, wait_for

CLASSES = ("vm", "process")
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Class:
    """kiln, with containers of one class."""

    def __init__(self, world, name):
        self.w = world
        self.name = name
        self.flags = ["--isolation", name, "--network", "none"]
        if name == "vm":
            self.flags += ["--engine", ENGINE, "--kernel", world.kernel]
        elif os.geteuid() != 0:
            raise Skip("not root")

    def kiln(self, *words, **more):
        return self.w.kiln(*words, **more)

    def good(self, *words, **more):
        done = self.kiln(*words, **more)
        status(done, 0)
        return done.stdout.decode()

    def run(self, *command, flags=(), **more):
        return self.kiln("run", *self.flags, *flags, IMAGE, *command, **more)

    def detached(self, name, *command, flags=()):
        done = self.run(*command, flags=["-d", "--name", name, *flags])
        status(done, 0)
        return done.stdout.decode().strip()

    def popen(self, *words, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen([KILN, *words], env=self.w.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def record(self, name):
        return self.w.folder / "store" / "containers" / os.readlink(self.w.folder / "store" / "containers" / "names" / name)

    def state(self, name):
        """As its record has it, after kiln looked at it."""
        self.kiln("ps", "-a")
        return json.loads((self.record(name) / "state.json").read_text())

    def logged(self, name, *text):
        wait_for(lambda: all(t in self.good("logs", name) for t in text), lambda: self.good("logs", name))


def ids(w):
    """Every container there ever was in this store."""
    found = set()
    for log in (w.folder / "store").glob("events.log*"):
        for line in log.read_text().splitlines():
            event = json.loads(line)
            if event["Type"] == "container":
                found.add(event["id"])
    return found


def left(w):
    """What containers that are gone could have left, besides processes and run folders."""
    every = ids(w)
    found = [str(p) for p in (w.folder / "store" / "containers").glob("*") if p.name not in ("names", "lock")]
    found += [str(p) for p in (w.folder / "store" / "containers" / "names").glob("*")]
    found += [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if str(w.folder) in line]
    for group in pathlib.Path("/sys/fs/cgroup").rglob("kiln-*"):
        if any(i in group.name for i in every):
            found.append(str(group))
    return found


def bound(check_of_class, name):
    def test(w):
        try:
            check_of_class(Class(w, name))
            wait_for(lambda: not left(w), lambda: left(w), 30)
        except BaseException:  # what a failure left must not stand in the next one's way
            kill_all(w)
            shutil.rmtree(w.folder / "store" / "containers", ignore_errors=True)
            raise
    return test


# ---- one after another


@check
def what_it_says_and_how_it_ends(c):
    done = c.run("sh", "-c", "echo out; echo err >&2; exit 3", flags=["--rm"])
    same((done.returncode, done.stdout, done.stderr), (3, b"out\n", b"err\n"))
    status(c.run("nosuch", flags=["--rm"]), 127)
    status(c.run("/etc", flags=["--rm"]), 126)
    status(c.run("sh", "-c", "sleep 1000 & kill -9 $!; wait $!", flags=["--rm"]), 137)


@check
def one_that_ended_stays_until_it_is_removed(c):
    status(c.run("sh", "-c", "echo said; exit 4", flags=["--name", "stays"]), 4)
    same(c.state("stays")["status"], "exited")
    same(c.state("stays")["exit_code"], 4)
    same(c.good("logs", "stays"), "said\n")
    same(c.good("wait", "stays"), "4\n")
    done = c.run("true", flags=["--name", "stays"])
    status(done, 125)
    says(done, "stays", "in use")
    same(c.good("rm", "stays"), "stays\n")
    done = c.kiln("rm", "stays")
    status(done, 1)
    says(done, "no such container: stays")


@check
def in_the_background_it_goes_on(c):
    ident = c.detached("back", "sh", "-c", "echo begun; while :; do sleep 0.1; done")
    same(len(ident), 64)
    same(c.state("back")["status"], "running")
    c.logged("back", "begun")
    done = c.kiln("rm", "back")
    status(done, 1)
    says(done, "running")
    same(c.good("stop", "-t", "0", ident[:10]), ident[:10] + "\n")
    assert c.state("back")["exit_code"] in (137, 143), "by the kill, or by what asked it"
    c.good("rm", "back")


@check
def stop_asks_first(c):
    c.detached("asked", "sh", "-c", "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    c.logged("asked", "ready")
    same(c.good("stop", "-t", "60", "asked"), "asked\n")
    same(c.state("asked")["exit_code"], 5)
    assert c.good("logs", "asked").endswith("asked\n")
    same(c.good("stop", "asked"), "asked\n")  # as docker: it is stopped
    c.good("rm", "asked")


@check
def the_signal_to_stop_can_be_another(c):
    c.detached("usr", "sh", "-c", "trap 'exit 6' USR1; trap '' TERM; echo ready; while :; do sleep 0.05; done",
               flags=["--stop-signal", "SIGUSR1"])
    c.logged("usr", "ready")
    c.good("stop", "-t", "60", "usr")
    same(c.state("usr")["exit_code"], 6)
    c.good("rm", "usr")


@check
def signals_come_in(c):
    c.detached("sig", "sh", "-c", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done")
    c.logged("sig", "ready")
    same(c.good("kill", "-s", "HUP", "sig"), "sig\n")
    c.logged("sig", "hup")
    done = c.kiln("kill", "-s", "NOSUCH", "sig")
    status(done, 125)
    says(done, "invalid signal")
    same(c.good("kill", "sig"), "sig\n")
    same(c.state("sig")["exit_code"], 137)
    done = c.kiln("kill", "sig")
    status(done, 1)
    says(done, "not running")
    c.good("rm", "sig")


@check
def what_was_written_is_there_after_a_restart(c):
    c.detached("files", "sh", "-c", "cat /file; echo line >> /file; exec sleep 1000")
    wait_for(lambda: c.kiln("exec", "files", "test", "-e", "/file").returncode == 0, "the file is not written")
    same(c.good("restart", "-t", "0", "files"), "files\n")
    c.logged("files", "line")
    same(c.state("files")["status"], "running")
    same(c.good("rm", "-f", "files"), "files\n")


@check
def created_is_not_started(c):
    ident = c.good("create", *c.flags, "--name", "made", "-i", IMAGE, "sh", "-c", "read x; echo got $x").strip()
    same(len(ident), 64)
    same(c.state("made")["status"], "created")
    same(c.good("start", "-ai", "made", input=b"this\n"), "got this\n")
    same(c.good("start", "-ai", "made", input=b"that\n"), "got that\n")
    same(c.good("logs", "made"), "got this\ngot that\n")
    c.good("rm", "made")


@check
def start_of_one_that_runs_is_no_failure(c):
    c.detached("twice", "sleep", "1000")
    same(c.good("start", "twice"), "twice\n")
    c.good("rm", "-f", "twice")


@check
def names_change(c):
    c.detached("old", "sleep", "1000")
    c.good("rename", "old", "new")
    status(c.kiln("stop", "old"), 1)
    c.good("create", *c.flags, "--name", "other", IMAGE, "true")
    done = c.kiln("rename", "new", "other")
    status(done, 1)
    says(done, "in use")
    c.good("rm", "-f", "new", "other")


@check
def paused_it_stands_still(c):
    c.detached("still", "sh", "-c", "while :; do echo tick; sleep 0.02; done")
    c.logged("still", "tick")
    same(c.good("pause", "still"), "still\n")
    same(c.state("still")["status"], "paused")
    before = c.good("logs", "still")
    time.sleep(0.3)
    assert len(c.good("logs", "still")) <= len(before) + 5 * 5, "it writes on"  # what was on its way
    done = c.kiln("pause", "still")
    status(done, 1)
    says(done, "already paused")
    same(c.good("unpause", "still"), "still\n")
    wait_for(lambda: len(c.good("logs", "still")) > len(before) + 100, "it does not go on")
    done = c.kiln("unpause", "still")
    status(done, 1)
    says(done, "not paused")
    c.good("pause", "still")
    c.good("stop", "-t", "0", "still")
    c.good("rm", "still")


@check
def logs_are_chosen(c):
    status(c.run("sh", "-c", "echo 1; echo 2 >&2", flags=["--name", "log"]), 0)
    done = c.kiln("logs", "log")
    same((done.stdout, done.stderr), (b"1\n", b"2\n"))
    c.good("rm", "log")
    status(c.run("sh", "-c", "echo 1; echo 3", flags=["--name", "log"]), 0)
    same(c.good("logs", "--tail", "1", "log"), "3\n")
    same(c.good("logs", "--tail", "0", "log"), "")
    same(c.good("logs", "--since", "1h", "log"), "1\n3\n")
    same(c.good("logs", "--until", "1h", "log"), "")
    for line in c.good("logs", "-t", "log").splitlines():
        assert line[:2] == "20" and line[30:31] == " " and line[29] == "Z", line
    status(c.kiln("logs", "--tail", "x", "log"), 125)
    c.good("rm", "log")


@check
def logs_follow_to_the_end(c):
    c.detached("follow", "sh", "-c", "for i in $(seq 2000); do echo line $i; done; exit 2")
    same(c.good("logs", "-f", "follow"), "".join(f"line {i}\n" for i in range(1, 2001)))
    c.good("rm", "follow")


@check
def logs_are_as_large_as_they_may_be(c):
    status(c.run("sh", "-c", "i=0; while [ $i -lt 400 ]; do echo line $i of four hundred; i=$((i+1)); done",
                 flags=["--name", "small", "--log-opt", "max-size=2k", "--log-opt", "max-file=2"]), 0)
    text = c.good("logs", "small")
    assert text.endswith("line 399 of four hundred\n") and "line 0 " not in text, text
    assert sum(f.stat().st_size for f in c.record("small").glob("log*")) <= 2 * 2048 + 40000  # one portion at the least
    c.good("rm", "small")


@check
def several_are_attached_at_once(c):
    c.detached("many", "sh", "-c", "read x; echo it is $x", flags=["-i"])
    watchers = [c.popen("attach", "--no-stdin", "many") for _ in range(3)]
    time.sleep(0.5)  # so that they are attached; if not, the next line shows nothing
    done = c.kiln("attach", "many", input=b"this\n")
    same((done.returncode, done.stdout), (0, b"it is this\n"))
    for p in watchers:
        out, err = p.communicate(timeout=LIMIT)
        same((p.returncode, out), (0, b"it is this\n"))
    done = c.kiln("attach", "many")
    status(done, 1)
    says(done, "stopped")
    c.good("rm", "many")


class Terminal:
    def __init__(self, c, *words):
        self.fd, far = pty.openpty()
        self.text = b""
        self.p = subprocess.Popen([KILN, *words], env=c.w.env, stdin=far, stdout=far, stderr=far,
                                  start_new_session=True)
        os.close(far)

    def expect(self, what):
        end = time.monotonic() + LIMIT
        while what not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.fd], [], [], 0.1)[0]:
                self.text += os.read(self.fd, 4096)
        self.text = self.text.partition(what)[2]

    def end(self):
        code = self.p.wait(LIMIT)
        os.close(self.fd)
        return code


@check
def keys_detach_and_it_goes_on(c):
    t = Terminal(c, "run", *c.flags, "-it", "--quiet", "--name", "tty", IMAGE, "sh", "-c",
                 "echo ready; while read x; do echo got $x; done; exit 9")
    t.expect(b"ready")
    os.write(t.fd, b"one\r")
    t.expect(b"got one")
    os.write(t.fd, b"\x10\x11")
    same(t.end(), 0)
    same(c.state("tty")["status"], "running")
    t = Terminal(c, "attach", "tty")
    os.write(t.fd, b"two\r")
    t.expect(b"got two")
    os.write(t.fd, b"\x04")
    same(t.end(), 9)
    c.good("rm", "tty")


@check
def it_restarts_as_it_was_told(c):
    c.detached("again", "sh", "-c", "echo begun; exit 4", flags=["--restart", "on-failure:2"])
    same(c.good("wait", "again"), "4\n")
    same(c.good("logs", "again"), "begun\n" * 3)
    same(c.state("again")["restart_count"], 2)
    c.good("rm", "again")
    c.detached("again", "true", flags=["--restart", "on-failure"])
    same(c.good("wait", "again"), "0\n")
    c.good("rm", "again")
    c.detached("again", "sh", "-c", "echo begun", flags=["--restart", "always"])
    c.logged("again", "begun\nbegun\n")
    c.good("stop", "again")
    same(c.state("again")["status"], "exited")
    c.good("rm", "again")
    # A kill by the stop signal is meant as a stop.
    c.detached("killed", "sh", "-c", "trap 'exit 3' TERM; echo begun; while :; do sleep 0.1; done",
               flags=["--restart", "on-failure"])
    c.logged("killed", "begun")
    c.good("kill", "-s", "TERM", "killed")
    same(c.good("wait", "killed"), "3\n")
    c.good("rm", "killed")


@check
def its_health_is_told(c):
    c.detached("health", "sleep", "1000", flags=["--health-cmd", "test ! -e /ill", "--health-interval", "100ms",
                                                 "--health-retries", "2"])
    wait_for(lambda: c.state("health")["health"] == "healthy", "it does not get healthy")
    c.good("exec", "health", "touch", "/ill")
    wait_for(lambda: c.state("health")["health"] == "unhealthy", "it does not get unhealthy")
    assert 1 <= len(c.state("health")["probe"]) <= 5
    c.good("exec", "health", "rm", "/ill")
    wait_for(lambda: c.state("health")["health"] == "healthy", "it does not get healthy again")
    c.good("rm", "-f", "health")


@check
def its_time_is_limited(c):
    done = c.run("sleep", "1000", flags=["--rm", "--timeout", "1s"])
    status(done, 124)
    says(done, "--timeout")


@check
def what_is_mistyped_is_told(c):
    for verb in ("start", "stop", "kill", "wait", "pause", "unpause", "restart", "rm", "logs", "attach"):
        done = c.kiln(verb, "nosuch")
        status(done, 1)
        says(done, "no such container: nosuch")
    done = c.kiln("rename", "nosuch", "other")
    says(done, "no such container: nosuch")
    done = c.run("true", flags=["--name", "a/b"])
    status(done, 125)
    says(done, "not a name")
    file = c.w.folder / "cid"
    status(c.run("true", flags=["--rm", "--cidfile", str(file)]), 0)
    same(len(file.read_text()), 64)
    done = c.run("true", flags=["--rm", "--cidfile", str(file)])
    status(done, 125)
    says(done, str(file))
    file.unlink()


@check
def of_two_with_one_name_one_is_made(c):
    both = [c.popen("create", *c.flags, "--name", "same", IMAGE, "true") for _ in range(8)]
    codes = [p.wait(LIMIT) for p in both]
    for p in both:
        p.communicate()
    same(sorted(codes), [0] + [125] * 7)
    starts = [c.popen("start", "same") for _ in range(4)]
    for p in starts:
        p.communicate(timeout=LIMIT)
        same(p.returncode, 0)
    c.good("wait", "same")
    c.good("rm", "same")


# ---- what is killed


def kill_all(w):
    for pid in w.processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@check
def a_killed_client_leaves_it_running(c):
    p = c.popen("run", *c.flags, "--name", "orphan", IMAGE, "sh", "-c", "echo ready; sleep 1000")
    same(p.stdout.readline(), b"ready\n")
    p.kill()
    p.communicate()
    same(c.state("orphan")["status"], "running")
    c.good("rm", "-f", "orphan")


@check
def a_killed_keeper_is_told_and_cleaned_up_after(c):
    c.detached("killed", "sleep", "1000")
    os.kill(c.state("killed")["keeper"], signal.SIGKILL)
    wait_for(lambda: c.state("killed")["status"] != "running", "it counts as running")
    state = c.state("killed")
    same((state["status"], state["exit_code"]), ("exited", 137))
    assert "killed" in state["error"], state
    c.w.assert_clean()
    c.good("start", "killed")
    same(c.state("killed")["status"], "running")
    c.good("rm", "-f", "killed")


@check
def a_killed_process_is_an_end(c):
    c.detached("victim", "sleep", "1000")
    os.kill(c.state("victim")["pid"], signal.SIGKILL)
    code = c.good("wait", "victim").strip()
    assert code in ("125", "137"), code
    c.good("rm", "victim")


@check
def a_kill_at_any_moment_leaves_nothing_that_misleads(c):
    rng = random.Random(5)
    for i in range(12):
        auto = ["--rm"] if i % 3 == 0 else []
        p = c.popen("run", *c.flags, *auto, "--name", "point", IMAGE, "sh", "-c", "sleep 0.1")
        time.sleep(rng.random() * (0.4 if c.name == "vm" else 0.2))
        kill_all(c.w)
        p.communicate(timeout=LIMIT)
        wait_for(lambda: not c.w.processes(), c.w.doing)
        listed = c.good("ps", "-a")
        assert "Up" not in listed, listed
        c.kiln("rm", "point")
        # The name is free, and a run folder that is nobody's goes with the next one.
        status(c.run("true", flags=["--name", "point"]), 0)
        c.good("rm", "point")
        c.w.assert_clean()


@check
def after_a_reboot_nothing_runs_and_all_can_be_started(c):
    for name in ("first", "second"):
        c.detached(name, "sleep", "1000")
    kill_all(c.w)
    wait_for(lambda: not c.w.processes(), c.w.doing)
    for file in sorted(c.w.run_folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
    for name in ("first", "second"):
        file = c.record(name) / "state.json"
        state = json.loads(file.read_text())
        state["boot_id"] = "00000000-0000-0000-0000-000000000000"
        file.write_text(json.dumps(state))
    for name in ("first", "second"):
        state = c.state(name)
        same((state["status"], state["error"]), ("exited", "the host restarted"))
        c.good("start", name)
        same(c.state(name)["status"], "running")
    c.good("rm", "-f", "first", "second")


def prepare(w):
    status(w.run("true"), 0)  # a template is there


def over_both(checks, into):
    """A test of each check and class."""
    for one in checks:
        for kind in CLASSES:
            into[f"test_{kind}_{one.__name__}"] = bound(one, kind)


if __name__ == "__main__":
    over_both(CHECKS, globals())
    sys.exit(main(globals()))
