#include "cmd/psrow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "cmd/columns.h"
#include "cmd/human.h"

enum { COMMAND_SHOWN = 20, MOUNT_SHOWN = 15 };

static const char *health_note(const struct record_state *s)
{
    switch (s->health) {
    case RECORD_STARTING:
        return " (health: starting)";
    case RECORD_HEALTHY:
        return " (healthy)";
    case RECORD_UNHEALTHY:
        return " (unhealthy)";
    case RECORD_HEALTH_NONE:
        break;
    }
    return "";
}

void psrow_status(const struct record *r, int64_t now_ns, char *buf, size_t len)
{
    const struct record_state *s = &r->state;
    char up[HUMAN_MAX], ago[HUMAN_MAX];

    human_duration(now_ns - s->started_ns, up);
    human_ago(s->finished_ns, now_ns, ago);
    switch (s->status) {
    case RECORD_RUNNING:
        snprintf(buf, len, "Up %s%s", up, health_note(s));
        return;
    case RECORD_PAUSED:
        snprintf(buf, len, "Up %s (Paused)", up);
        return;
    case RECORD_RESTARTING:
        snprintf(buf, len, "Restarting (%d) %s", s->exit_code, ago);
        return;
    case RECORD_EXITED:
        snprintf(buf, len, "Exited (%d) %s", s->exit_code, ago);
        return;
    case RECORD_CREATED:
        snprintf(buf, len, "Created");
        return;
    case RECORD_REMOVING:
        snprintf(buf, len, "Removal In Progress");
        return;
    case RECORD_DEAD:
        snprintf(buf, len, "Dead");
        return;
    }
    snprintf(buf, len, "%s", record_status_name(s->status));
}

static bool is_published(const struct record *r, unsigned port, bool udp)
{
    for (unsigned i = 0; i < r->state.n_ports; i++)
        if (r->state.port[i].ctr_port == port && r->state.port[i].udp == udp)
            return true;
    return false;
}

static void put_ports(FILE *out, const struct record_port *p, unsigned more)
{
    const char *range = more ? "%u-%u" : "%u", *protocol = p->udp ? "udp" : "tcp";
    char host[16], ctr[16];

    snprintf(host, sizeof(host), range, p->host_port, p->host_port + more);
    snprintf(ctr, sizeof(ctr), range, p->ctr_port, p->ctr_port + more);
    if (strchr(p->host_ip, ':'))
        fprintf(out, "[%s]:%s->%s/%s", p->host_ip, host, ctr, protocol);
    else
        fprintf(out, "%s:%s->%s/%s", p->host_ip[0] ? p->host_ip : "0.0.0.0", host, ctr, protocol);
    if (!p->host_ip[0])
        fprintf(out, ", [::]:%s->%s/%s", host, ctr, protocol);
}

/* How many of the ports behind `first` go on with its range. */
static unsigned run_of(const struct record_state *s, unsigned first)
{
    const struct record_port *p = &s->port[first];
    unsigned n = 0;

    while (first + n + 1 < s->n_ports && p[n + 1].udp == p->udp &&
           p[n + 1].ctr_port == p->ctr_port + n + 1 && p[n + 1].host_port == p->host_port + n + 1 &&
           strcmp(p[n + 1].host_ip, p->host_ip) == 0)
        n++;
    return n;
}

char *psrow_ports(const struct record *r)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    const char *between = "";

    if (!out)
        return NULL;
    for (unsigned i = 0; i < r->state.n_ports; i++) {
        unsigned more = run_of(&r->state, i);

        fputs(between, out);
        put_ports(out, &r->state.port[i], more);
        between = ", ";
        i += more;
    }
    for (size_t i = 0; i < r->spec.exposed.n; i++) {
        const char *port = r->spec.exposed.v[i];
        char *end;
        unsigned long n = strtoul(port, &end, 10);

        if (n > 65535 || is_published(r, (unsigned)n, strcmp(end, "/udp") == 0))
            continue;
        fprintf(out, "%s%s", between, port);
        between = ", ";
    }
    fclose(out);
    return text;
}

/* Links are not followed: the layer is a hostile file system. */
static uint64_t folder_size(int dir, const char *name, unsigned depth)
{
    enum { DEEPEST = 200 };
    int fd =
        depth < DEEPEST ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    CLEANUP(dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
    uint64_t sum = 0;
    struct dirent *de;
    struct stat st;

    while (d && (de = readdir(d))) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
            fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            sum += folder_size(dirfd(d), de->d_name, depth + 1);
        else if (S_ISREG(st.st_mode))
            sum += (uint64_t)st.st_size;
    }
    if (!d && fd >= 0)
        close(fd);
    return sum;
}

/* Of the writable layer: a folder, or a disk with holes. */
static void show_size(const struct record *r, char *buf, size_t len)
{
    char text[HUMAN_MAX];
    struct stat st;
    uint64_t bytes = folder_size(r->dir, "upper", 0);

    if (fstatat(r->dir, "disk.img", &st, AT_SYMLINK_NOFOLLOW) == 0)
        bytes += (uint64_t)st.st_blocks * 512;
    snprintf(buf, len, "%s", human_size(bytes, text));
}

/* "words of the…" */
static char *shorten(const char *text, int most)
{
    char *out = NULL;
    size_t keep = strlen(text);

    if (columns_width(text, keep) <= most)
        return strdup(text);
    for (keep = 0; columns_width(text, keep + 1) < most ||
                   (text[keep] & 0xc0) == 0x80;) /* the rest of a character goes with it */
        keep++;
    return asprintf(&out, "%.*s…", (int)keep, text) < 0 ? NULL : out;
}

