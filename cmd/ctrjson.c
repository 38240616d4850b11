#include "cmd/ctrjson.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "container/upper.h"
#include "container/vmconf.h"
#include "container/volstore.h"

/* RFC 3339, as docker writes it; nothing yet is year 1. */
static json_t *time_json(int64_t ns)
{
    time_t s = (time_t)(ns / 1000000000);
    char day[40], all[64];
    struct tm tm;

    if (ns == 0)
        return json_string("0001-01-01T00:00:00Z");
    gmtime_r(&s, &tm);
    strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(all, sizeof(all), "%s.%09lldZ", day, (long long)(ns % 1000000000));
    return json_string(all);
}

static json_t *text_json(const char *text)
{
    return json_stringn_nocheck(text ? text : "", text ? strlen(text) : 0);
}

static json_t *list_json(char *const *v, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, text_json(v[i]));
    return list;
}

static size_t count(char *const *v)
{
    size_t n = 0;

    while (v && v[n])
        n++;
    return n;
}

static json_t *words_json(char *const *v)
{
    return v ? list_json(v, count(v)) : json_null();
}

static json_t *number(int64_t v, int64_t unset)
{
    return json_integer(v == SPEC_UNSET ? unset : v);
}

static json_t *pairs_json(const struct strv *v)
{
    json_t *o = json_object();

    for (size_t i = 0; i < v->n; i++) {
        const char *eq = strchr(v->v[i], '=');
        CLEANUP(mem) char *key = strndup(v->v[i], strcspn(v->v[i], "="));

        if (key)
            json_object_set_new(o, key, text_json(eq ? eq + 1 : ""));
    }
    return o;
}

/* ---- a container */

static json_t *health_json(const struct record_state *s)
{
    json_t *log = json_array();

    for (unsigned i = 0; i < s->n_probes; i++)
        json_array_append_new(
            log, json_pack("{s:o, s:o, s:i, s:o}", "Start", time_json(s->probe[i].start_ns), "End",
                           time_json(s->probe[i].end_ns), "ExitCode", s->probe[i].exit_code,
                           "Output", text_json(s->probe[i].output)));
    return json_pack("{s:s, s:i, s:o}", "Status", record_health_name(s->health), "FailingStreak",
                     (int)s->failing_streak, "Log", log);
}

static json_t *state_json(const struct record_state *s)
{
    bool paused = s->status == RECORD_PAUSED;
    json_t *o =
        json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:i, s:i, s:o, s:o, s:o}", "Status",
                  record_status_name(s->status), "Running", s->status == RECORD_RUNNING || paused,
                  "Paused", paused, "Restarting", s->status == RECORD_RESTARTING, "OOMKilled",
                  s->oom_killed, "Dead", s->status == RECORD_DEAD, "Pid", (int)s->pid, "ExitCode",
                  s->exit_code, "Error", text_json(s->error), "StartedAt", time_json(s->started_ns),
                  "FinishedAt", time_json(s->finished_ns));

    if (o && s->health != RECORD_HEALTH_NONE)
        json_object_set_new(o, "Health", health_json(s));
    return o;
}

static json_t *mounts_json(const char *root, const struct spec *s)
{
    static const char *const kinds[] = {"bind", "volume", "tmpfs"};
    json_t *list = json_array();

    for (size_t i = 0; i < s->n_mounts; i++) {
        const struct spec_mount *m = &s->mounts[i];
        struct volstore v = {.name = ""};
        json_t *o = json_pack(
            "{s:s, s:o, s:s, s:b, s:o}", "Type", kinds[m->kind], "Destination",
            text_json(m->target), "Mode", m->read_only ? "ro" : "", "RW", !m->read_only,
            "Propagation",
            text_json(m->kind == SPEC_BIND ? (m->propagation ? m->propagation : "rprivate") : ""));

        if (m->kind == SPEC_VOLUME && m->source) {
            json_object_set_new(o, "Name", text_json(m->source));
            json_object_set_new(o, "Driver", json_string("local"));
            if (volstore_find(root, m->source, &v, NULL) == 0)
                json_object_set_new(o, "Source", text_json(v.path));
            volstore_done(&v);
        } else {
            json_object_set_new(o, "Source", text_json(m->source));
        }
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *config_json(const struct record *r)
{
    const struct spec *s = &r->spec;
    char hostname[RECORD_SHORT + 1];
    json_t *ports = json_object();

    snprintf(hostname, sizeof(hostname), "%.*s", RECORD_SHORT, r->id);
    for (size_t i = 0; i < s->exposed.n; i++)
        json_object_set_new(ports, s->exposed.v[i], json_object());
    json_t *o =
        json_pack("{s:o, s:o, s:o, s:b, s:b, s:o, s:o, s:o, s:o, s:n, s:o, s:o, s:o}", "Hostname",
                  text_json(s->hostname ? s->hostname : hostname), "Domainname",
                  text_json(s->domainname), "User", text_json(s->user), "Tty", s->tty, "OpenStdin",
                  s->open_stdin, "Env", list_json(s->env.v, s->env.n), "Cmd",
                  list_json(s->argv.v, s->argv.n), "Image", text_json(s->image), "WorkingDir",
                  text_json(s->cwd), "Entrypoint", "Labels", pairs_json(&s->labels), "StopSignal",
                  text_json(s->stop_signal ? s->stop_signal : "SIGTERM"), "ExposedPorts", ports);

    if (o && s->health.cmd.n > 0)
        json_object_set_new(
            o, "Healthcheck",
            json_pack("{s:o}", "Test", list_json(s->health.cmd.v, s->health.cmd.n)));
    return o;
}

static void port_key(char *out, size_t len, uint16_t port, bool udp)
{
    snprintf(out, len, "%u/%s", port, udp ? "udp" : "tcp");
}

static void add_binding(json_t *ports, uint16_t ctr, bool udp, const char *ip, uint16_t host)
{
    char key[16], number_text[8];

    port_key(key, sizeof(key), ctr, udp);
    snprintf(number_text, sizeof(number_text), "%u", host);
    json_t *list = json_object_get(ports, key);
    if (!list) {
        list = json_array();
        json_object_set_new(ports, key, list);
    }
    json_array_append_new(list, json_pack("{s:o, s:s}", "HostIp", text_json(ip), "HostPort",
                                          host ? number_text : ""));
}

static json_t *devices_json(const struct spec *s)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s->n_devices; i++) {
        const struct spec_device *d = &s->devices[i];

        json_array_append_new(
            list, json_pack("{s:o, s:o, s:o}", "PathOnHost", text_json(d->host), "PathInContainer",
                            text_json(d->guest ? d->guest : d->host), "CgroupPermissions",
                            text_json(d->access ? d->access : "rwm")));
    }
    return list;
}

