"""What the engine bench prints: the results of all runs, tables of ratios, and the targets. Used by engine.py."""
import math
import statistics

DRIFT = 0.05  # of the whole; more is told

class Results:
    """Every run of every engine; engine names are the keys."""

    def __init__(self):
        self.seconds = {}  # engine -> workload -> [seconds]
        self.cpu = {}  # the same, CPU seconds of the whole process
        self.overhead = {}  # engine -> [MiB]
        self.clock = {}  # engine -> [guest / outside]
        self.boot = {}  # engine -> [seconds to the program]
        self.translation = {}  # engine -> [sentence]
        self.problems = []

    def add(self, engine, run, truth):
        keep = self.clock_is_right(engine, run)
        for name, value in run.seconds.items():
            if keep:
                self.seconds.setdefault(engine, {}).setdefault(name, []).append(value)
            if truth is not None and run.checks[name] != truth.checks.get(name):
                self.problems.append(f"{engine}: {name}: check {run.checks[name]}, natively {truth.checks.get(name)}")
        for name, value in run.cpu.items():
            self.cpu.setdefault(engine, {}).setdefault(name, []).append(value)
        if run.overhead is not None:
            self.overhead.setdefault(engine, []).append(run.overhead)
        if not engine.startswith("native") and run.boot:
            self.boot.setdefault(engine, []).append(run.boot)

    def clock_is_right(self, engine, run):
        """Does the guest's clock run as time does outside? If not, its seconds are told and not counted."""
        if not run.outer_whole:
            return True
        ratio = run.guest_whole / run.outer_whole
        self.clock.setdefault(engine, []).append(ratio)
        if engine.startswith("native") or abs(ratio - 1) <= DRIFT or run.outer_whole <= 1:
            return True
        self.problems.append(f"{engine}: the guest's clock says {run.guest_whole:.2f} s of {run.outer_whole:.2f}: left out")
        return False

    def median(self, engine, name):
        values = self.seconds.get(engine, {}).get(name)
        return statistics.median(values) if values else None

    def median_cpu(self, engine, name):
        values = self.cpu.get(engine, {}).get(name)
        return statistics.median(values) if values else None


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


def cell(value, width, digits=2):
    return f"{value:{width}.{digits}f}" if value is not None else " " * (width - 1) + "-"


def quotient(a, b):
    return a / b if a is not None and b else None


def row(results, name):
    native = results.median("native", name)
    tcg, bt, interp = (results.median(e, name) for e in ("tcg", "bt", "interp"))
    return {"name": name, "native_s": native, "tcg_s": tcg, "bt_s": bt,
            "tcg_to_native": quotient(tcg, native), "bt_to_native": quotient(bt, native),
            "tcg_to_bt": quotient(tcg, bt),
            "tcg_to_bt_cpu": quotient(results.median_cpu("tcg", name), results.median_cpu("bt", name)),
            "interp_to_native": quotient(interp, results.median("native-small", name))}


SLOWER = "  <-- slower than TCG"


def table(rows):
    lines = [f"{'workload':16} {'native s':>9} {'TCG s':>9} {'bt s':>9} {'TCG/nat':>8} {'bt/nat':>8} {'int/nat':>8} {'TCG/bt':>8} {'by CPU':>8}"]
    for r in rows:
        lines.append(f"{r['name']:16} {cell(r['native_s'], 9, 4)} {cell(r['tcg_s'], 9, 4)} {cell(r['bt_s'], 9, 4)} "
                     f"{cell(r['tcg_to_native'], 8)} {cell(r['bt_to_native'], 8)} {cell(r['interp_to_native'], 8)} "
                     f"{cell(r['tcg_to_bt'], 8)} {cell(r['tcg_to_bt_cpu'], 8)}" + (SLOWER if (r["tcg_to_bt"] or 9) < 1 else ""))
    means = [geometric_mean([r[k] for r in rows if r[k]]) for k in ("tcg_to_native", "bt_to_native", "interp_to_native", "tcg_to_bt", "tcg_to_bt_cpu")]
    lines.append(f"{'geometric mean':16} {'':9} {'':9} {'':9} " + " ".join(cell(m, 8) for m in means))
    return "\n".join(lines)


def threads_gain(results, engine):
    """How many times the work of one busy thread two of them do in the same time; of the best runs, for on a busy
    machine it is the second CPU that is missing."""
    one, two = (results.seconds.get(engine, {}).get(n) for n in ("threads-1", "threads-2"))
    return 2 * min(one) / min(two) if one and two else None


def threads_gain_cpu(results, engine):
    """The same as it would be if both CPUs were free: by the CPU time that the work took."""
    one, two = (results.median_cpu(engine, n) for n in ("threads-1", "threads-2"))
    return 4 * one / two if one and two else None


