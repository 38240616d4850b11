/* struct record_state as JSON and back: state.json of a record. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "container/recpriv.h"

enum kind { INT32, UINT32, INT64, UINT64, UINT16, BOOL, TEXT, STATUS, HEALTH, LIST };

struct field {
    const char *name;
    enum kind kind;
    size_t at, size; /* of the member, or of one entry */
    const struct field *of;
    size_t count_at;
    unsigned n_of, max;
};

#define F(type, member, kind)                                                                      \
    {                                                                                              \
#member, kind, offsetof(struct type, member), sizeof(((struct type *)0)->member), NULL, 0, \
            0, 0                                                                                   \
    }

static const struct field probe_fields[] = {
    F(record_probe, start_ns, INT64),
    F(record_probe, end_ns, INT64),
    F(record_probe, exit_code, INT32),
    F(record_probe, output, TEXT),
};

static const struct field address_fields[] = {
    F(record_address, network, TEXT),  F(record_address, ip, TEXT),
    F(record_address, ip6, TEXT),      F(record_address, mac, TEXT),
    F(record_address, gateway, TEXT),  F(record_address, gateway6, TEXT),
    F(record_address, prefix, UINT32), F(record_address, prefix6, UINT32),
};

static const struct field port_fields[] = {
    F(record_port, host_ip, TEXT),
    F(record_port, host_port, UINT16),
    F(record_port, ctr_port, UINT16),
    F(record_port, udp, BOOL),
};

#define LIST_OF(name, fields, count)                                                               \
    {                                                                                              \
#name, LIST, offsetof(struct record_state, name),                                          \
            sizeof(((struct record_state *)0)->name[0]), fields,                                   \
            offsetof(struct record_state, count), ARRAY_LEN(fields),                               \
            sizeof(((struct record_state *)0)->name) / sizeof(((struct record_state *)0)->name[0]) \
    }

static const struct field fields[] = {
    F(record_state, status, STATUS),
    F(record_state, keeper, INT32),
    F(record_state, pid, INT32),
    F(record_state, pid_start, UINT64),
    F(record_state, boot_id, TEXT),
    F(record_state, run, TEXT),
    F(record_state, created_ns, INT64),
    F(record_state, started_ns, INT64),
    F(record_state, finished_ns, INT64),
    F(record_state, exit_code, INT32),
    F(record_state, oom_killed, BOOL),
    F(record_state, stopped_by_user, BOOL),
    F(record_state, restart_count, UINT32),
    F(record_state, error, TEXT),
    F(record_state, engine, TEXT),
    F(record_state, health, HEALTH),
    F(record_state, failing_streak, UINT32),
    LIST_OF(probe, probe_fields, n_probes),
    LIST_OF(address, address_fields, n_addresses),
    LIST_OF(port, port_fields, n_ports),
};

static const char *const status_names[] = {"created",  "running", "paused", "restarting",
                                           "removing", "exited",  "dead"};
static const char *const health_names[] = {"none", "starting", "healthy", "unhealthy"};

const char *record_status_name(enum record_status s)
{
    return s < ARRAY_LEN(status_names) ? status_names[s] : "dead";
}

const char *record_health_name(enum record_health h)
{
    return h < ARRAY_LEN(health_names) ? health_names[h] : "none";
}

/* ---- to JSON */

static json_t *fields_to_json(const struct field *f, unsigned n, const char *base);

static json_t *list_to_json(const struct field *f, const char *base)
{
    unsigned count = *(const unsigned *)(base + f->count_at);
    json_t *list = json_array();

    for (unsigned i = 0; i < count; i++)
        (void)json_array_append_new(list,
                                    fields_to_json(f->of, f->n_of, base + f->at + i * f->size));
    return list;
}