static json_t *binds_json(const struct spec *s)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s->n_mounts; i++) {
        const struct spec_mount *m = &s->mounts[i];
        CLEANUP(mem) char *text = NULL;

        if (m->kind != SPEC_TMPFS && m->source &&
            asprintf(&text, "%s:%s%s", m->source, m->target, m->read_only ? ":ro" : "") > 0)
            json_array_append_new(list, text_json(text));
    }
    return list;
}

static void add_limits(json_t *o, const struct spec *s)
{
    json_object_set_new(o, "Memory", number(s->memory, 0));
    json_object_set_new(o, "MemorySwap", number(s->memory_swap, 0));
    json_object_set_new(o, "MemoryReservation", number(s->memory_reservation, 0));
    json_object_set_new(o, "NanoCpus", number(s->nano_cpus, 0));
    json_object_set_new(o, "CpuShares", number(s->cpu_shares, 0));
    json_object_set_new(o, "CpuPeriod", number(s->cpu_period_us, 0));
    json_object_set_new(o, "CpuQuota", number(s->cpu_quota_us, 0));
    json_object_set_new(o, "CpusetCpus", text_json(s->cpuset_cpus));
    json_object_set_new(o, "CpusetMems", text_json(s->cpuset_mems));
    json_object_set_new(o, "PidsLimit", number(s->pids_limit, 0));
    json_object_set_new(o, "BlkioWeight", number(s->blkio_weight, 0));
    json_object_set_new(o, "ShmSize", number(s->shm_size, 64 << 20));
    json_object_set_new(o, "OomScoreAdj", number(s->oom_score_adj, 0));
    json_object_set_new(o, "Ulimits", list_json(s->ulimits.v, s->ulimits.n));
    json_object_set_new(o, "Sysctls", pairs_json(&s->sysctls));
}

static json_t *host_json(const struct spec *s)
{
    static const char *const restart[] = {"no", "on-failure", "always", "unless-stopped"};
    json_t *ports = json_object();

    for (size_t i = 0; i < s->n_ports; i++)
        add_binding(ports, s->ports[i].ctr_port, s->ports[i].udp, s->ports[i].host_ip,
                    s->ports[i].host_port);
    json_t *o = json_pack(
        "{s:o, s:o, s:o, s:{s:s, s:o}, s:b, s:b, s:b, s:b, s:o, s:o, s:o, s:s, s:o, s:{s:s}}",
        "Binds", binds_json(s), "NetworkMode", text_json(s->network ? s->network : "default"),
        "PortBindings", ports, "RestartPolicy", "Name", restart[s->restart], "MaximumRetryCount",
        number(s->restart_max, 0), "AutoRemove", s->auto_remove, "Privileged", s->privileged,
        "ReadonlyRootfs", s->read_only, "PublishAllPorts", s->publish_all, "CapAdd",
        list_json(s->cap_add.v, s->cap_add.n), "CapDrop", list_json(s->cap_drop.v, s->cap_drop.n),
        "SecurityOpt", list_json(s->security_opt.v, s->security_opt.n), "Isolation",
        s->isolation == SPEC_VM ? "vm" : "process", "Devices", devices_json(s), "LogConfig", "Type",
        s->log_driver ? s->log_driver : "file");

    if (o)
        add_limits(o, s);
    return o;
}

