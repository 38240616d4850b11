"""A Debian root file system in a machine: its interpreters, its tools, its compiler do real work."""
import gzip
import hashlib
import os
import sys

from e2e import PROGRAMS, SOURCE, debian_image, main, same, status

MEMORY = ["-m", "1g"]


def prepare(w):
    debian_image(w, os.path.join(os.environ.get("KILN_BUILD") or str(SOURCE / "build"), "kiln-debian.tar"))


def debian(w, script, **more):
    return w.run("sh", "-c", script, image="debian", flags=MEMORY + list(more.pop("flags", [])), **more)


def test_its_release_and_its_shell(w):
    done = debian(w, ". /etc/os-release; echo $ID $VERSION_CODENAME; dpkg --print-architecture")
    status(done, 0)
    same(done.stdout, b"debian bookworm\namd64\n")


def test_perl(w):
    done = debian(w, r"""perl -e 'my %h; $h{$_ % 97} += $_ ** 0.5 for 1..50000; my $t = join ",", map { sprintf "%.3f", $h{$_} }
        sort { $a <=> $b } keys %h; $t =~ s/(\d+)\./<$1>/g; print length($t), " ", scalar(keys %h), "\n"'""")
    status(done, 0)
    size, keys = done.stdout.split()
    same(keys, b"97")
    assert int(size) > 900, done.stdout


def test_python(w):
    # python3-minimal has few modules
    done = debian(w, "python3 -c 'import hashlib\n"
                     "text = repr([[i, str(i) * 3, i / 7] for i in range(2000)])\n"
                     "print(hashlib.sha256(text.encode()).hexdigest(), sum(i * i for i in range(100000)))'")
    status(done, 0)
    text = repr([[i, str(i) * 3, i / 7] for i in range(2000)])
    same(done.stdout.decode().split(), [hashlib.sha256(text.encode()).hexdigest(), str(sum(i * i for i in range(100000)))])


def test_gzip_both_ways(w):
    data = b"".join(b"line %d of the text that is packed\n" % (i * i) for i in range(60000))
    done = debian(w, "gzip -6", flags=["-i"], input=data)
    status(done, 0)
    assert len(done.stdout) < len(data) / 3
    same(gzip.decompress(done.stdout), data)
    done = debian(w, "gzip -dc | sha256sum", flags=["-i"], input=gzip.compress(data))
    same(done.stdout.split()[0].decode(), hashlib.sha256(data).hexdigest())


def test_a_program_is_compiled_and_runs(w):
    source = r"""
#include <math.h>
#include <pthread.h>
#include <stdio.h>
static double part[2];
static void *sum(void *p)
{
    long k = (long)p;
    for (long i = 1 + k; i <= 200000; i += 2)
        part[k] += sqrt((double)i) / i;
    return NULL;
}
int main(void)
{
    pthread_t t[2];
    for (long k = 0; k < 2; k++)
        pthread_create(&t[k], NULL, sum, (void *)k);
    for (int k = 0; k < 2; k++)
        pthread_join(t[k], NULL);
    printf("%.4f\n", part[0] + part[1]);
    return 3;
}
"""
    done = debian(w, "cat > /tmp/a.c && gcc -O2 -Wall -Werror -o /tmp/a /tmp/a.c -lm && /tmp/a",
                  flags=["-i", "--cpus", "2"], input=source.encode())
    status(done, 3)
    same(float(done.stdout), round(sum(i ** 0.5 / i for i in range(1, 200001)), 4))


def test_a_just_in_time_compiler(w):
    done = debian(w, "luajit /programs/jit.lua", flags=["-v", f"{PROGRAMS}:/programs:ro"])
    status(done, 0)
    same(done.stdout, (PROGRAMS / "jit.lua.out").read_bytes())


def test_strace_follows_children(w):
    done = debian(w, "strace -f -o /tmp/log -e trace=execve,kill sh -c 'ls / | wc -l; (kill -TERM $$); sleep 9'; echo $?; "
                  "grep -c 'execve(\"/usr/bin/\\(ls\\|wc\\|sh\\)\"' /tmp/log; grep -o 'SIGTERM {si_signo=SIGTERM' /tmp/log")
    status(done, 0)
    same(done.stdout.split(b"\n")[1:], [b"143", b"3", b"SIGTERM {si_signo=SIGTERM", b""])


def test_many_processes(w):
    done = debian(w, "i=0; while [ $i -lt 200 ]; do (exit 0) & i=$((i + 1)); done; wait; ls -R /usr | wc -l")
    status(done, 0)
    assert int(done.stdout) > 1000


if __name__ == "__main__":
    sys.exit(main(globals()))