/* In double quotes, as Go's strconv.Quote. */
static char *quote(const char *text)
{
    json_t *s = json_string_nocheck(text);
    char *quoted = s ? json_dumps(s, JSON_ENCODE_ANY) : NULL;

    json_decref(s);
    return quoted;
}

static char *command_of(const struct record *r, bool whole)
{
    CLEANUP(mem) char *line = NULL;
    CLEANUP(mem) char *cut = NULL;
    size_t len;
    FILE *out = open_memstream(&line, &len);

    if (!out)
        return NULL;
    for (size_t i = 0; i < r->spec.argv.n; i++)
        fprintf(out, "%s%s", i ? " " : "", r->spec.argv.v[i]);
    fclose(out);
    cut = whole ? NULL : shorten(line, COMMAND_SHOWN);
    return quote(cut ? cut : line);
}

static char *joined(const struct strv *words)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    for (size_t i = 0; out && i < words->n; i++)
        fprintf(out, "%s%s", i ? "," : "", words->v[i]);
    if (out)
        fclose(out);
    return text;
}

static char *mounts_of(const struct record *r, bool whole, int *volumes)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    const char *between = "";

    *volumes = 0;
    for (size_t i = 0; out && i < r->spec.n_mounts; i++) {
        const struct spec_mount *m = &r->spec.mounts[i];
        CLEANUP(mem) char *cut = m->source && !whole ? shorten(m->source, MOUNT_SHOWN) : NULL;

        *volumes += m->kind == SPEC_VOLUME;
        if (!m->source)
            continue;
        fprintf(out, "%s%s", between, cut ? cut : m->source);
        between = ",";
    }
    if (out)
        fclose(out);
    return text;
}

static char *networks_of(const struct record *r)
{
    char *text = NULL;
    size_t len;
    FILE *out;

    if (r->state.n_addresses == 0)
        return strdup(r->spec.network ? r->spec.network : "");
    out = open_memstream(&text, &len);
    for (unsigned i = 0; out && i < r->state.n_addresses; i++)
        fprintf(out, "%s%s", i ? "," : "", r->state.address[i].network);
    if (out)
        fclose(out);
    return text;
}

/* JSON is UTF-8; what is not, as a command may be, is shown as question marks. */
static void put(json_t *row, const char *name, const char *text)
{
    json_t *value = json_string(text ? text : "");
    CLEANUP(mem) char *plain = value ? NULL : strdup(text);

    for (char *s = plain; s && *s; s++)
        if ((unsigned char)*s >= 0x80)
            *s = '?';
    json_object_set_new(row, name, value ? value : json_string(plain ? plain : ""));
}

/* By what it was asked for; by its id where another image has that name now is not looked into. */
static void put_image(json_t *row, const struct spec *s)
{
    char id[HUMAN_MAX];

    put(row, "Image", s->image ? s->image : s->image_id ? human_id(s->image_id, id) : "");
}

json_t *psrow_of(const struct record *r, const struct psrow_how *how)
{
    char text[HUMAN_MAX], status[2 * HUMAN_MAX], size[HUMAN_MAX] = "";
    int volumes;
    CLEANUP(mem) char *command = command_of(r, how->no_trunc);
    CLEANUP(mem) char *ports = psrow_ports(r);
    CLEANUP(mem) char *labels = joined(&r->spec.labels);
    CLEANUP(mem) char *mounts = mounts_of(r, how->no_trunc, &volumes);
    CLEANUP(mem) char *networks = networks_of(r);
    json_t *row = json_object();

    psrow_status(r, how->now_ns, status, sizeof(status));
    if (how->size)
        show_size(r, size, sizeof(size));
    put(row, "ID", how->no_trunc ? r->id : human_id(r->id, text));
    put_image(row, &r->spec);
    put(row, "Command", command);
    put(row, "RunningFor", human_ago(r->state.created_ns, how->now_ns, text));
    put(row, "Status", status);
    put(row, "Ports", ports);
    put(row, "Names", r->name);
    put(row, "State", record_status_name(r->state.status));
    put(row, "Isolation", r->spec.isolation == SPEC_PROCESS ? "process" : "vm");
    put(row, "Engine", r->state.engine);
    put(row, "CreatedAt", human_time(r->state.created_ns, text));
    put(row, "Size", size);
    put(row, "Labels", labels);
    put(row, "Mounts", mounts);
    snprintf(text, sizeof(text), "%d", volumes);
    put(row, "LocalVolumes", text);
    put(row, "Networks", networks);
    snprintf(text, sizeof(text), "%d", (int)r->state.pid);
    put(row, "Pid", text);
    put(row, "Health", record_health_name(r->state.health));
    return row;
}

static const char *text_of(const json_t *info, const char *member)
{
    const char *s = json_string_value(json_object_get(info, member));

    return s ? s : "";
}

json_t *psrow_machine(const json_t *info, const struct psrow_how *how)
{
    static const char *const empty[] = {"Command",      "RunningFor", "Ports",  "CreatedAt",
                                        "Size",         "Labels",     "Mounts", "Networks",
                                        "LocalVolumes", "Health"};
    json_t *row = json_object();
    char pid[24];

    put(row, "ID", text_of(info, "id"));
    put(row, "Image", "<machine>");
    put(row, "Status", "Up");
    put(row, "Names", text_of(info, "name"));
    put(row, "State", "running");
    put(row, "Isolation", "vm");
    put(row, "Engine", text_of(info, "engine"));
    snprintf(pid, sizeof(pid), "%lld", (long long)json_integer_value(json_object_get(info, "pid")));
    put(row, "Pid", pid);
    for (size_t i = 0; i < ARRAY_LEN(empty); i++)
        put(row, empty[i], "");
    return row;
}
