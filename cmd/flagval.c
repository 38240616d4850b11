/* What reads the values of flags that several verbs have: cmd/flags.h. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "cmd/flags.h"
#include "cmd/verb.h"
#include "container/signame.h"
#include "container/spec.h"

enum { LINE_BYTES_MAX = 128 * 1024, WORDS_MAX = 65536, KEYS_MAX = 16 };

static int full(const struct strv *to, struct err *e)
{
    return to->n < WORDS_MAX ? 0 : err_set(e, -E2BIG, "more than %d of them", WORDS_MAX);
}

static int add(struct strv *to, const char *text, struct err *e)
{
    int r = full(to, e);

    if (r == 0 && (r = strv_add(to, text)) < 0)
        return err_errno(e, r, "'%s'", text);
    return r;
}

int flags_copy(void *text, const char *value, struct err *e)
{
    char **to = text, *copy = strdup(value);

    if (!copy)
        return err_errno(e, -ENOMEM, "'%s'", value);
    free(*to);
    *to = copy;
    return 0;
}

int flags_env(void *strv, const char *value, struct err *e)
{
    if (!value[0] || value[0] == '=')
        return err_set(e, -EINVAL, "'%s': a variable needs a name", value);
    if (strchr(value, '='))
        return add(strv, value, e);
    const char *here = getenv(value);
    if (!here)
        return 0; /* as docker: not here, so not there */
    int r = full(strv, e);
    if (r == 0 && (r = strv_addf(strv, "%s=%s", value, here)) < 0)
        return err_errno(e, r, "%s", value);
    return r;
}

int flags_label(void *strv, const char *value, struct err *e)
{
    if (!value[0] || value[0] == '=')
        return err_set(e, -EINVAL, "'%s': a label needs a name", value);
    if (strchr(value, '='))
        return add(strv, value, e);
    int r = full(strv, e);
    if (r == 0 && (r = strv_addf(strv, "%s=", value)) < 0)
        return err_errno(e, r, "%s", value);
    return r;
}

/* Each line that is neither empty nor a comment. */
static int each_line(const char *path, flag_fn one, void *target, struct err *e)
{
    CLEANUP(file) FILE *in = fopen(path, "re");
    CLEANUP(mem) char *line = in ? malloc(LINE_BYTES_MAX) : NULL;
    unsigned number = 0;

    if (!in || !line)
        return err_errno(e, -errno, "%s", path);
    while (fgets(line, LINE_BYTES_MAX, in)) {
        size_t n = strlen(line);

        number++;
        /* A line that does not end was longer than the buffer, or ended for C before. */
        if (n + 1 == LINE_BYTES_MAX || n == 0 || (line[n - 1] != '\n' && !feof(in)))
            return err_set(e, -EINVAL, "%s: line %u is too long or holds a NUL", path, number);
        line[strcspn(line, "\r\n")] = '\0';
        char *text = line + strspn(line, " \t");
        if (!text[0] || text[0] == '#')
            continue;
        int r = one(target, text, e);
        if (r < 0)
            return err_wrap(e, r, "%s: line %u", path, number);
    }
    return ferror(in) ? err_errno(e, -EIO, "%s", path) : 0;
}

int flags_env_file(void *strv, const char *path, struct err *e)
{
    return each_line(path, flags_env, strv, e);
}

int flags_label_file(void *strv, const char *path, struct err *e)
{
    return each_line(path, flags_label, strv, e);
}

/* Decimal, at most nine places: what is finer would be lost. */
int flags_cpus(void *int64, const char *value, struct err *e)
{
    enum { BILLION = 1000000000 };
    char *end;
    int64_t fraction = 0, unit = BILLION;

    errno = 0;
    unsigned long long whole = isdigit((unsigned char)value[0]) ? strtoull(value, &end, 10) : 0;
    if (!isdigit((unsigned char)value[0]))
        end = (char *)value;
    const char *digits = *end == '.' ? end + 1 : end;
    for (; *end == '.' && isdigit((unsigned char)*digits); digits++) {
        unit /= 10;
        if (!unit)
            return err_set(e, -EINVAL, "'%s' is too precise", value);
        fraction += (*digits - '0') * unit;
    }
    if (*digits || !value[0] || strcmp(value, ".") == 0)
        return err_set(e, -EINVAL, "'%s' is not a number of CPUs, such as 2 or 1.5", value);
    if (errno || whole > 1 << 20 || whole * BILLION + (uint64_t)fraction < 10000000)
        return err_set(e, -ERANGE, "'%s' is out of range: at least 0.01", value);
    *(int64_t *)int64 = (int64_t)whole * BILLION + fraction;
    return 0;
}

