"""Templates: made, used, rebuilt, pruned; machines from one are each their own."""
import os
import re
import shutil
import signal
import subprocess
import sys

from e2e import KILN, LIMIT, Skip, main, same, says, status


def listed(w):
    """Rows of kiln template ls: key -> the rest."""
    done = w.kiln("template", "ls")
    status(done, 0)
    rows = [line.split() for line in done.stdout.decode().splitlines()[1:]]
    return {row[0]: row[1:] for row in rows}


def folder(w):
    return w.folder / "store" / "templates"


def drop_all(w):
    for key in listed(w):
        status(w.kiln("template", "rm", key), 0)
    same(listed(w), {})


def run(w, *command, flags=()):
    """Always by template, whatever the suite was told."""
    return w.kiln("run", "--rm", *w.base_flags(), *flags, "kiln-test", *command)


def test_the_first_run_makes_one_and_the_second_uses_it(w):
    drop_all(w)
    status(run(w, "sh", "-c", "exit 7"), 7)
    first = listed(w)
    same(len(first), 1)
    made = os.stat(folder(w) / next(iter(first)) / "state").st_mtime_ns
    same(run(w, "false").returncode, 1)
    same(listed(w).keys(), first.keys())
    same(os.stat(folder(w) / next(iter(first)) / "state").st_mtime_ns, made)


def test_another_shape_has_another_template(w):
    before = set(listed(w))
    status(run(w, "true", flags=["-m", "128m"]), 0)
    status(run(w, "true", flags=["-v", "/usr:/mnt:ro"]), 0)
    same(len(set(listed(w)) - before), 2)


def test_without_a_template_it_boots(w):
    drop_all(w)
    status(run(w, "true", flags=["--no-template"]), 0)
    same(listed(w), {})


def test_make_and_remove(w):
    drop_all(w)
    kernel = ["--kernel", w.kernel, "--engine", w.base_flags()[1]]
    done = w.kiln("template", "make", "-m", "128m", *kernel)
    status(done, 0)
    word, key = done.stdout.decode().split()
    same(word, "made")
    same(w.kiln("template", "make", "-m", "128m", *kernel).stdout.decode().split(), ["found", key])
    same(listed(w)[key][1], "128MiB")
    status(w.kiln("template", "rm", key[:6]), 0)
    same(listed(w), {})
    done = w.kiln("template", "rm", key)
    status(done, 1)
    says(done, "no template")


def test_a_changed_kernel_is_booted_anew(w):
    drop_all(w)
    kernel = w.folder / "kernel"
    shutil.copytree(w.kernel, kernel, dirs_exist_ok=True)
    flags = ["--engine", w.base_flags()[1], "--kernel", str(kernel)]
    status(w.kiln("run", *flags, "kiln-test", "true"), 0)
    old = set(listed(w))
    file = next(f for f in (kernel / "vmlinux", kernel / "vmlinuz") if f.exists())
    os.utime(file, ns=(1, 1))
    same(listed(w)[next(iter(old))][-2], "stale")
    status(w.kiln("run", *flags, "kiln-test", "true"), 0)
    same(len(set(listed(w)) - old), 1)
    status(w.kiln("prune"), 0)
    assert not set(listed(w)) & old
    same(len(listed(w)), 1)
    shutil.rmtree(kernel)
    status(w.kiln("prune"), 0)  # its kernel is gone
    same(listed(w), {})


