/* Functions of templates: Go's own (pkg.go.dev/text/template, "Functions") and docker's. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/tmplnode.h"

struct call {
    const char *name;
    json_t *const *arg;
    unsigned n;
    struct err *e;
};

typedef json_t *(*func)(const struct call *c);

bool tmplfunc_truth(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_FALSE:
    case JSON_NULL:
        return false;
    case JSON_STRING:
        return json_string_length(v) > 0;
    case JSON_ARRAY:
        return json_array_size(v) > 0;
    case JSON_OBJECT:
        return json_object_size(v) > 0;
    case JSON_INTEGER:
        return json_integer_value(v) != 0;
    case JSON_REAL:
        return json_real_value(v) != 0;
    default:
        return true;
    }
}

static json_t *wrong(const struct call *c, const char *what)
{
    err_set(c->e, -EINVAL, "%s: %s", c->name, what);
    return NULL;
}

static json_t *made(const struct call *c, json_t *v)
{
    return v ? v : wrong(c, "the result is no text");
}

/* The text of v as {{.}} prints it: owned. */
static char *text_of(const json_t *v)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return NULL;
    tmpl_print(out, v);
    fclose(out);
    return text;
}

static json_t *fn_json(const struct call *c)
{
    CLEANUP(mem) char *text = json_dumps(c->arg[0], JSON_COMPACT | JSON_ENCODE_ANY);

    return made(c, text ? json_string(text) : NULL);
}

static json_t *fn_and(const struct call *c)
{
    for (unsigned i = 0; i < c->n; i++)
        if (!tmplfunc_truth(c->arg[i]))
            return json_incref(c->arg[i]);
    return json_incref(c->arg[c->n - 1]);
}

static json_t *fn_or(const struct call *c)
{
    for (unsigned i = 0; i < c->n; i++)
        if (tmplfunc_truth(c->arg[i]))
            return json_incref(c->arg[i]);
    return json_incref(c->arg[c->n - 1]);
}

static json_t *fn_not(const struct call *c)
{
    return json_boolean(!tmplfunc_truth(c->arg[0]));
}

static json_t *fn_len(const struct call *c)
{
    const json_t *v = c->arg[0];

    if (json_is_string(v))
        return json_integer((json_int_t)json_string_length(v));
    if (json_is_array(v))
        return json_integer((json_int_t)json_array_size(v));
    if (json_is_object(v))
        return json_integer((json_int_t)json_object_size(v));
    return json_is_null(v) ? json_integer(0) : wrong(c, "of a value that has no length");
}

/* What a map has not is "" among texts, as of Go's map[string]string. */
static json_t *absent(json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value) if (!json_is_string(value)) return json_null();
    return json_string("");
}

static json_t *fn_index(const struct call *c)
{
    json_t *v = json_incref(c->arg[0]);

    for (unsigned i = 1; i < c->n; i++) {
        const json_t *key = c->arg[i];
        json_t *in = NULL;

        if (json_is_object(v) && json_is_string(key)) {
            in = json_object_get(v, json_string_value(key));
            in = in ? json_incref(in) : absent(v);
        } else if (json_is_array(v) && json_is_integer(key)) {
            json_int_t n = json_integer_value(key);

            if (n >= 0 && (size_t)n < json_array_size(v))
                in = json_incref(json_array_get(v, (size_t)n));
            else
                wrong(c, "there is no such entry");
        } else if (json_is_null(v)) {
            in = json_null();
        } else {
            wrong(c, "a list takes a number, a map a text");
        }
        json_decref(v);
        if (!in)
            return NULL;
        v = in;
    }
    return v;
}

