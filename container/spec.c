#include "container/spec.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Each member once, for both directions. */
enum kind { STR, STRV, INT, U64, BOOL, ENUM, U16, LIST, STRUCT };

struct field {
    const char *name;
    enum kind kind;
    size_t at;              /* offset of the member */
    const struct shape *of; /* LIST and STRUCT: of what */
    size_t count_at;        /* LIST: offset of its length */
    unsigned max;           /* LIST: entries; ENUM: values */
};

struct shape {
    size_t size;
    const struct field *field;
    unsigned n;
};

#define F(type, member, kind)                                    \
    {                                                            \
#member, kind, offsetof(struct type, member), NULL, 0, 0 \
    }
#define E(type, member, last)                                             \
    {                                                                     \
#member, ENUM, offsetof(struct type, member), NULL, 0, (last) + 1 \
    }
#define SHAPE(type, fields)                                               \
    {                                                                     \
        sizeof(struct type), fields, sizeof(fields) / sizeof((fields)[0]) \
    }

static const struct field mount_fields[] = {
    E(spec_mount, kind, SPEC_TMPFS), F(spec_mount, source, STR),     F(spec_mount, target, STR),
    F(spec_mount, options, STR),     F(spec_mount, read_only, BOOL), F(spec_mount, create, BOOL),
    F(spec_mount, propagation, STR),
};
static const struct shape mount_shape = SHAPE(spec_mount, mount_fields);

static const struct field device_fields[] = {
    F(spec_device, host, STR),
    F(spec_device, guest, STR),
    F(spec_device, access, STR),
};
static const struct shape device_shape = SHAPE(spec_device, device_fields);

static const struct field port_fields[] = {
    F(spec_port, host_ip, STR),
    F(spec_port, host_port, U16),
    F(spec_port, ctr_port, U16),
    F(spec_port, udp, BOOL),
};
static const struct shape port_shape = SHAPE(spec_port, port_fields);

static const struct field health_fields[] = {
    F(spec_health, cmd, STRV),       F(spec_health, interval_ns, INT),
    F(spec_health, timeout_ns, INT), F(spec_health, start_period_ns, INT),
    F(spec_health, retries, INT),
};
static const struct shape health_shape = SHAPE(spec_health, health_fields);

#define LIST_OF(member, shape, max)                                                             \
    {                                                                                           \
#member, LIST, offsetof(struct spec, member), shape, offsetof(struct spec, n_##member), \
            max                                                                                 \
    }

static const struct field spec_fields[] = {
    E(spec, isolation, SPEC_PROCESS),
    F(spec, image, STR),
    F(spec, image_id, STR),
    F(spec, image_digest, STR),
    F(spec, argv, STRV),
    F(spec, env, STRV),
    F(spec, labels, STRV),
    F(spec, cwd, STR),
    F(spec, user, STR),
    F(spec, groups, STRV),
    F(spec, hostname, STR),
    F(spec, domainname, STR),
    F(spec, tty, BOOL),
    F(spec, open_stdin, BOOL),
    F(spec, read_only, BOOL),
    F(spec, stop_signal, STR),
    F(spec, stop_timeout_s, INT),
    F(spec, engine, STR),
    F(spec, kernel, STR),
    F(spec, code_cache_bytes, U64),
    F(spec, no_template, BOOL),
    F(spec, no_jail, BOOL),
    F(spec, perf_map, BOOL),
    F(spec, count_insns, BOOL),
    F(spec, memory, INT),
    F(spec, memory_swap, INT),
    F(spec, memory_reservation, INT),
    F(spec, nano_cpus, INT),
    F(spec, cpu_shares, INT),
    F(spec, cpu_period_us, INT),
    F(spec, cpu_quota_us, INT),
    F(spec, cpuset_cpus, STR),
    F(spec, cpuset_mems, STR),
    F(spec, pids_limit, INT),
    F(spec, blkio_weight, INT),
    F(spec, ulimits, STRV),
    F(spec, shm_size, INT),
    F(spec, oom_score_adj, INT),
    F(spec, sysctls, STRV),
    F(spec, cap_add, STRV),
    F(spec, cap_drop, STRV),
    F(spec, privileged, BOOL),
    F(spec, security_opt, STRV),
    F(spec, userns, STR),
    F(spec, pid_mode, STR),
    F(spec, ipc_mode, STR),
    F(spec, uts_mode, STR),
    F(spec, cgroupns, STR),
    F(spec, cgroup_parent, STR),
    LIST_OF(mounts, &mount_shape, SPEC_MOUNTS_MAX),
    LIST_OF(devices, &device_shape, SPEC_DEVICES_MAX),
    F(spec, storage_size, INT),
    F(spec, storage_memory, BOOL),
    F(spec, network, STR),
    F(spec, network_alias, STRV),
    F(spec, ip, STR),
    F(spec, ip6, STR),
    F(spec, mac, STR),
    LIST_OF(ports, &port_shape, SPEC_PORTS_MAX),
    F(spec, publish_all, BOOL),
    F(spec, exposed, STRV),
    F(spec, dns, STRV),
    F(spec, dns_search, STRV),
    F(spec, dns_options, STRV),
    F(spec, add_hosts, STRV),
    F(spec, net_rate, INT),
    F(spec, disk_rate, INT),
    E(spec, restart, SPEC_UNLESS_STOPPED),
    F(spec, restart_max, INT),
    F(spec, auto_remove, BOOL),
    F(spec, timeout_ms, INT),
    {"health", STRUCT, offsetof(struct spec, health), &health_shape, 0, 0},
    F(spec, log_driver, STR),
    F(spec, log_max_size, INT),
    F(spec, log_max_file, INT),
    F(spec, detach_keys, STR),
};
static const struct shape spec_shape = SHAPE(spec, spec_fields);

