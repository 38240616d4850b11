#!/usr/bin/env python3
"""Run the test suites and close with one line: "N passed, N failed".

usage: check.py [SUITE...]     all suites but the slow ones when none is given
environment: BUILD     the build folder (build)
             SANITIZE  0: plain; 1: plain, then ASan and UBSan; only: ASan and UBSan

A program that reports cases (cmocka) counts by case, any other test counts as one. A skip is printed
with the reason the test gave, and is neither passed nor failed. The exit status is 0 only when something ran
and nothing failed.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

# What runs under the sanitizers: guests booted under them take too long for what they could show.
SANITIZED_SUITES = ["unit", "diff"]
SLOW_SUITES = ["guests-slow"]
CASE_OK = re.compile(r"^\[\s+OK \] ", re.M)
CASE_SKIPPED = re.compile(r"^\[  SKIPPED \] (\S+)$", re.M)
CASE_FAILED = re.compile(r"^\[  FAILED  \] ([A-Za-z_]\S*)$", re.M)


class Totals:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skips = []
        self.failures = []


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"


def count(test, label, totals):
    """Add one entry of meson's test log to the totals."""
    name = f"{label}{test['name']}"
    text = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
    if test["result"] == "SKIP":
        totals.skips.append(f"{name}: {last_line(text)}")
        return
    for case in CASE_SKIPPED.findall(text):
        totals.skips.append(f"{name}: case {case}")
    totals.passed += len(CASE_OK.findall(text))
    bad = sorted(set(CASE_FAILED.findall(text)))
    good = test["result"] in ("OK", "EXPECTEDFAIL")
    if good and not CASE_OK.search(text):
        totals.passed += 1
    if not good:
        totals.failed += max(1, len(bad))
        totals.failures.append(f"{name} ({test['result'].lower()}) {' '.join(bad)}")


def run_suites(build, suites, label, env, totals):
    command = ["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs"]
    for suite in suites:
        command += ["--suite", suite]
    for suite in [] if suites else SLOW_SUITES:
        command += ["--no-suite", suite]
    log = pathlib.Path(build) / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    print(f"== {label or 'tests: '}{' '.join(suites) or 'all suites'}", flush=True)
    started = time.monotonic()
    status = subprocess.run(command, env={**os.environ, **env}, check=False).returncode
    entries = log.read_text().splitlines() if log.exists() else []
    before = totals.failed
    for line in entries:
        count(json.loads(line), label, totals)
    if (status != 0 and totals.failed == before) or not entries:
        totals.failed += 1
        totals.failures.append(f"{label}meson test ended with status {status}, {len(entries)} tests ran")
    print(f"== {time.monotonic() - started:.0f} s", flush=True)


def fetch_kernel():
    """Suites that boot Linux take Debian's kernel when there is no other; without one they skip."""
    if subprocess.run(["tools/get-debian-kernel.sh"], check=False).returncode != 0:
        print("no guest kernel could be fetched: what needs one is skipped", flush=True)


def build_plain(build):
    if not (pathlib.Path(build) / "build.ninja").exists():
        subprocess.run(["meson", "setup", build], check=True)
    subprocess.run(["ninja", "-C", build], check=True)


def build_sanitized(build):
    if not (pathlib.Path(build) / "build.ninja").exists():
        subprocess.run(["meson", "setup", build, "-Db_sanitize=address,undefined", "-Db_lundef=false"],
                       check=True)
    subprocess.run(["ninja", "-C", build], check=True)


def main():
    os.chdir(pathlib.Path(__file__).resolve().parent.parent)
    suites = sys.argv[1:]
    build = os.environ.get("BUILD") or "build"
    sanitize = os.environ.get("SANITIZE") or "0"
    totals = Totals()
    try:
        if sanitize != "only":
            build_plain(build)
            if not suites or {"linux", "e2e", *SLOW_SUITES} & set(suites):
                fetch_kernel()
            run_suites(build, suites, "", {}, totals)
        if sanitize != "0":
            build_sanitized(f"{build}-asan")
            # No detect_stack_use_after_return: gcc 12 aligns its frames to less than a vCPU's state wants.
            env = {"ASAN_OPTIONS": "detect_stack_use_after_return=0:abort_on_error=1",
                   "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:abort_on_error=1"}
            run_suites(f"{build}-asan", suites or SANITIZED_SUITES, "sanitized: ", env, totals)
    except subprocess.CalledProcessError as e:
        totals.failed += 1
        totals.failures.append(f"build: {' '.join(e.cmd)} ended with status {e.returncode}")

    for skip in totals.skips:
        print(f"skipped: {skip}")
    for failure in totals.failures:
        print(f"FAILED: {failure}")
    print(f"{totals.passed} passed, {totals.failed} failed", flush=True)
    return 0 if totals.failed == 0 and totals.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