/* Texts and lists: from, to. */
static json_t *fn_slice(const struct call *c)
{
    size_t len =
        json_is_string(c->arg[0]) ? json_string_length(c->arg[0]) : json_array_size(c->arg[0]);
    size_t at[2] = {0, len};

    if (!json_is_string(c->arg[0]) && !json_is_array(c->arg[0]))
        return wrong(c, "of a value that is neither text nor list");
    for (unsigned i = 1; i < c->n; i++) {
        json_int_t n = json_integer_value(c->arg[i]);

        if (!json_is_integer(c->arg[i]) || n < 0 || (size_t)n > len)
            return wrong(c, "out of range");
        at[i - 1] = (size_t)n;
    }
    if (at[0] > at[1])
        return wrong(c, "out of range");
    if (json_is_string(c->arg[0]))
        return made(c, json_stringn(json_string_value(c->arg[0]) + at[0], at[1] - at[0]));
    json_t *part = json_array();
    for (size_t i = at[0]; i < at[1]; i++)
        json_array_append(part, json_array_get(c->arg[0], i));
    return part;
}

/* <0, 0, >0; two values of kinds that cannot be compared: *good is false. */
static int compare(const json_t *a, const json_t *b, bool *good)
{
    *good = true;
    if (json_is_string(a) && json_is_string(b))
        return strcmp(json_string_value(a), json_string_value(b));
    if (json_is_integer(a) && json_is_integer(b))
        return (json_integer_value(a) > json_integer_value(b)) -
               (json_integer_value(a) < json_integer_value(b));
    if (json_is_number(a) && json_is_number(b))
        return (json_number_value(a) > json_number_value(b)) -
               (json_number_value(a) < json_number_value(b));
    *good = false;
    return 0;
}

static json_t *fn_eq(const struct call *c)
{
    for (unsigned i = 1; i < c->n; i++)
        if (json_equal(c->arg[0], c->arg[i]) ||
            (json_is_number(c->arg[0]) && json_is_number(c->arg[i]) &&
             json_number_value(c->arg[0]) == json_number_value(c->arg[i])))
            return json_true();
    return json_false();
}

static json_t *fn_ne(const struct call *c)
{
    json_t *eq = fn_eq(c);

    return json_is_true(eq) ? json_false() : json_true();
}

static json_t *fn_order(const struct call *c)
{
    bool good;
    int r = compare(c->arg[0], c->arg[1], &good);

    if (!good)
        return wrong(c, "only numbers, and texts, can be compared");
    bool less = c->name[0] == 'l';
    return json_boolean((less ? r < 0 : r > 0) || (c->name[1] == 'e' && r == 0));
}

static json_t *fn_join(const struct call *c)
{
    CLEANUP(mem) char *text = NULL;
    size_t len;

    if (!json_is_string(c->arg[1]))
        return wrong(c, "write join LIST SEPARATOR");
    if (json_is_string(c->arg[0]) || json_is_null(c->arg[0]))
        return json_is_null(c->arg[0]) ? json_string("") : json_incref(c->arg[0]);
    if (!json_is_array(c->arg[0]))
        return wrong(c, "write join LIST SEPARATOR");
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return wrong(c, "out of memory");
    for (size_t i = 0; i < json_array_size(c->arg[0]); i++) {
        if (i)
            fputs(json_string_value(c->arg[1]), out);
        tmpl_print(out, json_array_get(c->arg[0], i));
    }
    fclose(out);
    return made(c, json_string(text));
}

static json_t *fn_split(const struct call *c)
{
    const char *s = json_string_value(c->arg[0]), *by = json_string_value(c->arg[1]);
    json_t *list;

    if (!s || !by || !by[0])
        return wrong(c, "write split TEXT SEPARATOR");
    list = json_array();
    for (const char *at; (at = strstr(s, by)); s = at + strlen(by))
        json_array_append_new(list, json_stringn(s, (size_t)(at - s)));
    json_array_append_new(list, json_string(s));
    return list;
}

/* upper, lower, title: of ASCII letters. */
static json_t *fn_case(const struct call *c)
{
    CLEANUP(mem) char *text = text_of(c->arg[0]);
    bool begins = true;

    for (char *s = text; s && *s; s++) {
        unsigned char ch = (unsigned char)*s;

        if (c->name[0] == 'u' || (c->name[0] == 't' && begins))
            *s = (char)toupper(ch);
        else if (c->name[0] == 'l')
            *s = (char)tolower(ch);
        begins = isspace(ch) != 0;
    }
    return made(c, text ? json_string(text) : NULL);
}