static json_t *net_json(const struct record_state *s)
{
    const struct record_address *first = s->n_addresses > 0 ? &s->address[0] : NULL;
    json_t *ports = json_object(), *networks = json_object();

    for (unsigned i = 0; i < s->n_ports; i++)
        add_binding(ports, s->port[i].ctr_port, s->port[i].udp,
                    s->port[i].host_ip[0] ? s->port[i].host_ip : "0.0.0.0", s->port[i].host_port);
    for (unsigned i = 0; i < s->n_addresses; i++) {
        const struct record_address *a = &s->address[i];

        json_object_set_new(networks, a->network,
                            json_pack("{s:s, s:i, s:s, s:s, s:i, s:s, s:s}", "IPAddress", a->ip,
                                      "IPPrefixLen", (int)a->prefix, "Gateway", a->gateway,
                                      "GlobalIPv6Address", a->ip6, "GlobalIPv6PrefixLen",
                                      (int)a->prefix6, "IPv6Gateway", a->gateway6, "MacAddress",
                                      a->mac));
    }
    return json_pack("{s:o, s:s, s:i, s:s, s:s, s:s, s:o}", "Ports", ports, "IPAddress",
                     first ? first->ip : "", "IPPrefixLen", first ? (int)first->prefix : 0,
                     "Gateway", first ? first->gateway : "", "GlobalIPv6Address",
                     first ? first->ip6 : "", "MacAddress", first ? first->mac : "", "Networks",
                     networks);
}

/* What is docker's nowhere. */
static json_t *kiln_json(const struct record *r)
{
    const struct spec *s = &r->spec;
    bool vm = s->isolation == SPEC_VM, disk = vm ? upper_on_disk(s) : !s->storage_memory;

    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:o}", "Isolation", vm ? "vm" : "process", "Engine",
                     text_json(vm ? r->state.engine : ""), "Kernel", text_json(s->kernel),
                     "WritableLayer", disk ? "disk" : "memory", "StorageSize",
                     json_integer((json_int_t)upper_limit(s)), "RunFolder",
                     text_json(r->state.run));
}

static uint64_t layer_bytes(const struct record *r)
{
    struct volstore v = {.name = ""};
    struct stat st;

    if (fstatat(r->dir, "disk.img", &st, 0) == 0)
        return (uint64_t)st.st_blocks * 512;
    snprintf(v.path, sizeof(v.path), "%.*s/upper", (int)sizeof(v.path) - 8, r->path);
    return volstore_size(&v);
}

json_t *ctrjson_container(const char *root, const struct record *r, bool size)
{
    const struct spec *s = &r->spec;
    char name[RECORD_NAME_MAX + 2], log[PATH_MAX + 8];

    snprintf(name, sizeof(name), "/%s", r->name);
    snprintf(log, sizeof(log), "%s/log", r->path);
    json_t *o = json_pack(
        "{s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "Id",
        r->id, "Created", time_json(r->state.created_ns), "Path",
        text_json(s->argv.n > 0 ? s->argv.v[0] : ""), "Args",
        s->argv.n > 1 ? list_json(s->argv.v + 1, s->argv.n - 1) : json_array(), "State",
        state_json(&r->state), "Image", text_json(s->image_id), "Name", name, "LogPath", log,
        "RestartCount", (int)r->state.restart_count, "Driver", "overlay", "Platform", "linux",
        "HostConfig", host_json(s), "Mounts", mounts_json(root, s), "Config", config_json(r),
        "NetworkSettings", net_json(&r->state), "Kiln", kiln_json(r));

    if (o && size)
        json_object_set_new(o, "SizeRw", json_integer((json_int_t)layer_bytes(r)));
    return o;
}

/* ---- an image */

json_t *ctrjson_image(const struct image *im)
{
    const struct image_config *c = &im->config;
    CLEANUP(mem) char *digest = NULL;
    size_t path = im->name ? strcspn(im->name, "@") : 0;
    const char *colon = im->name ? strrchr(im->name, ':') : NULL;

    if (colon && !strchr(colon, '/'))
        path = (size_t)(colon - im->name);
    if (im->name && asprintf(&digest, "%.*s@%s", (int)path, im->name, im->digest) < 0)
        digest = NULL;
    return json_pack(
        "{s:s, s:o, s:o, s:o, s:s, s:s, s:I, s:{s:o, s:o, s:o, s:o, s:o, s:o}, s:{s:s}, "
        "s:{s:s, s:s, s:s}}",
        "Id", im->config_digest, "RepoTags", im->name ? json_pack("[s]", im->name) : json_array(),
        "RepoDigests", digest ? json_pack("[s]", digest) : json_array(), "Created",
        time_json(im->created * 1000000000), "Architecture", "amd64", "Os", "linux", "Size",
        (json_int_t)im->size, "Config", "Entrypoint", words_json(c->entrypoint), "Cmd",
        words_json(c->cmd), "Env", words_json(c->env), "WorkingDir", text_json(c->workdir), "User",
        text_json(c->user), "StopSignal", text_json(c->stop_signal), "RootFS", "Type", "layers",
        "Kiln", "Rootfs", im->rootfs, "FsType", im->fstype, "ManifestDigest", im->digest);
}
