/* PID 1 of the machines that the snapshot tests save and go on with: answers one line a connection
 * on vsock port 5000, while a child computes.
 *
 *   state          counter, monotonic and wall time, random numbers, one line
 *   touch MIB      write so much memory; answers its checksum
 *   check          the checksum of that memory now
 *   disk TEXT      write TEXT to the start of /dev/vda, through its cache
 *   read           the first line on /dev/vda
 *   quit           power off
 *
 * The counter is a sum over generated numbers: state() computes anew what it has to be, so that a
 * lost step or bit shows as "counter wrong". */
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 5000, STEP = 20000 };

struct work { /* shared with the computing child */
    volatile uint64_t rounds, x, guard;
};

static uint64_t step(uint64_t x)
{
    for (int i = 0; i < STEP; i++)
        x = x * 6364136223846793005ull + 1442695040888963407ull;
    return x;
}

static void compute(struct work *w)
{
    for (;;) {
        uint64_t x = step(w->x);

        w->guard = 1;
        w->x = x;
        w->rounds++;
        w->guard = 0;
        usleep(500);
    }
}

/* The value after `rounds` rounds, by the closed form's doubling. */
static uint64_t expected(uint64_t rounds)
{
    uint64_t a = 6364136223846793005ull, c = 1442695040888963407ull, x = 0;

    for (uint64_t n = rounds * STEP; n; n >>= 1) {
        if (n & 1)
            x = x * a + c;
        c = c * a + c;
        a = a * a;
    }
    return x;
}

static unsigned long long ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec;
}

static void state(FILE *out, struct work *w)
{
    uint64_t rounds, x, random[2] = {0};

    do {
        rounds = w->rounds;
        x = w->x;
    } while (w->guard || rounds != w->rounds);
    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        perror("getrandom");
    fprintf(out, "counter %llu %s mono %llu wall %llu random %016llx%016llx\n",
            (unsigned long long)rounds, x == expected(rounds) ? "right" : "wrong",
            ns(CLOCK_MONOTONIC), ns(CLOCK_REALTIME), (unsigned long long)random[0],
            (unsigned long long)random[1]);
}

static uint64_t *area;
static size_t area_words;

static void check(FILE *out)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < area_words; i++)
        sum = sum * 31 + area[i];
    fprintf(out, "sum %016llx\n", (unsigned long long)sum);
}

static void touch(FILE *out, unsigned long mib)
{
    size_t words = mib << 17;
    uint64_t x;

    if (!area || words > area_words) {
        area = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        area_words = words;
    }
    if (area == MAP_FAILED || getrandom(&x, sizeof(x), 0) != sizeof(x)) {
        perror("touch");
        return;
    }
    for (size_t i = 0; i < words; i++)
        area[i] = x = x * 6364136223846793005ull + 1442695040888963407ull;
    check(out);
}

static void disk(FILE *out, const char *text)
{
    char sector[512] = {0};
    int fd = open("/dev/vda", O_RDWR | O_SYNC);

    memcpy(sector, text, strnlen(text, sizeof(sector) - 1));
    fprintf(out, fd >= 0 && pwrite(fd, sector, sizeof(sector), 0) == sizeof(sector) ? "written\n"
                                                                                    : "failed\n");
    close(fd);
}

static void read_disk(FILE *out)
{
    char sector[513] = {0};
    int fd = open("/dev/vda", O_RDONLY);

    if (fd < 0 || pread(fd, sector, 512, 0) != 512)
        memcpy(sector, "failed\n", 8);
    sector[strcspn(sector, "\n")] = '\0';
    fprintf(out, "%s\n", sector);
    close(fd);
}

static void serve(FILE *f, struct work *w)
{
    char line[600] = "";

    if (!fgets(line, sizeof(line), f))
        return;
    if (strcmp(line, "state\n") == 0)
        state(f, w);
    else if (strncmp(line, "touch ", 6) == 0)
        touch(f, strtoul(line + 6, NULL, 10));
    else if (strcmp(line, "check\n") == 0)
        check(f);
    else if (strncmp(line, "disk ", 5) == 0)
        disk(f, line + 5);
    else if (strcmp(line, "read\n") == 0)
        read_disk(f);
    else if (strcmp(line, "quit\n") == 0)
        reboot(RB_POWER_OFF);
}

int main(void)
{
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_port = PORT, .svm_cid = VMADDR_CID_ANY};
    struct work *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    if (fork() == 0)
        compute(w);
    int l = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (l < 0 || bind(l, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(l, 64) < 0)
        perror("vsock");
    puts("probe listens");
    for (;;) {
        int fd = accept(l, NULL, NULL);
        FILE *f = fd >= 0 ? fdopen(fd, "r+") : NULL;

        if (f) {
            serve(f, w);
            fclose(f);
        } else {
            perror("accept");
            sleep(1);
        }
    }
}
