"""The command: its exit status, arguments, environment, user, folder, names."""
import re
import sys
import time
import xml.etree.ElementTree

from e2e import main, same, says, status


def test_exit_status_is_the_commands(w):
    status(w.run("true"), 0)
    status(w.run("false"), 1)
    status(w.sh("exit 42"), 42)


def test_death_by_signal_is_128_and_its_number(w):
    status(w.sh("kill -KILL $$"), 137)
    status(w.sh("kill -TERM $$"), 143)


def test_a_command_that_is_not_there_is_127(w):
    done = w.run("no-such-command")
    status(done, 127)
    says(done, "no-such-command")
    status(w.run("/bin/no-such-command"), 127)


def test_a_command_that_cannot_run_is_126(w):
    done = w.run("/etc")
    status(done, 126)
    says(done, "/etc")
    status(w.run("/etc/motd"), 126)


def test_output_and_errors_keep_apart(w):
    done = w.sh("echo out; echo err >&2")
    status(done, 0)
    same(done.stdout, b"out\n")
    same(done.stderr, b"err\n")


def test_stats_follow_the_commands_own_output(w):
    done = w.sh("echo out; exit 3", flags=["--stats"])
    status(done, 3)
    same(done.stdout, b"out\n")
    for word in (b"engine ", b"exits ", b"interrupts "):
        assert word in done.stderr, done.stderr


def test_arguments_arrive_as_they_are(w):
    done = w.run("printf", "%s|", "a b", "", "$HOME", "*", "'q\"", "\u00e4\n")
    same(done.stdout, "a b||$HOME|*|'q\"|\u00e4\n|".encode())


def test_environment(w):
    done = w.run("env", flags=["-e", "A=1", "--env=B=x=y z", "-e", "HERE", "-e", "NOWHERE", "-eA=2"],
                 env={"HERE": "from outside"})
    lines = done.stdout.decode().splitlines()
    for line in ("A=2", "B=x=y z", "HERE=from outside", "HOME=/root"):
        assert line in lines, lines
    assert not [x for x in lines if x.startswith(("NOWHERE", "A=1", "KILN", "XDG"))], lines
    assert [x for x in lines if x.startswith("PATH=")], lines


def test_environment_file(w):
    file = w.folder / "vars"
    file.write_text("# comment\n\nFROM_FILE=yes it is\nHERE\n")
    done = w.sh("echo $FROM_FILE-$HERE", flags=["--env-file", str(file)], env={"HERE": "too"})
    same(done.stdout, b"yes it is-too\n")
    done = w.sh("true", flags=["--env-file", "/no/such/file"])
    status(done, 125)
    says(done, "/no/such/file")


def test_folder_user_and_names(w):
    done = w.sh("pwd; id -u; id -g; id -G; echo $HOME; hostname; cat /etc/hostname; touch /x 2>/dev/null || echo no",
                flags=["-w", "/made/here", "-u", "guest", "--hostname", "box"])
    same(done.stdout, b"/made/here\n1000\n1000\n1000\n/home/guest\nbox\nbox\nno\n")
    done = w.sh("id -u; id -g", flags=["--user=7:9"])
    same(done.stdout, b"7\n9\n")


def test_an_unknown_user_is_a_sentence(w):
    done = w.run("true", flags=["-u", "nobody-here"])
    status(done, 125)
    says(done, "nobody-here")


def test_entrypoint_replaces_the_images_command(w):
    done = w.run("one", "two", flags=["--entrypoint", "echo"])
    same(done.stdout, b"one two\n")
    done = w.run(flags=["--entrypoint", "pwd"])
    same(done.stdout, b"/\n")


def test_the_machine_is_a_linux_of_its_own(w):
    done = w.sh("cat /proc/1/comm; nproc; test -c /dev/null && test -d /sys/kernel && echo fine; ls /dev/vd* 2>/dev/null")
    same(done.stdout, b"kiln-init\n1\nfine\n")


def test_memory_and_cpus(w):
    done = w.sh("nproc; sed -n 's/MemTotal: *//p' /proc/meminfo", flags=["-m", "300m", "--cpus", "2"])
    cpus, memory = done.stdout.decode().splitlines()
    same(cpus, "2")
    assert 200000 < int(memory.split()[0]) < 300 * 1024, memory


def test_read_only(w):
    done = w.sh("touch /x; echo $?; touch /dev/shm/x && echo shm", flags=["--read-only"])
    same(done.stdout, b"1\nshm\n")
    assert b"Read-only" in done.stderr, done.stderr


def test_what_is_written_is_gone_the_next_time(w):
    same(w.sh("echo x > /new && cat /new").stdout, b"x\n")
    status(w.sh("test ! -e /new"), 0)


def test_a_folder_is_shared(w):
    folder = w.folder / "share"
    folder.mkdir()
    (folder / "file").write_text("from the host\n")
    read_only = ["-v", f"{folder}:/data/in:ro"]
    done = w.sh("cat /data/in/file; touch /data/in/x || echo refused", flags=read_only)
    same(done.stdout, b"from the host\nrefused\n")
    script = "cd /d && echo new > made && mkdir sub && mv made sub/moved && rm file && ln -s /etc/passwd link"
    status(w.sh(script, flags=["-v", f"{folder}:/d"]), 0)
    same((folder / "sub" / "moved").read_text(), "new\n")
    same(sorted(f.name for f in folder.iterdir()), ["link", "sub"])


def test_the_clock_is_right(w):
    before = time.time()
    done = w.sh("adjtimex | sed -n 's/.*time.tv_u\\{0,1\\}sec: *//p' | tail -2")
    after = time.time()
    sec, usec = (int(word) for word in done.stdout.split())
    assert before - 0.01 <= sec + usec / 1e6 <= after + 0.01, (before, sec + usec / 1e6, after)


def test_each_machine_has_an_id_of_its_own(w):
    ids = [w.sh("cat /etc/machine-id").stdout.decode().strip() for _ in range(3)]
    assert len(set(ids)) == 3 and all(re.fullmatch("[0-9a-f]{32}", i) for i in ids), ids


def test_where_the_time_of_a_start_went(w):
    picture = w.folder / "start.svg"
    done = w.run("sh", "-c", "exit 3", flags=["--stats", "--trace-start", str(picture)])
    status(done, 3)
    for phase in (b"kernel and image found", b"agent up", b"disks mounted", b"command ran", b"machine gone"):
        assert phase in done.stderr, done.stderr
    root = xml.etree.ElementTree.parse(picture).getroot()
    assert root.tag.endswith("svg") and "machine gone" in picture.read_text()
    done = w.run("true", flags=["--trace-start", "/nowhere/x.svg"])
    status(done, 125)
    says(done, "--trace-start /nowhere/x.svg")


sys.exit(main(globals()))
