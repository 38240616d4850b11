#!/usr/bin/env python3
"""Manual pages against the program. usage: check_man.py KILN

Every verb has a page man/kiln-VERB.1, which is installed and named in kiln(1); the page has every flag of the verb, and
of its verbs, by its long name and its letter; every page lints clean with mandoc(1), or with man(1) where that is
missing."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent
MAN = SOURCE / "man"


def complete(kiln, *words):
    """First words of what kiln completes."""
    done = subprocess.run([kiln, "__complete", *words], capture_output=True, text=True, check=True, timeout=60,
                          env={**os.environ, "KILN_ROOT": "/nonexistent"})
    return [line.split("\t")[0] for line in done.stdout.splitlines() if not line.startswith(":")]


def flags_of(kiln, words):
    return [f for f in complete(kiln, *words, "-") if f.startswith("-") and f != "--help"]


def in_page(text, flag):
    """mdoc: `Fl -name` and `Fl n`."""
    return re.search(rf"\bFl {re.escape(flag[1:])}(?![\w-])", text) is not None


def check_verb(kiln, verb, installed, overview):
    page = MAN / f"kiln-{verb}.1"
    if not page.exists():
        return [f"{verb}: no man/{page.name}"]
    text = page.read_text()
    wrong = []
    if f"'{page.name}'" not in installed:
        wrong.append(f"man/{page.name}: not in man/meson.build")
    if f"Xr kiln-{verb} 1" not in overview:
        wrong.append(f"man/kiln.1: does not name kiln-{verb}(1)")
    # A verb of verbs completes those where others complete operands: none of them has flags at that place.
    commands = [[verb]]
    if not flags_of(kiln, [verb]):
        commands += [[verb, sub] for sub in complete(kiln, "help", verb, "") if sub]
    for words in commands:
        for flag in flags_of(kiln, words):
            if not in_page(text, flag):
                wrong.append(f"man/{page.name}: lacks {flag} of kiln {' '.join(words)}")
    return wrong


def lint(page):
    if shutil.which("mandoc"):
        command = ["mandoc", "-T", "lint", "-W", "warning", str(page)]
    elif shutil.which("man"):
        command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)]
    else:
        return []
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    # Pages of other packages are not looked for.
    said = done.stdout if command[0] == "mandoc" else done.stderr
    return [line for line in said.splitlines() if line.strip() and "referenced manual not found" not in line]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    installed = (MAN / "meson.build").read_text()
    overview = (MAN / "kiln.1").read_text()
    wrong = []
    for verb in complete(sys.argv[1], ""):
        if not verb.startswith("-") and verb != "help":
            wrong += check_verb(sys.argv[1], verb, installed, overview)
    for page in sorted(MAN.glob("*.1")):
        wrong += lint(page)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


sys.exit(main())
