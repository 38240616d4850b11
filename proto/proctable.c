#include "proto/proctable.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/packwrite.h"

enum { PASSWD_MAX = 65536 };

/* A file of /proc/PID, NUL-terminated. Bytes, or -errno. */
static ssize_t read_file(int proc, pid_t pid, const char *name, char *buf, size_t len)
{
    char path[64];

    snprintf(path, sizeof(path), "%d/%s", (int)pid, name);
    CLEANUP(fd) int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, len - 1);
    if (n < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    buf[n] = '\0';
    return n;
}

static uint64_t uptime_ticks(long hz)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * (uint64_t)hz + (uint64_t)t.tv_nsec / (1000000000u / (uint64_t)hz);
}

static void printable(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?';
}

static void read_command(int proc, pid_t pid, const char *name, struct proctable_row *row)
{
    ssize_t n = read_file(proc, pid, "cmdline", row->command, sizeof(row->command));

    while (n > 0 && row->command[n - 1] == '\0')
        n--;
    if (n <= 0) { /* a zombie, or the kernel's own */
        snprintf(row->command, sizeof(row->command), "[%s]", name);
    } else {
        for (ssize_t i = 0; i < n; i++)
            if (row->command[i] == '\0')
                row->command[i] = ' ';
    }
    printable(row->command);
}

int proctable_read(int proc, pid_t pid, struct proctable_row *row)
{
    char text[1024], dir[32], name[64] = "";
    unsigned long long utime, stime, start, vsize;
    long rss, nice, threads, hz = sysconf(_SC_CLK_TCK);
    struct stat st;
    ssize_t n = read_file(proc, pid, "stat", text, sizeof(text));

    if (n < 0)
        return (int)n;
    *row = (struct proctable_row){.pid = pid};
    /* The name may hold anything, a ')' too. */
    char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (!open || !close || close < open)
        return -ESRCH;
    snprintf(name, sizeof(name), "%.*s", (int)(close - open - 1), open + 1);
    if (sscanf(close + 1,
               " %c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %ld %ld %*d %llu "
               "%llu %ld",
               &row->state, &row->ppid, &row->tty, &utime, &stime, &nice, &threads, &start, &vsize,
               &rss) != 10)
        return -ESRCH;
    snprintf(dir, sizeof(dir), "%d", (int)pid);
    if (fstatat(proc, dir, &st, 0) < 0)
        return -ESRCH;
    uint64_t now = uptime_ticks(hz);
    row->uid = st.st_uid;
    row->nice = (int)nice;
    row->threads = (unsigned)threads;
    row->cpu_ms = (utime + stime) * 1000 / (uint64_t)hz;
    row->elapsed_s = now > start ? (now - start) / (uint64_t)hz : 0;
    row->vsize = vsize;
    row->rss = rss > 0 ? (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
    read_command(proc, pid, name, row);
    return 0;
}

/* In one line of passwd(5): "name:x:uid:..." */
static bool line_names(const char *line, uint32_t uid, char *out, size_t len)
{
    const char *c1 = strchr(line, ':'), *c2 = c1 ? strchr(c1 + 1, ':') : NULL;
    char *end;

    if (!c2 || !isdigit((unsigned char)c2[1]) || c1 == line)
        return false;
    unsigned long v = strtoul(c2 + 1, &end, 10);
    if (*end != ':' || v != uid)
        return false;
    snprintf(out, len, "%.*s", (int)(c1 - line), line);
    for (char *c = out; *c; c++)
        if (!isgraph((unsigned char)*c))
            *c = '?';
    return true;
}

void proctable_user(int root, uint32_t uid, char *out, size_t len)
{
    CLEANUP(fd) int fd = packwrite_open(root, "etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY);
    CLEANUP(mem) char *text = fd < 0 ? NULL : malloc(PASSWD_MAX);
    ssize_t n = text ? read(fd, text, PASSWD_MAX - 1) : -1;

    snprintf(out, len, "%u", uid);
    if (n <= 0)
        return;
    text[n] = '\0';
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
        if (line_names(line, uid, out, len))
            return;
}

int proctable_format(const struct proctable_row *r, char *line)
{
    return snprintf(line, PROCTABLE_LINE_MAX, "%d %d %c %u %s %d %d %u %llu %llu %llu %llu %s\n",
                    (int)r->pid, (int)r->ppid, r->state, r->uid, r->user, r->tty, r->nice,
                    r->threads, (unsigned long long)r->cpu_ms, (unsigned long long)r->elapsed_s,
                    (unsigned long long)r->rss, (unsigned long long)r->vsize, r->command);
}

bool proctable_parse(const char *line, struct proctable_row *r)
{
    unsigned long long cpu, elapsed, rss, vsize;
    int at = -1;

    *r = (struct proctable_row){.pid = 0};
    if (sscanf(line, "%d %d %c %u %32s %d %d %u %llu %llu %llu %llu %n", &r->pid, &r->ppid,
               &r->state, &r->uid, r->user, &r->tty, &r->nice, &r->threads, &cpu, &elapsed, &rss,
               &vsize, &at) < 12 ||
        at < 0)
        return false;
    r->cpu_ms = cpu;
    r->elapsed_s = elapsed;
    r->rss = rss;
    r->vsize = vsize;
    snprintf(r->command, sizeof(r->command), "%s", line + at);
    printable(r->command);
    printable(r->user);
    return isgraph((unsigned char)r->state);
}

static int write_rows(int root, int proc, struct pack_out *o)
{
    int copy = fcntl(proc, F_DUPFD_CLOEXEC, 0);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *de;
    struct proctable_row row;
    char line[PROCTABLE_LINE_MAX];
    unsigned n = 0;
    int r = 0;

    if (!d) {
        r = -errno;
        cleanup_fd(&copy);
        return r;
    }
    while (r == 0 && n < PROCTABLE_ROWS_MAX && (de = readdir(d))) {
        pid_t pid = (pid_t)strtol(de->d_name, NULL, 10);

        if (pid <= 1 || pid == getpid() || proctable_read(proc, pid, &row) < 0)
            continue;
        proctable_user(root, row.uid, row.user, sizeof(row.user));
        int len = proctable_format(&row, line);
        if (len > 0 && len < (int)sizeof(line))
            r = pack_put_data(o, line, (size_t)len);
        n++;
    }
    return r;
}

int proctable_write(int root, struct pack_out *o, struct err *e)
{
    const struct pack_entry en = {.type = PACK_FILE, .path = "top", .link = ""};
    CLEANUP(fd) int proc = packwrite_open(root, "proc", O_RDONLY | O_DIRECTORY);
    int r = proc < 0 ? proc : pack_put_entry(o, &en);

    if (r == 0)
        r = write_rows(root, proc, o);
    return r < 0 ? err_errno(e, r, "/proc of the container") : 0;
}