/* ---- nothing said, and nothing left */

static void shape_init(const struct shape *sh, char *base)
{
    memset(base, 0, sh->size);
    for (unsigned i = 0; i < sh->n; i++) {
        const struct field *f = &sh->field[i];

        if (f->kind == INT)
            *(int64_t *)(base + f->at) = SPEC_UNSET;
        if (f->kind == STRUCT)
            shape_init(f->of, base + f->at);
    }
}

static void shape_done(const struct shape *sh, char *base)
{
    for (unsigned i = 0; i < sh->n; i++) {
        const struct field *f = &sh->field[i];
        char *p = base + f->at;

        if (f->kind == STR) {
            free(*(char **)p);
        } else if (f->kind == STRV) {
            strv_done((struct strv *)p);
        } else if (f->kind == STRUCT) {
            shape_done(f->of, p);
        } else if (f->kind == LIST) {
            char *list = *(char **)p;

            for (size_t k = 0; k < *(size_t *)(base + f->count_at); k++)
                shape_done(f->of, list + k * f->of->size);
            free(list);
        }
    }
    shape_init(sh, base);
}

void spec_init(struct spec *s)
{
    shape_init(&spec_shape, (char *)s);
}

void spec_done(struct spec *s)
{
    shape_done(&spec_shape, (char *)s);
}

/* ---- to JSON: what is unset is left out */

static json_t *shape_to_json(const struct shape *sh, const char *base);

static json_t *strv_to_json(const struct strv *v)
{
    json_t *a = v->n > 0 ? json_array() : NULL;

    for (size_t i = 0; a && i < v->n; i++)
        if (json_array_append_new(a, json_stringn_nocheck(v->v[i], strlen(v->v[i]))) < 0) {
            json_decref(a);
            return NULL;
        }
    return a;
}

static json_t *list_to_json(const struct field *f, const char *base)
{
    const char *list = *(char *const *)(base + f->at);
    size_t n = *(const size_t *)(base + f->count_at);
    json_t *a = n > 0 ? json_array() : NULL;

    for (size_t i = 0; a && i < n; i++)
        if (json_array_append_new(a, shape_to_json(f->of, list + i * f->of->size)) < 0) {
            json_decref(a);
            return NULL;
        }
    return a;
}

/* False: it is set, but there is no memory for it. */
static bool field_to_json(const struct field *f, const char *base, json_t **v)
{
    const char *p = base + f->at;
    const char *text = f->kind == STR ? *(char *const *)p : NULL;
    bool set;

    *v = NULL;
    switch (f->kind) {
    case STR:
        set = text;
        *v = set ? json_stringn_nocheck(text, strlen(text)) : NULL;
        break;
    case STRV:
        set = ((const struct strv *)p)->n > 0;
        *v = strv_to_json((const struct strv *)p);
        break;
    case INT:
        set = *(const int64_t *)p != SPEC_UNSET;
        *v = set ? json_integer(*(const int64_t *)p) : NULL;
        break;
    case U64:
        set = *(const uint64_t *)p != 0;
        *v = set ? json_integer((json_int_t) * (const uint64_t *)p) : NULL;
        break;
    case U16:
        set = true;
        *v = json_integer(*(const uint16_t *)p);
        break;
    case BOOL:
        set = *(const bool *)p;
        *v = set ? json_true() : NULL;
        break;
    case ENUM:
        set = true;
        *v = json_integer((json_int_t) * (const unsigned *)p);
        break;
    case LIST:
        set = *(const size_t *)(base + f->count_at) > 0;
        *v = list_to_json(f, base);
        break;
    default:
        set = true;
        *v = shape_to_json(f->of, p);
    }
    return !set || *v;
}

