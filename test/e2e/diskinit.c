/* PID 1 of the machines whose disks are tested; what it does is said on the kernel's command line:
 *   do=code     read one block of the disk after the other into the same page and call what it
 * holds do=records  write records, each synced, and say so of each; others write beside it, without
 * end do=fio      run fio, whose files come by virtio-fs with the tag "fio", over the disk The disk
 * is /dev/vda. What is said goes to the console. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 4096, ROUNDS = 4, RECORDS_AT = 16 << 20, WORDS_MAX = 32 };

static char cmdline[2048];

static void end(void)
{
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

static void die(const char *what)
{
    printf("failed: %s: %s\n", what, strerror(errno));
    end();
}

static int open_disk(int flags)
{
    int fd = open("/dev/vda", flags | O_CLOEXEC);

    if (fd < 0)
        die("/dev/vda");
    return fd;
}

/* Each block begins with a function that returns its number. The page the disk writes to holds what
 * the CPU ran just before. */
static void code(void)
{
    int fd = open_disk(O_RDONLY | O_DIRECT);
    off_t size = lseek(fd, 0, SEEK_END);
    void *page =
        mmap(NULL, BLOCK, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned calls = 0, wrong = 0;

    if (page == MAP_FAILED)
        die("mmap");
    for (int round = 0; round < ROUNDS; round++) {
        for (off_t at = 0; at < size; at += BLOCK) {
            if (pread(fd, page, BLOCK, at) != BLOCK)
                die("read");
            for (int again = 0; again < 3; again++, calls++)
                wrong += ((unsigned (*)(void))page)() != at / BLOCK;
        }
    }
    printf("code: %u calls, %u wrong\n", calls, wrong);
}

static void hammer(int fd)
{
    static uint8_t block[16 * BLOCK];

    for (uint32_t n = 0;; n++) {
        memset(block, (int)n, sizeof(block));
        if (pwrite(fd, block, sizeof(block), (off_t)(n % 256) * (off_t)sizeof(block)) < 0)
            _exit(1);
    }
}

static void records(void)
{
    int fd = open_disk(O_RDWR);
    uint32_t block[BLOCK / 4];

    if (fork() == 0)
        hammer(fd);
    for (uint32_t n = 1;; n++) {
        for (unsigned i = 0; i < BLOCK / 4; i++)
            block[i] = n * 2654435761u + i;
        if (pwrite(fd, block, BLOCK, RECORDS_AT + (off_t)n * BLOCK) != BLOCK || fdatasync(fd) < 0)
            die("write");
        printf("record %u\n", n);
        fflush(stdout);
    }
}

static void run_fio(void)
{
    char *word[WORDS_MAX] = {"fio"};
    unsigned n = 1;
    int status;
    char *args = strstr(cmdline, "fio="), *save = NULL;

    for (char *p = args ? strtok_r(args + 4, ",\n ", &save) : NULL; p && n + 1 < WORDS_MAX;
         p = strtok_r(NULL, ",\n ", &save))
        word[n++] = p;
    if (mount("fio", "/fio", "virtiofs", 0, NULL) < 0)
        die("mount fio");
    if (mount("dev", "/fio/dev", "devtmpfs", 0, NULL) < 0 ||
        mount("tmp", "/fio/tmp", "tmpfs", 0, NULL) < 0 ||
        mount("proc", "/fio/proc", "proc", 0, NULL) < 0 ||
        mount("sys", "/fio/sys", "sysfs", 0, NULL) < 0)
        die("mount in fio");
    if (fork() == 0) {
        if (chroot("/fio") < 0 || chdir("/tmp") < 0)
            die("chroot");
        execv("/bin/fio", word);
        die("/bin/fio");
    }
    wait(&status);
    printf("fio: status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

int main(void)
{
    int fd;

    mkdir("/proc", 0755);
    mkdir("/fio", 0755);
    if (mount("proc", "/proc", "proc", 0, NULL) < 0 ||
        mount("dev", "/dev", "devtmpfs", 0, NULL) < 0)
        die("mount");
    fd = open("/proc/cmdline", O_RDONLY);
    if (fd < 0 || read(fd, cmdline, sizeof(cmdline) - 1) < 0)
        die("/proc/cmdline");
    close(fd);
    if (strstr(cmdline, "do=code"))
        code();
    else if (strstr(cmdline, "do=records"))
        records();
    else if (strstr(cmdline, "do=fio"))
        run_fio();
    else
        printf("nothing to do\n");
    end();
}
