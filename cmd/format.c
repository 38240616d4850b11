#include "cmd/format.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/columns.h"
#include "cmd/tmpl.h"

enum how { AS_TABLE, AS_JSON, AS_LINES };

struct format {
    enum how how;
    const struct format_column *columns;
    struct tmpl *tmpl;
    char *text; /* of the template */
};

/* "{{.A}}\t{{.B}}" of the columns that are shown. */
static char *own_columns(const struct format_column *columns)
{
    char *text = NULL;
    size_t len;
    bool first = true;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return NULL;
    for (const struct format_column *c = columns; c->field; c++) {
        if (c->hidden)
            continue;
        fprintf(out, "%s{{.%s}}", first ? "" : "\\t", c->field);
        first = false;
    }
    fclose(out);
    return text;
}

int format_new(const char *text, const struct format_column *columns, struct format **ret,
               struct err *e)
{
    struct format *f = calloc(1, sizeof(*f));
    bool own = !text || strcmp(text, "table") == 0 || !text[0];
    bool table = text && strncmp(text, "table", 5) == 0 && isspace((unsigned char)text[5]);

    if (!f)
        return err_errno(e, -ENOMEM, "--format");
    f->columns = columns;
    f->how = text && strcmp(text, "json") == 0 ? AS_JSON : own || table ? AS_TABLE : AS_LINES;
    if (f->how == AS_JSON) {
        *ret = f;
        return 0;
    }
    f->text = own ? own_columns(columns) : strdup(table ? text + 6 : text);
    int r = f->text ? tmpl_new(f->text, &f->tmpl, e) : err_errno(e, -ENOMEM, "--format");
    if (r < 0) {
        format_free(f);
        return err_wrap(e, r, "--format");
    }
    *ret = f;
    return 0;
}

void format_free(struct format *f)
{
    if (!f)
        return;
    tmpl_free(f->tmpl);
    free(f->text);
    free(f);
}

bool format_is_json(const struct format *f)
{
    return f->how == AS_JSON;
}

/* JSON of the whole entry leaves nothing out. */
bool format_wants(const struct format *f, const char *field)
{
    size_t n = strlen(field);

    if (f->how == AS_JSON || strstr(f->text, "json") || strstr(f->text, "{{.}}") ||
        strstr(f->text, "range"))
        return true;
    for (const char *s = f->text; (s = strchr(s, '.')); s++)
        if (strncmp(s + 1, field, n) == 0 && !isalnum((unsigned char)s[1 + n]))
            return true;
    return false;
}

static json_t *headings(const struct format_column *columns)
{
    json_t *o = json_object();

    for (const struct format_column *c = columns; o && c->field; c++)
        json_object_set_new(o, c->field, json_string(c->heading ? c->heading : ""));
    return o;
}

static int one_line(const struct format *f, json_t *entry, FILE *out, struct err *e)
{
    int r = tmpl_run(f->tmpl, entry, out, e);

    if (r < 0)
        return err_wrap(e, r, "--format");
    fputc('\n', out);
    return 0;
}

static int print_templates(const struct format *f, const json_t *entries, FILE *out, struct err *e)
{
    json_t *heads = f->how == AS_TABLE ? headings(f->columns) : NULL;
    int r = heads ? one_line(f, heads, out, e) : 0;

    for (size_t i = 0; r == 0 && i < json_array_size(entries); i++)
        r = one_line(f, json_array_get(entries, i), out, e);
    json_decref(heads);
    return r;
}

int format_print(const struct format *f, const json_t *entries, FILE *out, struct err *e)
{
    CLEANUP(mem) char *text = NULL;
    size_t len;

    if (f->how == AS_JSON) {
        for (size_t i = 0; i < json_array_size(entries); i++) {
            json_dumpf(json_array_get(entries, i), out, JSON_COMPACT);
            fputc('\n', out);
        }
        return 0;
    }
    /* First into memory: a mistake is found before anything stands on the terminal. */
    FILE *in = open_memstream(&text, &len);
    if (!in)
        return err_errno(e, -ENOMEM, "--format");
    int r = print_templates(f, entries, in, e);
    fclose(in);
    if (r == 0 && f->how == AS_TABLE)
        columns_print(out, text);
    else if (r == 0)
        fwrite(text, 1, len, out);
    return r;
}

int format_value(const char *text, json_t *value, FILE *out, struct err *e)
{
    CLEANUP(mem) char *made = NULL;
    struct tmpl *t = NULL;
    size_t len;

    if (!text || !text[0] || strcmp(text, "json") == 0) {
        json_dumpf(value, out, JSON_INDENT(4) | JSON_ENCODE_ANY);
        fputc('\n', out);
        return 0;
    }
    int r = tmpl_new(text, &t, e);
    if (r < 0)
        return err_wrap(e, r, "--format");
    FILE *in = open_memstream(&made, &len);
    r = in ? tmpl_run(t, value, in, e) : err_errno(e, -ENOMEM, "template");
    if (in)
        fclose(in);
    tmpl_free(t);
    if (r < 0)
        return err_wrap(e, r, "--format");
    fwrite(made, 1, len, out);
    fputc('\n', out);
    return 0;
}

int format_list(const char *text, const struct format_column *columns, bool quiet, const char *id,
                const json_t *entries, struct err *e)
{
    struct format *f = NULL;

    /* docker: -q counts but with a template of one's own */
    if (quiet && (!text || strcmp(text, "table") == 0 || strcmp(text, "json") == 0)) {
        for (size_t i = 0; i < json_array_size(entries); i++)
            puts(json_string_value(json_object_get(json_array_get(entries, i), id)));
        return 0;
    }
    int r = format_new(text, columns, &f, e);
    if (r == 0)
        r = format_print(f, entries, stdout, e);
    format_free(f);
    return r;
}