/* What a container put into it need not be UTF-8. */
static json_t *text_to_json(const char *text)
{
    json_t *v = json_string(text);
    char clean[ERR_MSG_MAX];
    size_t n = 0;

    if (v)
        return v;
    for (; text[n] && n < sizeof(clean) - 1; n++)
        clean[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
    clean[n] = '\0';
    return json_string(clean);
}

static json_t *field_to_json(const struct field *f, const char *base)
{
    const char *p = base + f->at;

    switch (f->kind) {
    case INT32:
        return *(const int *)p ? json_integer(*(const int *)p) : NULL;
    case UINT32:
        return *(const unsigned *)p ? json_integer(*(const unsigned *)p) : NULL;
    case INT64:
    case UINT64:
        return *(const int64_t *)p ? json_integer(*(const int64_t *)p) : NULL;
    case UINT16:
        return json_integer(*(const uint16_t *)p);
    case BOOL:
        return *(const bool *)p ? json_true() : NULL;
    case TEXT:
        return *p ? text_to_json(p) : NULL;
    case STATUS:
        return json_string(record_status_name(*(const enum record_status *)p));
    case HEALTH:
        return json_string(record_health_name(*(const enum record_health *)p));
    case LIST:
        return *(const unsigned *)(base + f->count_at) ? list_to_json(f, base) : NULL;
    }
    return NULL;
}

static json_t *fields_to_json(const struct field *f, unsigned n, const char *base)
{
    json_t *j = json_object();

    for (unsigned i = 0; j && i < n; i++) {
        json_t *v = field_to_json(&f[i], base);

        if (v)
            (void)json_object_set_new_nocheck(j, f[i].name, v);
    }
    return j;
}

json_t *recstate_to_json(const struct record_state *s)
{
    return fields_to_json(fields, ARRAY_LEN(fields), (const char *)s);
}

/* ---- from JSON */

static void fields_from_json(const struct field *f, unsigned n, const json_t *j, char *base);

static unsigned index_of(const json_t *v, const char *const *names, unsigned n, unsigned none)
{
    const char *text = json_string_value(v);

    for (unsigned i = 0; text && i < n; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    return none;
}

static void list_from_json(const struct field *f, const json_t *v, char *base)
{
    size_t n = json_array_size(v);
    unsigned *count = (unsigned *)(base + f->count_at);

    for (size_t i = 0; i < n && i < f->max; i++, (*count)++)
        fields_from_json(f->of, f->n_of, json_array_get(v, i), base + f->at + i * f->size);
}

static void field_from_json(const struct field *f, const json_t *v, char *base)
{
    char *p = base + f->at;
    json_int_t n = json_integer_value(v);
    const char *text = json_string_value(v);

    switch (f->kind) {
    case INT32:
        *(int *)p = n >= INT_MIN && n <= INT_MAX ? (int)n : 0;
        break;
    case UINT32:
        *(unsigned *)p = n >= 0 && n <= UINT_MAX ? (unsigned)n : 0;
        break;
    case INT64:
        *(int64_t *)p = n;
        break;
    case UINT64:
        *(uint64_t *)p = n > 0 ? (uint64_t)n : 0;
        break;
    case UINT16:
        *(uint16_t *)p = n >= 0 && n <= UINT16_MAX ? (uint16_t)n : 0;
        break;
    case BOOL:
        *(bool *)p = json_is_true(v);
        break;
    case TEXT:
        snprintf(p, f->size, "%s", text ? text : "");
        break;
    case STATUS:
        *(enum record_status *)p =
            index_of(v, status_names, ARRAY_LEN(status_names), RECORD_EXITED);
        break;
    case HEALTH:
        *(enum record_health *)p =
            index_of(v, health_names, ARRAY_LEN(health_names), RECORD_HEALTH_NONE);
        break;
    case LIST:
        list_from_json(f, v, base);
        break;
    }
}

static void fields_from_json(const struct field *f, unsigned n, const json_t *j, char *base)
{
    for (unsigned i = 0; i < n; i++) {
        const json_t *v = json_object_get(j, f[i].name);

        if (v)
            field_from_json(&f[i], v, base);
    }
}

int recstate_from_json(const json_t *j, struct record_state *s, struct err *e)
{
    *s = (struct record_state){.status = RECORD_EXITED};
    if (!json_is_object(j))
        return err_set(e, -EBADMSG, "not a JSON object");
    fields_from_json(fields, ARRAY_LEN(fields), j, (char *)s);
    return 0;
}