def test_one_that_is_damaged_is_made_again(w):
    drop_all(w)
    status(run(w, "true"), 0)
    key = next(iter(listed(w)))
    state = folder(w) / key / "state"
    bytes_ = bytearray(state.read_bytes())
    bytes_[len(bytes_) // 2] ^= 0x55
    state.write_bytes(bytes_)
    done = run(w, "echo", "fine")
    same((done.returncode, done.stdout), (0, b"fine\n"))
    same(listed(w), {})
    status(run(w, "true"), 0)
    same(set(listed(w)), {key})
    (folder(w) / key / "memory").unlink()
    same(run(w, "echo", "fine").stdout, b"fine\n")


def test_two_at_once(w):
    drop_all(w)
    both = [subprocess.Popen([KILN, "run", "--rm", *w.base_flags(), "kiln-test", "echo", str(i)], env=w.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for i in range(2)]
    for i, p in enumerate(both):
        out, err = p.communicate(timeout=LIMIT)
        same((p.returncode, out), (0, b"%d\n" % i))
        same(err, b"")
    same(len(listed(w)), 1)


def test_killed_while_it_is_made_nothing_half_made_is_left(w):
    """At the points the files show, whenever they come."""
    points = [lambda: True, lambda: any(folder(w).glob(".*.snap")), lambda: any(folder(w).glob(".*.snap/memory")),
              lambda: any(f.stat().st_size for f in folder(w).glob(".*.snap/memory")),
              lambda: any(folder(w).glob(".*.snap/state")), lambda: bool(listed(w))]
    for point in points:
        drop_all(w)
        p = subprocess.Popen([KILN, "run", "--rm", *w.base_flags(), "kiln-test", "true"], env=w.env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while p.poll() is None and not point():
            pass
        p.send_signal(signal.SIGKILL)
        p.wait(LIMIT)
        w.assert_no_processes()
        for key in listed(w):  # it was whole, or it is not there
            same(sorted(f.name for f in (folder(w) / key).iterdir() if f.name != "working-set"), ["memory", "state"])
        status(run(w, "true"), 0)
        same(len(listed(w)), 1)
        same([f.name for f in folder(w).glob(".*")], [])
        w.kiln("prune")


def test_without_room_for_it_machines_boot(w):
    drop_all(w)
    shutil.rmtree(folder(w))
    folder(w).mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder(w)], check=False, capture_output=True).returncode:
        raise Skip("cannot mount a small file system")
    try:
        for word in ("fine", "again"):  # the second does not try
            done = run(w, "echo", word)
            same((done.returncode, done.stdout, done.stderr), (0, word.encode() + b"\n", b""))
            same(listed(w), {})
            same([f.name for f in folder(w).glob(".*")], [])
        done = w.kiln("template", "make", "--kernel", w.kernel, "--engine", w.base_flags()[1])
        status(done, 125)
        says(done, "No space left")
    finally:
        subprocess.run(["umount", folder(w)], check=True)
    status(w.kiln("template", "make", "--kernel", w.kernel, "--engine", w.base_flags()[1]), 0)
    same(len(listed(w)), 1)


def test_machines_from_one_template_differ(w):
    script = ("cat /proc/sys/kernel/random/uuid /etc/machine-id; hostname; head -c 16 /dev/urandom | od -An -tx1; "
              "cat /proc/sys/kernel/random/boot_id")
    seen = []
    for _ in range(50):
        done = run(w, "sh", "-c", script)
        status(done, 0)
        seen.append(done.stdout.decode().split("\n")[:5])
    for kind in zip(*seen):
        same(len(set(kind)), 50)
    assert all(re.fullmatch("[0-9a-f]{32}", row[1]) for row in seen)


def test_a_kernel_that_can_hears_of_its_generation(w):
    """Linux with the VMGenID driver reseeds by itself, beside what the agent does."""
    done = run(w, "sh", "-c", "ls /sys/bus/acpi/drivers/vmgenid 2>/dev/null | grep KILN; i=0; "
               "until dmesg | grep 'virtual machine fork' || [ $((i += 1)) = 500 ]; do sleep 0.01; done")
    if b"KILN0001" not in done.stdout:
        raise Skip("this kernel has no driver for it")
    assert b"reseeded due to virtual machine fork" in done.stdout, done.stdout


def test_nothing_of_one_run_is_in_the_next(w):
    secret = "kiln-e2e-secret-" + os.urandom(8).hex()
    status(run(w, "sh", "-c", "echo $S > /x; exit 0", flags=["-e", "S=" + secret]), 0)
    files = [f for f in folder(w).rglob("*") if f.is_file()]
    assert len(files) > 2
    for file in files:
        assert secret.encode() not in file.read_bytes(), file


def kept_code(w):
    return [f for f in folder(w).iterdir() if ".code" in f.name]


def test_translated_code_is_kept_and_may_be_damaged(w):
    """Engines that translate nothing keep nothing."""
    drop_all(w)
    same(kept_code(w), [])
    for _ in range(2):
        same(run(w, "echo", "fine").stdout, b"fine\n")
    for file in kept_code(w):
        for damage in (lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:], lambda b: b[:len(b) // 2], lambda b: b"", lambda b: b + b"x"):
            file.write_bytes(damage(file.read_bytes()))
            same(run(w, "echo", "fine").stdout, b"fine\n")
            same(run(w, "echo", "again").stdout, b"again\n")
    drop_all(w)
    same(kept_code(w), [])


def test_a_perf_map_names_code_that_a_template_could_have_kept(w):
    for _ in range(2):  # now code is kept
        status(run(w, "true"), 0)
    with w.start("sh", "-c", "echo ready; cat", flags=["-i", "--perf-map"]) as vm:
        same(vm.stdout.readline(), b"ready\n")
        maps = [f"/tmp/perf-{pid}.map" for pid in w.processes() if os.path.exists(f"/tmp/perf-{pid}.map")]
        vm.communicate(timeout=LIMIT)
    same(len(maps), 1)
    with open(maps[0]) as f:
        names = [line.split()[2] for line in f]
    os.unlink(maps[0])
    assert len(names) > 5000 and any(n.startswith("guest_u_") for n in names), len(names)


def resources(w):
    """What machines could leave behind, here and in the store."""
    files = sum(1 for _ in w.folder.rglob("*"))
    bytes_ = sum(f.stat().st_size for f in (w.folder / "store").rglob("*") if f.is_file() and not f.name.startswith("events.log"))
    return files, bytes_, len(os.listdir("/proc/self/fd")), len(w.processes())


def test_soak(w):
    """SOAK machines start and stop; nothing grows. Many of them by KILN_SOAK=2000."""
    for _ in range(2):
        status(run(w, "true", flags=["--network", "none"]), 0)
    before = resources(w)
    n = int(os.environ.get("KILN_SOAK") or 12)
    signal.alarm(180 + n)
    for i in range(n):
        done = run(w, "sh", "-c", f"echo {i}; exit {i % 3}", flags=["--network", "none"])
        same((done.returncode, done.stdout), (i % 3, b"%d\n" % i))
    w.assert_no_processes()
    same(resources(w), before)


sys.exit(main(globals()))
