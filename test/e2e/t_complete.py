"""What shells complete: kiln's own answers, and bash, zsh and fish with their scripts."""
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import time

from e2e import IMAGE, KILN, LIMIT, SOURCE, Skip, main, same

SCRIPTS = SOURCE / "completions"


def answer(w, *words):
    done = w.kiln("__complete", *words)
    same(done.returncode, 0)
    lines = done.stdout.decode().splitlines()
    assert lines[-1].startswith(":"), lines
    return [line.split("\t")[0] for line in lines[:-1]], lines[-1][1:].split()


def found(w, *words):
    return answer(w, *words)[0]


def test_verbs_and_their_verbs(w):
    assert {"run", "ps", "images", "help"} <= set(found(w, "")), found(w, "")
    assert "__complete" not in found(w, "")
    same(found(w, "imp"), ["import"])
    same(found(w, "snapshot", "l"), ["ls"])
    same(found(w, "help", "snapshot", "cre"), ["create"])
    same(answer(w, "no-such-verb", ""), ([], []))


def test_every_kind_of_value_is_known(_):
    known = set(re.findall(r'\{"(@[\w:]+)", \w+\}', (SOURCE / "cmd" / "compkind.c").read_text()))
    assert "@image" in known
    for source in sorted((SOURCE / "cmd").glob("*.c")):
        for values in re.findall(r'\.values = "([^"]*)"', source.read_text()):
            for kind in values.split():
                assert not kind.startswith("@") or kind in known, f"{source.name}: {kind}"


def test_flags_and_their_values(w):
    same(found(w, "run", "--isol"), ["--isolation"])
    assert "-m" in found(w, "run", "-")
    same(found(w, "run", "--isolation", ""), ["vm", "process"])
    same(found(w, "run", "--engine=b"), ["--engine=bt"])
    same(found(w, "run", "-it", "--pull", "al"), ["always"])
    same(found(w, "run", "--rm=f"), ["--rm=false"])
    same(found(w, "run", "--stop-signal", "SIGKI"), ["SIGKILL"])
    same(found(w, "run", "--name", ""), [])  # a name of one's own
    same(answer(w, "boot", "--kernel", ""), ([], ["files"]))
    same(answer(w, "run", "--restart", "on-f"), (["on-failure"], []))
    assert "nospace" in answer(w, "ps", "-f", "na")[1]


def test_what_the_store_has(w):
    same(found(w, "run", "kiln-t"), [f"{IMAGE}:latest"])
    same(found(w, "rmi", ""), [f"{IMAGE}:latest"])
    # Behind the image it is the command's words.
    same(answer(w, "run", IMAGE, "--na"), ([], ["files"]))
    made = w.kiln("create", "--name", "box", *w.base_flags(), IMAGE, "true")
    same(made.returncode, 0)
    same(found(w, "start", "bo"), ["box"])
    same(answer(w, "cp", "bo"), (["box:"], ["files", "nospace"]))
    same(found(w, "inspect", "bo"), ["box"])
    identity = made.stdout.decode()[:12]
    same(found(w, "rm", identity[:6]), [identity])
    same(w.kiln("rm", "box").returncode, 0)
    same(found(w, "start", ""), [])


def environment(w):
    return {**w.env, "PATH": f"{pathlib.Path(KILN).parent}:{os.environ['PATH']}", "HOME": str(w.folder)}


def in_bash(w, *words):
    library = pathlib.Path("/usr/share/bash-completion/bash_completion")
    if not library.exists():
        raise Skip("bash-completion is not installed")
    line = " ".join(["kiln", *words])
    script = f"""source {library}; source {SCRIPTS}/kiln.bash; compopt() {{ :; }}
COMP_LINE=$1; COMP_POINT=${{#1}}; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
_kiln; printf '%s\\n' "${{COMPREPLY[@]}}" """
    # bash breaks words at = and : too.
    broken = []
    for word in ["kiln", *words]:
        part = ""
        for c in word:
            if c in "=:":
                broken += [part, c] if part else [c]
                part = ""
            else:
                part += c
        broken.append(part)
    done = subprocess.run(["bash", "--norc", "-c", script, "bash", line, *broken], env=environment(w),
                          capture_output=True, text=True, timeout=LIMIT, check=False)
    same(done.stderr, "")
    return done.stdout.split()


def test_bash(w):
    same(in_bash(w, "imp"), ["import"])
    same(in_bash(w, "run", "--isol"), ["--isolation"])
    same(in_bash(w, "run", "--engine=b"), ["bt"])
    same(in_bash(w, "run", "kiln-test:l"), ["latest"])
    same(in_bash(w, "ps", "-f", "status=exi"), ["exited"])
    (w.folder / "somefile").write_text("")
    same(in_bash(w, "boot", "--kernel", f"{w.folder}/somef"), [f"{w.folder}/somefile"])


def test_fish(w):
    if not shutil.which("fish"):
        raise Skip("fish is not installed")

    def in_fish(line):
        done = subprocess.run(["fish", "--no-config", "-c", f"source {SCRIPTS}/kiln.fish; complete -C '{line}'"],
                              env=environment(w), capture_output=True, text=True, timeout=LIMIT, check=False)
        same(done.stderr, "")
        return [x.split("\t")[0] for x in done.stdout.splitlines()]

    same(in_fish("kiln imp"), ["import"])
    same(in_fish("kiln run --isol"), ["--isolation"])
    same(in_fish("kiln run --isolation pro"), ["process"])
    same(in_fish("kiln run --engine=b"), ["--engine=bt"])
    same(in_fish("kiln run kiln-t"), [f"{IMAGE}:latest"])
    (w.folder / "somefile").write_text("")
    same(in_fish(f"kiln boot --kernel {w.folder}/somef"), [f"{w.folder}/somefile"])


def in_zsh(w, line, expected):
    """Type the line and a tab into a zsh of its own; wait for what it becomes."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**environment(w), "TERM": "dumb", "PS1": "ready> "})
    text = b""

    def wait(what):
        """For what to come; it and what is in front of it are done with."""
        nonlocal text
        end = time.monotonic() + LIMIT
        while what not in text:
            assert time.monotonic() < end, text
            if select.select([fd], [], [], 0.2)[0]:
                text += os.read(fd, 4096)
        text = text.partition(what)[2]

    try:
        os.write(fd, f"PS1='rea''dy> '; fpath=({SCRIPTS} $fpath); autoload -U compinit; "
                     f"compinit -u -D; echo load''ed\n".encode())
        wait(b"loaded")
        wait(b"ready> ")
        # The line as it is then, printed: what the editor draws comes in pieces.
        os.write(fd, line.encode() + b"\t\x01print -r -- '[' \x05 ']'\n")
        wait(f"[ {expected} ]".encode())
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(fd)


def test_zsh(w):
    if not shutil.which("zsh"):
        raise Skip("zsh is not installed")
    in_zsh(w, "kiln impor", "kiln import")
    in_zsh(w, "kiln run --isol", "kiln run --isolation")
    in_zsh(w, "kiln run --isolation proc", "kiln run --isolation process")
    in_zsh(w, "kiln run kiln-t", "kiln run kiln-test:latest")
    in_zsh(w, "kiln run --engine=b", "kiln run --engine=bt")


sys.exit(main(globals()))