int flags_size(void *int64, const char *value, struct err *e)
{
    uint64_t v;
    int r = parse_size(value, &v, e);

    if (r < 0)
        return r;
    if (v == 0 || v > INT64_MAX)
        return err_set(e, -ERANGE, "'%s' is out of range", value);
    *(int64_t *)int64 = (int64_t)v;
    return 0;
}

int flags_swap(void *int64, const char *value, struct err *e)
{
    if (strcmp(value, "-1") != 0)
        return flags_size(int64, value, e);
    *(int64_t *)int64 = -1;
    return 0;
}

int flags_pids(void *int64, const char *value, struct err *e)
{
    uint64_t n;

    if (strcmp(value, "-1") == 0 || strcmp(value, "0") == 0) {
        *(int64_t *)int64 = -1;
        return 0;
    }
    /* PID_MAX_LIMIT of the kernel. */
    int r = parse_uint("number", value, 1, 4 * 1024 * 1024, &n, e);
    if (r == 0)
        *(int64_t *)int64 = (int64_t)n;
    return r;
}

int flags_signal(void *text, const char *value, struct err *e)
{
    int sig, r = signame_parse(value, &sig, e);

    return r < 0 ? r : flags_copy(text, value, e);
}

int flags_restart(void *spec, const char *value, struct err *e)
{
    static const char *const words[] = {"no", "on-failure", "always", "unless-stopped"};
    struct spec *s = spec;
    size_t len = strcspn(value, ":");
    uint64_t n = 0;

    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        if (strlen(words[i]) != len || strncmp(words[i], value, len) != 0)
            continue;
        if (value[len] && i != SPEC_ON_FAILURE)
            return err_set(e, -EINVAL, "'%s': only on-failure has a number of tries", value);
        int r = value[len] ? parse_uint("number of tries", value + len + 1, 0, 1000000, &n, e) : 0;
        if (r < 0)
            return r;
        s->restart = (enum spec_restart)i;
        s->restart_max = (int64_t)n;
        return 0;
    }
    return err_set(e, -EINVAL, "'%s' is none of no, on-failure[:N], always, unless-stopped", value);
}

/* One key: a character, or ctrl- and a letter or one of @ [ \ ] ^ _ */
static bool is_key(const char *key, size_t len)
{
    if (len == 1)
        return (unsigned char)key[0] < 128;
    return len == 6 && strncasecmp(key, "ctrl-", 5) == 0 &&
           (isalpha((unsigned char)key[5]) || strchr("@[\\]^_", key[5]));
}

int flags_keys(void *text, const char *value, struct err *e)
{
    unsigned n = 0;

    for (const char *s = value; *s;) {
        size_t len = strcspn(s, ",");

        if (!is_key(s, len) || ++n > KEYS_MAX || (s[len] == ',' && !s[len + 1]))
            return err_set(e, -EINVAL,
                           "'%s': write keys with commas between them, such as ctrl-p,ctrl-q",
                           value);
        s += len + (s[len] == ',');
    }
    return flags_copy(text, value, e);
}

int flags_code_cache(void *uint64, const char *value, struct err *e)
{
    return parse_code_cache(value, uint64, e);
}

int flags_console(void *yes, const char *value, struct err *e)
{
    bool stdio = strcmp(value, "stdio") == 0;

    if (!stdio && strcmp(value, "none") != 0)
        return err_set(e, -EINVAL, "'%s' is neither stdio nor none", value);
    *(bool *)yes = stdio;
    return 0;
}
