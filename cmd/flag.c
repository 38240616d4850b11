#include "cmd/flag.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/suggest.h"
#include "cmd/verb.h"

static const struct flag help_flag = {.name = "help"};

enum { FLAG_SPELLED = 72 }; /* bytes of a flag's name as messages have it */

struct parse { /* of one command line */
    const struct command *c;
    void *args;
    struct err *e;
};

const struct flag *flag_find(const struct command *c, const char *name, size_t len, char letter,
                             const struct flag_use **use)
{
    for (size_t i = 0; i < FLAG_GROUPS_MAX && c->groups[i].group; i++) {
        for (const struct flag *f = c->groups[i].group->flags; f->name; f++) {
            bool same = name ? strncmp(f->name, name, len) == 0 && !f->name[len]
                             : letter && f->letter == letter;

            if (!same)
                continue;
            if (use)
                *use = &c->groups[i];
            return f;
        }
    }
    return NULL;
}

/* The words that strconv.ParseBool of Go knows, which docker reads switches with. */
static int read_bool(const char *text, bool *v, struct err *e)
{
    static const char *const yes[] = {"true", "1", "t", "T", "TRUE", "True"};
    static const char *const no[] = {"false", "0", "f", "F", "FALSE", "False"};

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        bool is_yes = strcmp(text, yes[i]) == 0;

        if (is_yes || strcmp(text, no[i]) == 0) {
            *v = is_yes;
            return 0;
        }
    }
    return err_set(e, -EINVAL, "'%s' is neither true nor false", text);
}

static int copy_text(char **to, const char *text, struct err *e)
{
    char *copy = strdup(text);

    if (!copy)
        return err_errno(e, -ENOMEM, "'%s'", text);
    free(*to);
    *to = copy;
    return 0;
}

/* A decimal number within the flag's bounds. */
static int read_int(const struct flag *f, const char *text, int64_t *to, struct err *e)
{
    int64_t max = f->max ? f->max : f->type == FLAG_TYPE_UINT ? UINT32_MAX : INT64_MAX;
    char *end;

    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (!isdigit((unsigned char)text[text[0] == '-']) || *end)
        return err_set(e, -EINVAL, "'%s' is not a number", text);
    if (errno || n < f->min || n > max)
        return err_set(e, -ERANGE, "'%s' is out of range: %lld to %lld", text, (long long)f->min,
                       (long long)max);
    *to = n;
    return 0;
}

/* Bytes or nanoseconds; the field may be signed or not, so the value fits both. */
static int read_measure(const struct flag *f, const char *text, uint64_t *to, struct err *e)
{
    uint64_t v, max = f->max ? (uint64_t)f->max : INT64_MAX;
    int r = f->type == FLAG_TYPE_SIZE ? parse_size(text, &v, e) : parse_duration(text, &v, e);

    if (r < 0)
        return r;
    if (v < (uint64_t)f->min || v > max)
        return err_set(e, -ERANGE, "'%s' is %s", text,
                       v > max ? "too large" : "less than it may be");
    *to = v;
    return 0;
}

static int store_value(const struct flag *f, void *target, const char *value, struct err *e)
{
    void *field = (char *)target + f->offset;

    switch (f->type) {
    case FLAG_CALL:
        return f->set(field, value, e);
    case FLAG_TYPE_BOOL:
        return read_bool(value, field, e);
    case FLAG_TYPE_TEXT:
        *(const char **)field = value;
        return 0;
    case FLAG_TYPE_COPY:
        return copy_text(field, value, e);
    case FLAG_TYPE_WORDS: {
        int r = strv_add(field, value);
        return r < 0 ? err_errno(e, r, "'%s'", value) : 0;
    }
    case FLAG_TYPE_UINT: {
        int64_t n;
        int r = read_int(f, value, &n, e);
        if (r == 0)
            *(unsigned *)field = (unsigned)n;
        return r;
    }
    case FLAG_TYPE_INT:
        return read_int(f, value, field, e);
    case FLAG_TYPE_SIZE:
    case FLAG_TYPE_DURATION:
        return read_measure(f, value, field, e);
    }
    BUG("a flag of no type");
}

/* "-m, --memory" */
static const char *spell(const struct flag *f, char buf[FLAG_SPELLED])
{
    if (f->letter)
        snprintf(buf, FLAG_SPELLED, "-%c, --%s", f->letter, f->name);
    else
        snprintf(buf, FLAG_SPELLED, "--%s", f->name);
    return buf;
}

static int apply(struct parse *p, const struct flag *f, const struct flag_use *use,
                 const char *value)
{
    char *target = (char *)p->args + use->offset;
    char shown[FLAG_SPELLED];
    bool yes;

    if (use->indirect)
        target = *(char **)target;
    int r = !f->meta && f->type == FLAG_CALL ? read_bool(value, &yes, p->e) : 0;
    if (r == 0)
        r = store_value(f, target,
                        f->meta || f->type != FLAG_CALL ? value
                        : yes                           ? "true"
                                                        : "false",
                        p->e);
    return r < 0 ? err_wrap(p->e, r, "%s", spell(f, shown)) : 0;
}

static int lacks_value(struct parse *p, const struct flag *f)
{
    char shown[FLAG_SPELLED];

    return err_set(p->e, -EINVAL, "flag %s needs a value: --%s %s", spell(f, shown), f->name,
                   f->meta);
}