static json_t *shape_to_json(const struct shape *sh, const char *base)
{
    json_t *o = json_object(), *v;

    for (unsigned i = 0; o && i < sh->n; i++)
        if (!field_to_json(&sh->field[i], base, &v) ||
            (v && json_object_set_new(o, sh->field[i].name, v) < 0)) {
            json_decref(o);
            return NULL;
        }
    return o;
}

json_t *spec_to_json(const struct spec *s)
{
    return shape_to_json(&spec_shape, (const char *)s);
}

/* ---- from JSON */

static int shape_from_json(const struct shape *sh, const json_t *j, char *base, struct err *e);

static int str_from_json(const json_t *v, char **out)
{
    const char *text = json_string_value(v);

    if (!text || strlen(text) != json_string_length(v))
        return -EBADMSG;
    free(*out); /* a name may come twice */
    *out = strdup(text);
    return *out ? 0 : -ENOMEM;
}

static int strv_from_json(const json_t *v, struct strv *out)
{
    int r = json_is_array(v) ? 0 : -EBADMSG;

    for (size_t i = 0; r == 0 && i < json_array_size(v); i++) {
        char *text = NULL;

        r = str_from_json(json_array_get(v, i), &text);
        if (r == 0)
            r = strv_take(out, text);
    }
    return r;
}

static int list_from_json(const struct field *f, const json_t *v, char *base, struct err *e)
{
    size_t n = json_array_size(v), *count = (size_t *)(base + f->count_at);

    if (!json_is_array(v) || n > f->max || *count > 0)
        return -EBADMSG;
    char *list = n > 0 ? calloc(n, f->of->size) : NULL;
    if (n > 0 && !list)
        return -ENOMEM;
    *(char **)(base + f->at) = list;
    for (size_t i = 0; i < n; i++) {
        char *entry = list + i * f->of->size;

        shape_init(f->of, entry);
        *count = i + 1;
        int r = shape_from_json(f->of, json_array_get(v, i), entry, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int number_from_json(const struct field *f, const json_t *v, char *p)
{
    json_int_t n = json_integer_value(v);

    if (!json_is_integer(v))
        return -EBADMSG;
    if (f->kind == INT)
        *(int64_t *)p = n;
    else if (n < 0)
        return -EBADMSG;
    else if (f->kind == U64)
        *(uint64_t *)p = (uint64_t)n;
    else if (f->kind == U16 && n <= UINT16_MAX)
        *(uint16_t *)p = (uint16_t)n;
    else if (f->kind == ENUM && n < f->max)
        *(unsigned *)p = (unsigned)n;
    else
        return -EBADMSG;
    return 0;
}

static int field_from_json(const struct field *f, const json_t *v, char *base, struct err *e)
{
    char *p = base + f->at;

    switch (f->kind) {
    case STR:
        return str_from_json(v, (char **)p);
    case STRV:
        return strv_from_json(v, (struct strv *)p);
    case BOOL:
        *(bool *)p = json_is_true(v);
        return json_is_boolean(v) ? 0 : -EBADMSG;
    case LIST:
        return list_from_json(f, v, base, e);
    case STRUCT:
        return shape_from_json(f->of, v, p, e);
    default:
        return number_from_json(f, v, p);
    }
}

static int shape_from_json(const struct shape *sh, const json_t *j, char *base, struct err *e)
{
    if (!json_is_object(j))
        return err_set(e, -EBADMSG, "not a JSON object");
    for (unsigned i = 0; i < sh->n; i++) {
        const json_t *v = json_object_get(j, sh->field[i].name);
        int r = v ? field_from_json(&sh->field[i], v, base, e) : 0;

        if (r < 0)
            return err_set(e, r, "'%s': %s", sh->field[i].name,
                           r == -ENOMEM ? strerror(ENOMEM) : "not what belongs there");
    }
    return 0;
}

int spec_from_json(const json_t *j, struct spec *s, struct err *e)
{
    spec_init(s);
    int r = shape_from_json(&spec_shape, j, (char *)s, e);
    if (r < 0)
        spec_done(s);
    return r;
}
