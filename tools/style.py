#!/usr/bin/env python3
"""The style suite. usage: style.py format|headers|banned|length

format   every C file is as clang-format leaves it
headers  every header compiles alone, and twice
banned   no call that has a safer counterpart, no exit outside cmd/, agent/ and BUG(), no words that mark stubs
length   no C file over MAX_LINES; prints the longest
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SKIP = 77
MAX_LINES = 1000
OUTSIDE = ("build", ".git")
HEADER_FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter",
                "-Wno-missing-field-initializers", "-I.", "-fsyntax-only"]

# What each pattern's place may hold all the same.
ALWAYS_BANNED = ["strcpy", "strcat", "sprintf", "vsprintf", "gets", "system", "alloca", "atoi", "atol", "strtok",
                 "tmpnam", "mktemp", "popen", "scanf"]
ENDS_PROCESS = ["exit", "abort", "_exit", "quick_exit", "errx", "err_exit", "warnx"]
PRINTS = ["printf", "puts", "perror", "putchar"]
STUB_WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK|WIP)\b")


def tree(*suffixes):
    for path in sorted(pathlib.Path(".").rglob("*")):
        if path.suffix in suffixes and not path.parts[0].startswith(OUTSIDE):
            yield path


def without_comments(text):
    """The text with comments and string literals blanked, lines kept."""
    def blank(match):
        token = match.group(0)
        return re.sub(r"[^\n]", " ", token) if token[0] in "/\"'" else token

    return re.sub(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S)


def check_format():
    tool = shutil.which("clang-format")
    if not tool:
        print("clang-format is not installed (make deps)")
        return SKIP
    files = [str(p) for p in tree(".c", ".h")]
    bad = []
    for start in range(0, len(files), 50):
        part = files[start:start + 50]
        out = subprocess.run([tool, "--dry-run", "-Werror", "--ferror-limit=1", *part], capture_output=True,
                             text=True, check=False)
        bad += sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", out.stderr, re.M)))
    for name in bad:
        print(f"{name}: not formatted (make fmt)")
    return 1 if bad else 0


def compile_header(compiler, header, folder):
    unit = folder / (str(header).replace("/", "_") + ".c")
    unit.write_text(f'#include "{header}"\n#include "{header}"\n')
    return unit, subprocess.Popen([compiler, *HEADER_FLAGS, str(unit)], stderr=subprocess.PIPE, text=True)


def check_headers():
    compiler = os.environ.get("CC", "cc").split()[-1]
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        jobs = []
        for header in tree(".h"):
            jobs.append((header, *compile_header(compiler, header, pathlib.Path(name))))
            if len(jobs) < 2:
                continue
            bad += finish(*jobs.pop(0))
        for job in jobs:
            bad += finish(*job)
    return 1 if bad else 0


def finish(header, _unit, process):
    _, err = process.communicate()
    if process.returncode == 0:
        return 0
    print(f"{header}: does not compile alone\n{err}")
    return 1


def banned_in(path):
    """The function names this file may not call."""
    names = list(ALWAYS_BANNED)
    folder = path.parts[0]
    library = folder not in ("cmd", "agent", "test", "fuzz", "bench", "tools")
    if library and path.name != "err.c":
        names += ENDS_PROCESS + PRINTS
    if folder == "test":
        names.remove("system")
    return names


def check_banned():
    bad = 0
    for path in tree(".c", ".h"):
        text = path.read_text()
        code = without_comments(text).splitlines()
        pattern = re.compile(r"(?<![\w.>])(" + "|".join(banned_in(path)) + r")\s*\(")
        for n, (line, whole) in enumerate(zip(code, text.splitlines()), 1):
            match = pattern.search(line)
            # A forked child that must not run its parent's exit handlers ends by _exit, marked as such.
            if match and not (match[1] == "_exit" and "forked child" in whole):
                print(f"{path}:{n}: calls {match[1]}()")
                bad = 1
            if STUB_WORDS.search(whole):
                print(f"{path}:{n}: {STUB_WORDS.search(whole)[1]}")
                bad = 1
    return bad


def check_length():
    lengths = sorted(((len(p.read_text().splitlines()), p) for p in tree(".c", ".h")), reverse=True)
    for lines, path in lengths[:10]:
        print(f"{lines:6} {path}")
    print(f"{sum(n for n, _ in lengths):6} in {len(lengths)} files")
    over = [p for n, p in lengths if n > MAX_LINES]
    for path in over:
        print(f"{path}: over {MAX_LINES} lines: which second thing is it doing?")
    return 1 if over else 0


CHECKS = {"format": check_format, "headers": check_headers, "banned": check_banned, "length": check_length}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(__doc__)
    os.chdir(pathlib.Path(__file__).resolve().parent.parent)
    sys.exit(CHECKS[sys.argv[1]]())
