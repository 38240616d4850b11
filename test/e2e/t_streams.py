"""Standard streams: bytes in, bytes out, ends and broken pipes."""
import hashlib
import os
import subprocess
import sys
import threading

from e2e import IMAGE, KILN, LIMIT, main, same, status

MIB = 1 << 20


def noise(total):
    """The same bytes each time, not compressible, quick to make."""
    block = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(MIB // 32))
    for n in range(total // MIB):
        yield block[n:] + block[:n]


def test_without_i_there_is_no_input(w):
    done = w.run("cat", input=b"not for you")
    status(done, 0)
    same(done.stdout, b"")


def test_input_ends_where_it_ends(w):
    done = w.run("wc", "-c", flags=["-i"], input=b"x" * 70000)
    same(done.stdout, b"70000\n")
    done = w.run("cat", flags=["-i"], input=b"")
    same(done.stdout, b"")


def test_input_from_a_file(w):
    file = w.folder / "input"
    file.write_bytes(bytes(range(256)) * 1000)
    with file.open("rb") as f:
        done = w.run("cat", flags=["-i"], stdin=f)
    same(done.stdout, file.read_bytes())


def test_a_hundred_megabytes_pass_unharmed(w):
    total = 100 * MIB
    want, got, count = hashlib.sha256(), hashlib.sha256(), 0
    p = w.start("cat", flags=["-i"])

    def feed():
        for block in noise(total):
            want.update(block)
            p.stdin.write(block)
        p.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    while True:
        block = p.stdout.read1(MIB)
        if not block:
            break
        got.update(block)
        count += len(block)
    feeder.join()
    same(p.wait(LIMIT), 0)
    same(count, total)
    same(got.hexdigest(), want.hexdigest())
    p.stdout.close()
    p.stderr.close()


def test_all_output_comes_before_the_end(w):
    done = w.sh("dd if=/dev/zero bs=65536 count=80 2>/dev/null; echo end >&2; exit 3")
    status(done, 3)
    same(len(done.stdout), 80 * 65536)
    same(done.stderr, b"end\n")


def test_a_closed_output_ends_the_command(w):
    p = w.start("yes")
    same(p.stdout.readline(), b"y\n")
    p.stdout.close()
    code = p.wait(LIMIT)
    assert code in (1, 141), code
    p.stderr.close()
    p.stdin.close()


def test_a_command_may_leave_its_input_unread(w):
    p = w.start("head", "-c", "3", flags=["-i"])
    try:
        for block in noise(8 * MIB):
            p.stdin.write(block)
    except BrokenPipeError:
        pass
    same(len(p.stdout.read()), 3)
    same(p.wait(LIMIT), 0)
    try:
        p.stdin.close()
    except BrokenPipeError:
        pass
    p.stdout.close()
    p.stderr.close()


def test_closed_standard_streams_do_no_harm(w):
    words = " ".join([KILN, "run", *w.flags(), IMAGE, "true"])
    done = subprocess.run(["sh", "-c", f"exec {words} <&- >&-"], env=w.env, stderr=subprocess.PIPE, timeout=LIMIT,
                          check=False)
    same(done.returncode, 0)


def test_no_blocking_mode_is_left_on_the_callers_streams(w):
    r, wr = os.pipe()
    done = subprocess.run([KILN, "run", *w.flags(), IMAGE, "echo", "x"], env=w.env, stdin=subprocess.DEVNULL,
                          stdout=wr, timeout=LIMIT, check=False)
    same(done.returncode, 0)
    assert os.get_blocking(wr)
    os.close(wr)
    os.close(r)


sys.exit(main(globals()))
