/* Programs nobody compiled for this: busybox compresses a file and runs a shell loop. Its start is
 * part of the time. /bin/busybox in the guest, and natively the same file by the variable BUSYBOX.
 */
#include "bench/work/work.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *busybox(void)
{
    const char *path = getenv("BUSYBOX");

    if (!path || !*path)
        path = "/bin/busybox";
    work_expect(!access(path, X_OK), "busybox is there");
    return path;
}

/* glibc in busybox chooses its string functions by what the CPU offers: the same ones everywhere.
 */
static char tunables[] = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX_Usable,-AVX2_Usable,-AVX2,-AVX512F,"
                         "-AVX512VL,-ERMS,-FSRM,-BMI2,-SSE4_2,-Fast_Unaligned_Load";

/* Runs it with standard input from fd in and returns a hash of what it prints. */
static uint64_t output_of(const char *const argv[], int in)
{
    char *envp[] = {tunables, NULL};
    const char *path = busybox();
    unsigned char buf[4096];
    uint64_t h = 0;
    int out[2], status;
    ssize_t got;

    work_expect(!pipe(out), "pipe");
    pid_t pid = fork();
    if (!pid) {
        dup2(in, 0);
        dup2(out[1], 1);
        close(out[0]);
        close(out[1]);
        execve(path, (char *const *)argv, envp);
        _exit(127);
    }
    close(out[1]);
    while ((got = read(out[0], buf, sizeof(buf))) > 0)
        for (ssize_t i = 0; i < got; i++)
            h = work_mix(h, buf[i]);
    close(out[0]);
    work_expect(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status),
                "busybox's exit status");
    return h;
}

/* n KiB of text-like bytes in a file without a name. */
static int text_file(uint64_t n)
{
    static const char *const words[] = {"the ", "kernel ", "of ",      "a ",   "machine ",
                                        "is ",  "in ",     "memory ",  "and ", "page ",
                                        "\n",   "to ",     "process ", "0x"};
    char name[256], line[1200];
    uint64_t seed = WORK_SEED;

    snprintf(name, sizeof(name), "%s/work-text.XXXXXX", work_tmp());
    int fd = mkstemp(name);
    work_expect(fd >= 0, "a temporary file");
    unlink(name);
    for (uint64_t k = 0; k < n; k++) {
        size_t len = 0;
        while (len < 1024) {
            uint64_t r = work_random(&seed);
            const char *w = words[r % WORK_COUNT(words)];
            memcpy(line + len, w, strlen(w));
            len += strlen(w);
            if (!(r >> 61))
                len += (size_t)snprintf(line + len, 16, "%x ", (unsigned)(r >> 40));
        }
        work_expect(write(fd, line, 1024) == 1024, "write");
    }
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static uint64_t gzip(uint64_t n)
{
    const char *const argv[] = {"gzip", "-c", NULL};
    int fd = text_file(n);
    uint64_t h = output_of(argv, fd);

    close(fd);
    return h;
}

/* n turns of a loop in busybox's shell: arithmetic, tests, strings. */
static uint64_t shell_loop(uint64_t n)
{
    char script[256];
    const char *const argv[] = {"sh", "-c", script, NULL};

    snprintf(script, sizeof(script),
             "i=0; s=0; while [ $i -lt %llu ]; do i=$((i + 1)); s=$(((s * 31 + i) %% 65521)); "
             "t=\"$t$i\"; t=${t#??????}; done; echo $s $t",
             (unsigned long long)n);
    return output_of(argv, 0);
}

const struct work work_shell[] = {
    {"gzip", gzip, 3000, 1},
    {"shell-loop", shell_loop, 40000, 1},
    {0},
};