/* pad TEXT BEFORE AFTER: that many spaces, but not around "". */
static json_t *fn_pad(const struct call *c)
{
    enum { MOST = 1000 };
    const char *s = json_string_value(c->arg[0]);
    json_int_t before = json_integer_value(c->arg[1]), after = json_integer_value(c->arg[2]);

    if (!s || before < 0 || before > MOST || after < 0 || after > MOST)
        return wrong(c, "write pad TEXT BEFORE AFTER");
    return s[0] ? json_sprintf("%*s%s%*s", (int)before, "", s, (int)after, "")
                : json_incref(c->arg[0]);
}

static json_t *fn_truncate(const struct call *c)
{
    const char *s = json_string_value(c->arg[0]);
    json_int_t most = json_integer_value(c->arg[1]);
    size_t len = 0;

    if (!s || !json_is_integer(c->arg[1]) || most < 0)
        return wrong(c, "write truncate TEXT LENGTH");
    /* Bytes 10xxxxxx go on with a character of UTF-8. */
    while (s[len] && (most > 0 || ((unsigned char)s[len] & 0xc0) == 0x80)) {
        len++;
        most -= ((unsigned char)s[len] & 0xc0) != 0x80;
    }
    return made(c, json_stringn(s, len));
}

static json_t *fn_print(const struct call *c)
{
    CLEANUP(mem) char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    bool line = strcmp(c->name, "println") == 0;

    if (!out)
        return wrong(c, "out of memory");
    for (unsigned i = 0; i < c->n; i++) {
        /* print puts a space between values that are no texts: pkg.go.dev/fmt */
        if (i && (line || (!json_is_string(c->arg[i]) && !json_is_string(c->arg[i - 1]))))
            fputc(' ', out);
        tmpl_print(out, c->arg[i]);
    }
    if (line)
        fputc('\n', out);
    fclose(out);
    return made(c, json_string(text));
}

/* One directive of printf; *s stands behind its '%'. What does not fit its value is printed as Go
 * prints it, without a width. False: no directive. */
static bool directive(FILE *out, const char **s, const json_t *v)
{
    enum { MOST = 3 }; /* digits of width and precision */
    char spec[24] = "%";
    size_t n = strspn(*s, "-+ #0"), k;

    if (n > 5)
        return false;
    strncat(spec, *s, n);
    *s += n;
    k = strspn(*s, "0123456789");
    if (k > MOST)
        return false;
    strncat(spec, *s, k);
    *s += k;
    if (**s == '.') {
        k = strspn(*s + 1, "0123456789") + 1;
        if (k > MOST + 1)
            return false;
        strncat(spec, *s, k);
        *s += k;
    }
    char verb = *(*s)++;
    if (!verb || !strchr("svdqtxXofeg", verb))
        return false;
    size_t at = strlen(spec);
    if (strchr("dxXo", verb) && json_is_integer(v)) {
        snprintf(spec + at, sizeof(spec) - at, "ll%c", verb);
        fprintf(out, spec, (long long)json_integer_value(v));
    } else if (strchr("feg", verb) && json_is_number(v)) {
        snprintf(spec + at, sizeof(spec) - at, "%c", verb);
        fprintf(out, spec, json_number_value(v));
    } else {
        CLEANUP(mem)
        char *text = verb == 'q' ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : text_of(v);

        snprintf(spec + at, sizeof(spec) - at, "s");
        fprintf(out, spec, text ? text : "");
    }
    return true;
}

static json_t *fn_printf(const struct call *c)
{
    CLEANUP(mem) char *text = NULL;
    const char *s = json_string_value(c->arg[0]);
    unsigned used = 1;
    size_t len;
    bool good = s != NULL;
    FILE *out = good ? open_memstream(&text, &len) : NULL;

    while (out && good && *s) {
        if (*s != '%') {
            fputc(*s++, out);
            continue;
        }
        s++;
        if (*s == '%') {
            fputc(*s++, out);
            continue;
        }
        good = used < c->n && directive(out, &s, c->arg[used]);
        used++;
    }
    if (out)
        fclose(out);
    if (!out || !good || used != c->n)
        return wrong(c, "values and directives do not fit each other");
    return made(c, json_string(text));
}