static int unknown_long(struct parse *p, const char *name, size_t len)
{
    struct suggest s;

    suggest_init(&s, name, len);
    suggest_try(&s, "help");
    for (size_t i = 0; i < FLAG_GROUPS_MAX && p->c->groups[i].group; i++)
        for (const struct flag *f = p->c->groups[i].group->flags; f->name; f++)
            if (f->help)
                suggest_try(&s, f->name);
    if (suggest_best(&s))
        return err_set(p->e, -EINVAL, "unknown flag --%.*s; did you mean --%s?", (int)len, name,
                       suggest_best(&s));
    return err_set(p->e, -EINVAL, "unknown flag --%.*s", (int)len, name);
}

/* "--name", "--name=value", "--name value". Returns how many words it took, 0 for --help. */
static int long_flag(struct parse *p, const char *word, const char *next)
{
    const char *name = word + 2, *value = strchr(name, '=');
    size_t len = value ? (size_t)(value - name) : strlen(name);
    const struct flag_use *use = NULL;
    const struct flag *f = flag_find(p->c, name, len, 0, &use);

    if (!f && strcmp(name, help_flag.name) == 0)
        return 0;
    if (!f)
        return unknown_long(p, name, len);
    if (value || !f->meta) {
        int r = apply(p, f, use, value ? value + 1 : "true");
        return r < 0 ? r : 1;
    }
    if (!next)
        return lacks_value(p, f);
    int r = apply(p, f, use, next);
    return r < 0 ? r : 2;
}

/* "-it", "-m1g", "-m=1g", "-m 1g". Returns how many words it took, 0 for -h where that is help. */
static int short_flags(struct parse *p, const char *word, const char *next)
{
    for (const char *s = word + 1; *s; s++) {
        const struct flag_use *use = NULL;
        const struct flag *f = flag_find(p->c, NULL, 0, *s, &use);
        const char shown[] = {'-', *s, '\0'};
        const char *value = s[1] == '=' ? s + 2 : s + 1;
        int r, took = 1;

        if (!f && *s == 'h')
            return 0;
        if (!f && word[2] && flag_find(p->c, word + 1, strcspn(word + 1, "="), 0, NULL))
            return err_set(p->e, -EINVAL, "unknown flag %s in '%s'; did you mean -%s?", shown, word,
                           word);
        if (!f)
            return word[2] ? err_set(p->e, -EINVAL, "unknown flag %s in '%s'", shown, word)
                           : err_set(p->e, -EINVAL, "unknown flag %s", shown);
        if (!f->meta && s[1] != '=') {
            r = apply(p, f, use, "true");
            if (r < 0)
                return r;
            continue;
        }
        if (f->meta && !s[1]) {
            if (!next)
                return lacks_value(p, f);
            value = next;
            took = 2;
        }
        r = apply(p, f, use, value);
        return r < 0 ? r : took;
    }
    return 1;
}

static int check_operands(const struct command *c, int n, const char *first, struct err *e)
{
    const char *s = c->min_operands == 1 ? "" : "s";

    if (n < c->min_operands)
        return err_set(e, -EINVAL, "needs %s%d argument%s: kiln %s [flags] %s",
                       c->max_operands == c->min_operands ? "" : "at least ", c->min_operands, s,
                       c->name, c->operands ? c->operands : "");
    if (c->max_operands == 0 && n > 0)
        return err_set(e, -EINVAL, "takes no arguments, but there is '%s'", first);
    if (c->max_operands != FLAG_MANY && n > c->max_operands)
        return err_set(e, -EINVAL, "takes at most %d argument%s", c->max_operands,
                       c->max_operands == 1 ? "" : "s");
    return 0;
}

int flag_parse(const struct command *c, int argc, char **argv, void *args, struct err *e)
{
    CLEANUP(mem) char **operands = calloc((size_t)argc + 1, sizeof(*operands));
    struct parse p = {c, args, e};
    int i = 1, n = 0;

    if (!operands)
        return err_errno(e, -ENOMEM, "arguments");
    while (i < argc) {
        char *word = argv[i];

        if (strcmp(word, "--") == 0) {
            i++;
            break;
        }
        if (word[0] != '-' || !word[1]) {
            if (c->flags_first)
                break;
            operands[n++] = word;
            i++;
            continue;
        }
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        int r = word[1] == '-' ? long_flag(&p, word, next) : short_flags(&p, word, next);
        if (r == 0)
            flag_help(stdout, c);
        if (r <= 0)
            return r;
        i += r;
    }
    while (i < argc)
        operands[n++] = argv[i++];
    memcpy(argv + argc - n, operands, (size_t)n * sizeof(*operands));
    int r = check_operands(c, n, operands[0], e);
    return r < 0 ? r : argc - n;
}

int flag_stop(const struct command *c, int at, const struct err *e)
{
    return at == 0 ? 0 : say_usage(c->name, EXIT_KILN, "%s", e->msg);
}

static const char *last_word(const char *name)
{
    const char *space = strrchr(name, ' ');

    return space ? space + 1 : name;
}

int flag_dispatch(const struct command *c, int argc, char **argv)
{
    struct suggest s;

    if (argc < 2) {
        flag_help(stderr, c);
        return EXIT_KILN;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        flag_help(stdout, c);
        return 0;
    }
    suggest_init(&s, argv[1], strlen(argv[1]));
    for (size_t i = 0; c->sub[i]; i++) {
        if (strcmp(last_word(c->sub[i]->name), argv[1]) == 0)
            return c->sub[i]->run(argc - 1, argv + 1);
        suggest_try(&s, last_word(c->sub[i]->name));
    }
    if (suggest_best(&s))
        return say_usage(c->name, EXIT_KILN, "unknown command '%s'; did you mean '%s'?", argv[1],
                         suggest_best(&s));
    return say_usage(c->name, EXIT_KILN, "unknown command '%s'", argv[1]);
}