def summary(results):
    lines = []
    for engine in ("native", "tcg", "bt"):
        gain = threads_gain(results, engine)
        if gain:
            lines.append(f"{engine}: two busy threads do {gain:.2f} times the work of one, "
                         f"{threads_gain_cpu(results, engine) or 0:.2f} by CPU time")
    for engine, values in results.overhead.items():
        lines.append(f"{engine}: {max(values):.1f} MiB beyond the guest's RAM at the end (largest of {len(values)})")
    for engine, values in results.boot.items():
        lines.append(f"{engine}: {statistics.median(values):.2f} s from start to the program's first line")
    for engine, values in results.translation.items():
        lines.append(f"{engine}: {values[-1]}")
    for engine, values in results.clock.items():
        lines.append(f"{engine}: guest's clock to outside {min(values):.3f} to {max(values):.3f}")
    return "\n".join(lines)


def boots_table(times):
    lines = []
    for kernel in ("debian", "kiln"):
        bt, tcg = times.get(f"boot-{kernel}-bt"), times.get(f"boot-{kernel}-qemu-tcg")
        if bt:
            other = f"; TCG {tcg[0]:.2f} s, CPU {tcg[1]:.2f} s" if tcg else ""
            lines.append(f"cold boot to user space and off, {kernel}'s kernel: bt {bt[0]:.2f} s, CPU {bt[1]:.2f} s{other}")
    return "\n".join(lines)


# name of the target, workloads whose worst ratio of TCG to bt counts (none: all), at least
RATIO_TARGETS = [
    ("no workload slower than TCG", None, 1.0),
    ("floating point and SSE", ("matmul", "matmul-sse2", "sad-sse2", "libm", "x87"), 4.0),
    ("rep movs and stos", ("movsb", "movsq", "stosb", "stosq"), 10.0),
    ("self-modifying code", ("smc", "jit"), 10.0),
]
GEOMEAN_TARGET = 2.0
BOOT_TARGET = 0.7
THREADS_TARGET = 1.8
OVERHEAD_TARGET_MIB = 40


def verdict(name, by_wall, by_cpu, target, met, note=""):
    """Where other programs use the machine, wall time says less than CPU time: a target is met when both meet it, and
    by which it is missed can be seen."""
    values = [(value, kind) for value, kind in ((by_wall, "by wall time"), (by_cpu, "by CPU time")) if value is not None]
    state = "met   " if all(met(value) for value, _ in values) else "MISSED"
    return f"{state} {name} ({target}): " + ", ".join(f"{value:.2f} {kind}" for value, kind in values) + note


def ratio_target(rows, name, workloads, least):
    found = []
    for column in ("tcg_to_bt", "tcg_to_bt_cpu"):
        found.append({r["name"]: r[column] for r in rows if r[column] and (workloads is None or r["name"] in workloads)})
    if not found[0]:
        return None
    below = sorted({w for ratios in found for w in ratios if ratios[w] < least})
    note = "; below: " + ", ".join(f"{w} {found[0][w]:.2f}/{found[1].get(w, 0):.2f}" for w in below) if below else ""
    worst = [min(ratios.values()) if ratios else None for ratios in found]
    return verdict(name, *worst, f"worst at least {least}", lambda v: v >= least, note)


def mean_target(rows):
    means = [geometric_mean([r[c] for r in rows if r[c]]) for c in ("tcg_to_bt", "tcg_to_bt_cpu")]
    if not means[0]:
        return None
    return verdict("geometric mean of TCG's time over bt's", *means, f"at least {GEOMEAN_TARGET}", lambda v: v >= GEOMEAN_TARGET)


def boot_target(times, kernel):
    bt, tcg = times.get(f"boot-{kernel}-bt"), times.get(f"boot-{kernel}-qemu-tcg")
    if not bt or not tcg:
        return None
    return verdict(f"cold boot of {kernel}'s kernel, of TCG's time", bt[0] / tcg[0], bt[1] / tcg[1], f"at most {BOOT_TARGET}",
                   lambda v: v <= BOOT_TARGET)


def threads_target(results):
    gain, native = threads_gain(results, "bt"), threads_gain(results, "native")
    if not gain:
        return None
    return verdict("two busy threads against one", gain, threads_gain_cpu(results, "bt"), f"at least {THREADS_TARGET}",
                   lambda v: v >= THREADS_TARGET, f"; natively in the same minutes {native:.2f}" if native else "")


def overhead_target(results):
    if "bt" not in results.overhead:
        return None
    most = max(results.overhead["bt"])
    state = "met   " if most <= OVERHEAD_TARGET_MIB else "MISSED"
    return f"{state} memory beyond the guest's RAM (at most {OVERHEAD_TARGET_MIB} MiB): {most:.1f} MiB"


def targets(rows, results, times):
    """One line for each target of which something was measured."""
    lines = [mean_target(rows)]
    lines += [ratio_target(rows, *t) for t in RATIO_TARGETS]
    lines += [boot_target(times, kernel) for kernel in ("debian", "kiln")]
    lines += [threads_target(results), overhead_target(results)]
    return "\n".join(line for line in lines if line)
