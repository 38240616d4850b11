"""A terminal: raw mode, size, keys, and what is left of it afterwards."""
import fcntl
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

from e2e import IMAGE, KILN, LIMIT, main, same, wait_for


class Terminal:
    """A run with the far end of a pseudo terminal."""

    def __init__(self, world, command, rows=24, cols=80, flags=()):
        self.fd, far = pty.openpty()
        self.resize(rows, cols)
        self.before = termios.tcgetattr(far)
        self.far = far
        self.text = b""
        self.p = subprocess.Popen([KILN, "run", *world.flags(), "-it", "--quiet", *flags, IMAGE, *command],
                                  env=world.env, stdin=far, stdout=far, stderr=far, start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def expect(self, what):
        end = time.monotonic() + LIMIT
        while what not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.fd], [], [], 0.1)[0]:
                self.text += os.read(self.fd, 4096)
            else:
                assert self.p.poll() is None, self.text
        before, _, self.text = self.text.partition(what)
        return before

    def soon(self, what):
        """Whether it comes within a second."""
        end = time.monotonic() + 1
        while what not in self.text and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                self.text += os.read(self.fd, 4096)
            assert self.p.poll() is None, self.text
        found = what in self.text
        if found:
            self.text = self.text.partition(what)[2]
        return found

    def type(self, keys):
        os.write(self.fd, keys)

    def end(self):
        code = self.p.wait(LIMIT)
        same(termios.tcgetattr(self.far), self.before)
        os.close(self.fd)
        os.close(self.far)
        return code


def test_size_name_and_term(w):
    t = Terminal(w, ["sh", "-c", "stty size; tty; echo $TERM; echo ready; "
                     "while [ \"$(stty size)\" = '31 97' ]; do sleep 0.1; done; stty size; exit 5"], 31, 97)
    t.expect(b"31 97\r\n/dev/pts/0\r\nxterm\r\nready")
    t.resize(40, 120)
    os.killpg(t.p.pid, signal.SIGWINCH)
    t.expect(b"40 120")
    same(t.end(), 5)


def test_a_shell_on_a_terminal(w):
    t = Terminal(w, ["sh"])
    t.expect(b"# ")
    t.type(b"echo $((6 * 7))\r")
    t.expect(b"\n42\r\n")
    # Not before it runs: while the shell edits a line, the terminal makes no signals.
    t.type(b"echo go''ing; sleep 1000\r")
    t.expect(b"going")
    # The guest's terminal makes it a signal to sleep alone; the shell, not yet there, takes one as well.
    for _ in range(60):
        if t.soon(b"# "):
            break
        t.type(b" \x03")  # the blank: two in a row mean to stop a machine that does not answer
    else:
        raise AssertionError("no prompt after Ctrl-C")
    t.type(b"echo still $((1 + 1))\r")
    # At the prompt, not before: Ctrl-D typed while the terminal still collects lines is no key to the shell.
    t.expect(b"\nstill 2\r\n")
    t.expect(b"# ")
    t.type(b"\x04")
    same(t.end(), 0)


def test_output_of_both_streams_comes_in_order(w):
    t = Terminal(w, ["sh", "-c", "echo one; echo two >&2; echo three"])
    t.expect(b"one\r\ntwo\r\nthree\r\n")
    same(t.end(), 0)


def stopped(pid):
    """Whether every thread of the process stands still."""
    states = [task.read_text().rpartition(")")[2].split()[0] for task in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


def test_ctrl_c_twice_ends_a_machine_that_hangs(w):
    t = Terminal(w, ["sh", "-c", "echo ready; cat"])
    t.expect(b"ready")
    machine = [pid for pid in w.processes() if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "kiln-vmm"]
    same(len(machine), 1)
    os.kill(machine[0], signal.SIGSTOP)
    wait_for(lambda: stopped(machine[0]), "a thread of the machine runs on")
    t.type(b"\x03\x03")
    same(t.end(), 130)


def test_i_and_t_without_a_terminal_is_refused(w):
    done = w.run("true", flags=["-it"])
    same(done.returncode, 125)
    assert b"terminal" in done.stderr, done.stderr


sys.exit(main(globals()))
