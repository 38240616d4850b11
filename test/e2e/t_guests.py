"""Guests that are hard on a translator: just-in-time compilers, a debugger, 32-bit programs, stress-ng.

Slow, and the image is large (800 MB, two minutes to make): not part of a plain `make check`, but
    make check SUITE=guests-slow

environment: as e2e.py, and
             KILN_BUILD      where the image is kept (build)
             KILN_STRESS_S   seconds for each of stress-ng's stressors (2)
"""
import os
import sys

from e2e import ENGINE, PROGRAMS, SOURCE, debian_image, main, same, status

TEST_LIMIT = 1800
PACKAGES = "gcc-multilib,gdb,nodejs,openjdk-17-jre-headless,procps,stress-ng"

# What a machine can get wrong; not what loads the host's disk or asks for hardware.
STRESSORS = """atomic bad-altstack bigheap branch brk bsearch clone context cpu crypt dekker dev-shm env exec fault fork
    fp funccall funcret futex goto hash heapsort hsearch icache idle-page jpeg list lockbus longjmp lsearch madvise
    malloc matrix matrix-3d mcontend membarrier memcpy memrate mergesort misaligned mmap mmapfork mprotect mq mremap
    msg munmap nanosleep nop opcode pagemove peterson pipe poll prefetch priv-instr pthread ptrace qsort radixsort
    regs rlimit rmap rotate rseq schedpolicy sem sem-sysv shm shm-sysv sigabrt sigchld sigfd sigfpe signal sigq sigrt
    sigsegv sigsuspend sigtrap skiplist sleep spawn stack stackmmap str stream switch sysbadaddr timer tlb-shootdown
    tree tsearch userfaultfd usersyscall vdso vecfp vecmath vecshuf vecwide vfork vm vm-rw vm-segv wait wcs x86syscall
    yield zlib zombie""".split()

PROGRAM_32 = r"""
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <math.h>
static __thread int own;
static jmp_buf back;
static void on_fault(int sig) { longjmp(back, sig); }
static void *body(void *p)
{
    own = (int)p;
    for (int i = 0; i < 1000; i++)
        own += i;
    return (void *)own;
}
int main(void)
{
    pthread_t t[3];
    void *r;
    double s = 0;
    for (int i = 1; i <= 100000; i++)
        s += sin(i) / i;
    printf("%d %.9f %llu\n", (int)sizeof(void *), s, 12345678901234567ull / 12345);
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, body, (void *)i);
    for (int i = 0; i < 3; i++) {
        pthread_join(t[i], &r);
        printf("%d ", (int)r);
    }
    signal(SIGSEGV, on_fault);
    int sig = setjmp(back);
    if (!sig)
        *(volatile int *)8 = 1;
    printf("%d\n", sig);
    return 0;
}
"""


def prepare(w):
    debian_image(w, os.path.join(os.environ.get("KILN_BUILD") or str(SOURCE / "build"), "kiln-guests.tar"), [PACKAGES])


def guest(w, script, cpus=2, **more):
    flags = ["-m", "2g", "--cpus", str(cpus), "-v", f"{PROGRAMS}:/programs:ro", *more.pop("flags", [])]
    return w.run("sh", "-c", script, image="debian", flags=flags, timeout=TEST_LIMIT, **more)


def prints_as_everywhere(w, command, name):
    want = (PROGRAMS / (name + ".out")).read_bytes()
    for cpus in (1, 2):
        done = guest(w, command, cpus)
        status(done, 0)
        same(done.stdout, want)


def test_node(w):
    prints_as_everywhere(w, "node /programs/jit.js", "jit.js")


def test_luajit(w):
    prints_as_everywhere(w, "luajit /programs/jit.lua", "jit.lua")


def test_java(w):
    prints_as_everywhere(w, "java /programs/Jit.java", "Jit.java")


def test_gdb(w):
    prints_as_everywhere(w, "cd /tmp && cp /programs/debugged.c . && gcc -g -O1 -no-pie -o debugged debugged.c && "
                         "env -i gdb -q -nx -batch -x /programs/debug.gdb ./debugged 2>&1 | sed "
                         "'s/process [0-9]*/process N/; s/LWP [0-9]*/LWP N/; /debuginfod/d; /index cache/d; /libthread_db/d'",
                         "debug.gdb")


def test_a_32_bit_program(w):
    done = guest(w, "cat > /tmp/p.c && gcc -m32 -O2 -o /tmp/p /tmp/p.c -lm && /tmp/p && gcc -m32 -O2 -static -o /tmp/q "
                 "/tmp/p.c -lm && /tmp/q", flags=["-i"], input=PROGRAM_32.encode())
    status(done, 0)
    same(done.stdout, b"4 1.070805652 1000054994024\n499500 499501 499502 11\n" * 2)


def test_stress(w):
    seconds = os.environ.get("KILN_STRESS_S") or "2"
    done = guest(w, f"sh /programs/stress.sh {seconds} {' '.join(STRESSORS)}")
    status(done, 0)
    same(done.stdout.decode(), "")


if __name__ == "__main__":
    sys.exit(main(globals()))