static const struct {
    const char *name;
    func fn;
    unsigned min, max; /* arguments */
} funcs[] = {
    {"and", fn_and, 1, TMPL_ARGS_MAX},
    {"eq", fn_eq, 2, TMPL_ARGS_MAX},
    {"ge", fn_order, 2, 2},
    {"gt", fn_order, 2, 2},
    {"index", fn_index, 1, TMPL_ARGS_MAX},
    {"join", fn_join, 2, 2},
    {"json", fn_json, 1, 1},
    {"le", fn_order, 2, 2},
    {"len", fn_len, 1, 1},
    {"lower", fn_case, 1, 1},
    {"lt", fn_order, 2, 2},
    {"ne", fn_ne, 2, 2},
    {"not", fn_not, 1, 1},
    {"or", fn_or, 1, TMPL_ARGS_MAX},
    {"pad", fn_pad, 3, 3},
    {"print", fn_print, 0, TMPL_ARGS_MAX},
    {"printf", fn_printf, 1, TMPL_ARGS_MAX},
    {"println", fn_print, 0, TMPL_ARGS_MAX},
    {"slice", fn_slice, 1, 3},
    {"split", fn_split, 2, 2},
    {"title", fn_case, 1, 1},
    {"truncate", fn_truncate, 2, 2},
    {"upper", fn_case, 1, 1},
};

bool tmplfunc_exists(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(funcs); i++)
        if (strcmp(funcs[i].name, name) == 0)
            return true;
    return false;
}

json_t *tmplfunc_call(const char *name, json_t *const *args, unsigned n, struct err *e)
{
    struct call c = {name, args, n, e};

    for (size_t i = 0; i < ARRAY_LEN(funcs); i++) {
        if (strcmp(funcs[i].name, name) != 0)
            continue;
        if (n < funcs[i].min || n > funcs[i].max)
            return wrong(&c, "has another number of arguments");
        return funcs[i].fn(&c);
    }
    return wrong(&c, "there is no such function");
}

json_t *tmplfunc_label(const json_t *v, const char *name)
{
    json_t *labels = json_object_get(v, "Labels");
    const char *s = json_string_value(labels);
    size_t n = strlen(name);

    if (json_is_object(labels)) {
        json_t *value = json_object_get(labels, name);
        return value ? json_incref(value) : json_string("");
    }
    for (; s && *s; s += strcspn(s, ","), s += *s == ',')
        if (strncmp(s, name, n) == 0 && s[n] == '=')
            return json_stringn(s + n + 1, strcspn(s + n + 1, ","));
    return json_string("");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* map[a:1 b:2], in the order of the names */
static void print_object(FILE *out, json_t *v)
{
    size_t n = 0;
    const char **keys = calloc(json_object_size(v) + 1, sizeof(*keys)), *key;
    json_t *value;

    if (keys)
        json_object_foreach(v, key, value) keys[n++] = key;
    if (n > 1)
        qsort(keys, n, sizeof(*keys), by_text);
    fputs("map[", out);
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "%s%s:", i ? " " : "", keys[i]);
        tmpl_print(out, json_object_get(v, keys[i]));
    }
    fputc(']', out);
    free(keys);
}

void tmpl_print(FILE *out, const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
        fputs(json_string_value(v), out);
        break;
    case JSON_INTEGER:
        fprintf(out, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        fprintf(out, "%g", json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        fputs(json_is_true(v) ? "true" : "false", out);
        break;
    case JSON_NULL:
        fputs("<no value>", out);
        break;
    case JSON_ARRAY:
        fputc('[', out);
        for (size_t i = 0; i < json_array_size(v); i++) {
            if (i)
                fputc(' ', out);
            tmpl_print(out, json_array_get(v, i));
        }
        fputc(']', out);
        break;
    case JSON_OBJECT:
        print_object(out, (json_t *)v);
        break;
    }
}
