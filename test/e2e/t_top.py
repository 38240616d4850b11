"""kiln top on a terminal: what it shows, its keys, and the terminal afterwards."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

from e2e import KILN, LIMIT, main, same, says, status, wait_for

LEAVE = b"\x1b[?1049l"  # xterm: back from the other screen


class Screen:
    """kiln top at the far end of a pseudo terminal; text is what it drew last."""

    def __init__(self, w, rows=24, cols=80, **env):
        self.fd, self.far = pty.openpty()
        self.resize(rows, cols)
        self.before = termios.tcgetattr(self.far)
        self.raw = b""
        self.p = subprocess.Popen([KILN, "top"], env={**w.env, "TERM": "xterm", **env}, stdin=self.far, stdout=self.far,
                                  stderr=self.far, start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        self.cols = cols

    def read(self):
        while select.select([self.fd], [], [], 0.05)[0]:
            self.raw += os.read(self.fd, 65536)

    def lines(self):
        """Of the last whole picture: they begin at home and end where the keys are told."""
        pictures = self.raw.split(b"\x1b[H")
        text = pictures[-1].decode(errors="replace")
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in text.split("\r\n")]

    def expect(self, condition):
        end = time.monotonic() + LIMIT
        while True:
            self.read()
            if condition(self.lines()):
                return
            assert time.monotonic() < end and self.p.poll() is None, self.lines()

    def shows(self, what):
        self.expect(lambda lines: any(what in line for line in lines))

    def wait_for(self, condition):
        """As wait_for(), and read meanwhile: who draws must not be held up."""
        wait_for(lambda: self.read() or condition(), lambda: self.lines())

    def wrote(self, what):
        self.wait_for(lambda: what in self.raw)

    def key(self, keys):
        os.write(self.fd, keys)

    def ended(self, want=0):
        """It is over, and the terminal is as it was."""
        end = time.monotonic() + LIMIT
        while self.p.poll() is None:
            self.read()
            assert time.monotonic() < end
        self.read()
        same(self.p.returncode, want)
        assert LEAVE in self.raw
        same(termios.tcgetattr(self.far), self.before)
        self.close()

    def close(self):
        self.p.kill()
        self.p.wait()
        os.close(self.fd)
        os.close(self.far)


def start(w, name, script="sleep 1000"):
    status(w.kiln("run", "-d", *w.base_flags(), "--network", "none", "--name", name, "kiln-test", "sh", "-c", script), 0)


def state(w, name):
    return w.kiln("ps", "-a", "-f", f"name={name}", "--format", "{{.State}}").stdout.decode().strip()


def test_without_a_terminal_it_says_so(w):
    done = w.kiln("top")
    status(done, 125)
    says(done, "terminal", "kiln stats")



def test_keys(w):
    start(w, "box-one")
    start(w, "box-two")
    s = Screen(w)
    s.shows("box-one")
    s.shows("box-two")
    s.shows("2 containers, 2 running")
    s.key(b"a")  # by name: box-one is the first, and with Home the selected one
    s.key(b"\x1b[H")
    s.key(b"p")
    s.wait_for(lambda: state(w, "box-one") == "paused")
    s.expect(lambda lines: any("box-one" in line and "pause" in line for line in lines))
    s.key(b"p")
    s.wait_for(lambda: state(w, "box-one") == "running")
    s.key(b"\x1b[B")
    s.key(b"K")
    s.shows("kill box-two? y or n")
    s.key(b"n")
    s.key(b"h")
    s.shows("turn the order round")
    s.key(b"h")
    s.key(b"K")
    s.shows("kill box-two? y or n")
    s.key(b"y")
    s.wait_for(lambda: state(w, "box-two") == "exited")
    s.expect(lambda lines: not any("box-two" in line for line in lines))
    s.key(b"q")
    s.ended()
    status(w.kiln("rm", "-f", "box-one", "box-two"), 0)


def test_the_log_and_a_shell(w):
    start(w, "box", "echo from-the-log; exec sleep 1000")
    s = Screen(w)
    s.shows("box")
    s.key(b"l")
    s.wrote(b"from-the-log")
    s.key(b"\x03")
    s.raw = b""
    s.shows("box")
    s.key(b"e")
    s.wrote(b"# ")
    s.key(b"echo in''side; exit\n")
    s.wrote(b"inside")
    s.shows("box")
    s.key(b"\x03")
    s.ended()
    status(w.kiln("rm", "-f", "box"), 0)


def test_sizes_and_colours(w):
    start(w, "box")
    s = Screen(w, NO_COLOR="1")
    s.shows("box")
    for cols in (40, 80, 132):
        s.resize(10, cols)
        s.expect(lambda lines: len(lines[0]) == cols - 1)
        assert all(len(line) < cols for line in s.lines()), s.lines()
    assert not re.search(rb"\x1b\[3[0-7]m", s.raw)
    os.kill(s.p.pid, signal.SIGTERM)
    s.ended(-signal.SIGTERM)
    status(w.kiln("rm", "-f", "box"), 0)


sys.exit(main(globals()))
