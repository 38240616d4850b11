"""Signals, time limits, and what is left behind: nothing."""
import os
import signal
import sys
import time

from e2e import LIMIT, Skip, catches, main, same, says, status, wait_for


def ready(p):
    """Wait until the command has said its first line."""
    same(p.stdout.readline(), b"ready\n")


def finish(p):
    code = p.wait(LIMIT)
    for stream in (p.stdin, p.stdout, p.stderr):
        stream.close()
    return code


def test_a_signal_reaches_the_command(w):
    p = w.start("sh", "-c", "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.1; done")
    ready(p)
    p.send_signal(signal.SIGTERM)
    same(p.stdout.readline(), b"got\n")
    same(finish(p), 9)


def test_one_ctrl_c_ends_what_does_not_catch_it(w):
    p = w.start("sh", "-c", "echo ready; exec sleep 1000")
    ready(p)
    p.send_signal(signal.SIGINT)
    same(finish(p), 130)


def test_ctrl_c_twice_ends_what_ignores_it(w):
    p = w.start("sh", "-c", "trap '' INT; echo ready; while :; do sleep 1; done")
    ready(p)
    p.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert p.poll() is None
    # Two signals that come before the first was taken are one.
    end = time.monotonic() + LIMIT
    while p.poll() is None and time.monotonic() < end:
        p.send_signal(signal.SIGINT)
        time.sleep(0.1)
    same(finish(p), 130)


def test_ctrl_c_ends_a_machine_that_boots(w):
    # If it is up already when the signal comes, the command is ended by it: the same status.
    p = w.start("sleep", "1000")
    wait_for(lambda: catches(p.pid, signal.SIGINT), "kiln does not take SIGINT in hand")
    p.send_signal(signal.SIGINT)
    same(finish(p), 130)


def test_timeout(w):
    for limit in ("1s", "6s"):  # likely while it boots, likely while the command runs
        done = w.run("sleep", "1000", flags=["--timeout", limit])
        status(done, 124)
        says(done, "--timeout")


def named(w, name):
    """Processes of the test's by the name they gave themselves."""
    return [pid for pid in w.processes() if comm(pid) == name]


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return ""


def test_a_container_outlives_its_killed_client(w):
    p = w.start("sh", "-c", "echo ready; read x", flags=["-i"])
    ready(p)
    p.kill()
    p.wait(LIMIT)
    # Its input has ended with the client, so it ends as well, and leaves nothing.
    finish(p)
    w.assert_clean()


def test_a_killed_keeper_leaves_nothing(w):
    p = w.start("sh", "-c", "echo ready; sleep 1000")
    ready(p)
    same(len(named(w, "kiln-vmm")), 1)
    os.kill(named(w, "kiln-keeper")[0], signal.SIGKILL)
    same(finish(p), 125)
    status(w.kiln("ps", "-a"), 0)  # whoever looks next takes it off its network
    w.assert_clean()


def test_a_killed_machine_is_a_sentence(w):
    p = w.start("sh", "-c", "echo ready; sleep 1000")
    ready(p)
    os.kill(named(w, "kiln-vmm")[0], signal.SIGKILL)
    same(p.wait(LIMIT), 125)
    text = p.stderr.read()
    assert b"killed" in text, text
    finish(p)


def test_a_reboot_inside_ends_the_container_alone(w):
    done = w.run("reboot", "-f")
    # reboot(2) in a PID namespace ends its caller with 0 and all others by a signal; whichever comes first
    assert done.returncode in (0, 129, 130, 137), done


def test_a_panic_of_the_guest_is_a_sentence(w):
    done = w.sh("echo c > /proc/sysrq-trigger || exit 77; sleep 1000", flags=["--quiet"])
    if done.returncode == 77:
        raise Skip("this guest kernel has no sysrq")
    status(done, 125)
    says(done, "the guest kernel stopped: sysrq")


def test_a_name_is_taken_while_it_runs(w):
    p = w.start("sh", "-c", "echo ready; read x", flags=["-i", "--name", "web"])
    ready(p)
    done = w.run("true", flags=["--name", "web"])
    status(done, 125)
    says(done, "web")
    p.stdin.write(b"\n")
    p.stdin.flush()
    same(finish(p), 0)
    status(w.run("true", flags=["--name", "web"]), 0)


def test_several_at_once_do_not_meet(w):
    runs = [w.start("sh", "-c", f"echo ready; echo {n} > /tmp/n; sleep 1; cat /tmp/n; exit {n}") for n in range(4)]
    for n, p in enumerate(runs):
        same(p.stdout.read(), b"ready\n%d\n" % n)
        same(finish(p), n)


def test_a_process_left_in_the_background_goes_with_its_container(w):
    done = w.sh("sleep 1000 & sleep 1000 & echo done")
    status(done, 0)
    same(done.stdout, b"done\n")


sys.exit(main(globals()))
