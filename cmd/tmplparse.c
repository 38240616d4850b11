/* A template's text to its nodes. Grammar: pkg.go.dev/text/template, "Actions", "Pipelines". */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/suggest.h"
#include "cmd/tmplnode.h"

struct tmpl_block {
    struct tmpl_block *next;
    struct tmpl_arg *arg; /* whose value is to be released */
};

struct parse {
    struct tmpl *t;
    const char *s; /* where we are */
    unsigned depth, ranges;
    struct err *e;
    const char *word; /* that ended a list of statements: "end", "else", NULL = the text's end */
};

/* Zeroed memory that lives as long as the template; NULL: *e says so. */
static void *node(struct parse *p, size_t size)
{
    struct tmpl_block *b = calloc(1, sizeof(*b) + size);

    if (!b) {
        err_errno(p->e, -ENOMEM, "--format");
        return NULL;
    }
    b->next = p->t->blocks;
    p->t->blocks = b;
    return b + 1;
}

__attribute__((format(printf, 2, 3))) static int wrong(struct parse *p, const char *fmt, ...)
{
    char what[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    return err_set(p->e, -EINVAL, "the template is wrong at column %zu: %s",
                   (size_t)(p->s - p->t->text) + 1, what);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static void skip_space(struct parse *p)
{
    while (is_space(*p->s))
        p->s++;
}

/* "}}", or "-}}" with a space in front. */
static bool at_close(const struct parse *p)
{
    return strncmp(p->s, "}}", 2) == 0 || strncmp(p->s, "-}}", 3) == 0;
}

static char *copy(struct parse *p, const char *s, size_t len)
{
    char *c = node(p, len + 1);

    if (c)
        memcpy(c, s, len);
    return c;
}

static char *word(struct parse *p)
{
    const char *from = p->s;

    while (is_word(*p->s))
        p->s++;
    return copy(p, from, (size_t)(p->s - from));
}

/* One escape of a string in double quotes; *s stands behind the backslash. */
static bool unescape(const char **s, char *to)
{
    static const char from[] = "abfnrtv\\\"'", codes[] = "\a\b\f\n\r\t\v\\\"'";
    const char *at = **s ? strchr(from, **s) : NULL;

    if (!at)
        return false;
    *to = codes[at - from];
    (*s)++;
    return true;
}

static json_t *string_value(struct parse *p)
{
    char quote = *p->s++, *text = node(p, strlen(p->s) + 1), *to = text;

    if (!text)
        return NULL;
    while (*p->s && *p->s != quote) {
        if (*p->s == '\\' && quote == '"') {
            p->s++;
            if (!unescape(&p->s, to++)) {
                wrong(p, "an escape that is none");
                return NULL;
            }
        } else {
            *to++ = *p->s++;
        }
    }
    if (*p->s != quote) {
        wrong(p, "a string is not closed");
        return NULL;
    }
    p->s++;
    json_t *v = json_string(text);
    if (!v)
        wrong(p, "a string is not UTF-8");
    return v;
}

static json_t *number_value(struct parse *p)
{
    char *end_int, *end_real;

    errno = 0;
    long long n = strtoll(p->s, &end_int, 0);
    double r = strtod(p->s, &end_real);
    bool real = end_real > end_int;

    p->s = real ? end_real : end_int;
    if (errno || is_word(*p->s)) {
        wrong(p, "a number that is none");
        return NULL;
    }
    json_t *v = real ? json_real(r) : json_integer(n);
    if (!v)
        wrong(p, "a number that is none");
    return v;
}

static int parse_pipe(struct parse *p, struct tmpl_pipe **ret);

/* .A.B.C behind an operand. */
static int parse_chain(struct parse *p, struct tmpl_name **at)
{
    while (*p->s == '.' && is_word(p->s[1])) {
        struct tmpl_name *n = node(p, sizeof(*n));

        p->s++;
        if (!n || !(n->text = word(p)))
            return -ENOMEM;
        *at = n;
        at = &n->next;
    }
    return 0;
}

static int literal(struct parse *p, struct tmpl_arg *a, json_t *v)
{
    if (!v)
        return p->e ? p->e->code : -EINVAL;
    /* The block in front of the node releases it. */
    ((struct tmpl_block *)a - 1)->arg = a;
    a->kind = ARG_VALUE;
    a->value = v;
    return 0;
}

static int parse_word(struct parse *p, struct tmpl_arg *a)
{
    char *name = word(p);

    if (!name)
        return -ENOMEM;
    if (strcmp(name, "true") == 0 || strcmp(name, "false") == 0)
        return literal(p, a, json_boolean(name[0] == 't'));
    if (strcmp(name, "nil") == 0)
        return literal(p, a, json_null());
    if (!tmplfunc_exists(name))
        return wrong(p, "there is no function '%s'", name);
    a->kind = ARG_FUNC;
    a->name = name;
    return 0;
}

static int parse_paren(struct parse *p, struct tmpl_arg *a)
{
    if (++p->depth > TMPL_DEPTH_MAX)
        return wrong(p, "too many parentheses");
    p->s++;
    a->kind = ARG_PIPE;
    int r = parse_pipe(p, &a->pipe);
    if (r == 0 && *p->s != ')')
        r = wrong(p, "a parenthesis is not closed");
    p->s += r == 0;
    p->depth--;
    return r;
}

static int parse_arg(struct parse *p, struct tmpl_arg **ret)
{
    struct tmpl_arg *a = node(p, sizeof(*a));
    int r = 0;

    if (!a)
        return -ENOMEM;
    if (*p->s == '(') {
        r = parse_paren(p, a);
    } else if (*p->s == '"' || *p->s == '`') {
        r = literal(p, a, string_value(p));
    } else if (*p->s == '$') {
        p->s++;
        a->kind = ARG_VAR;
        a->name = word(p);
        r = a->name ? 0 : -ENOMEM;
    } else if (*p->s == '.') {
        a->kind = ARG_DOT;
        if (!is_word(p->s[1]))
            p->s++;
    } else if (isdigit((unsigned char)*p->s) ||
               (strchr("+-", *p->s) && *p->s && isdigit((unsigned char)p->s[1]))) {
        r = literal(p, a, number_value(p));
    } else if (is_word(*p->s)) {
        r = parse_word(p, a);
    } else {
        r = wrong(p, *p->s ? "'%c' is out of place" : "the text ends within {{", *p->s);
    }
    if (r == 0)
        r = parse_chain(p, &a->chain);
    if (r == 0)
        *ret = a;
    return r;
}

static bool ends_cmd(const struct parse *p)
{
    return !*p->s || *p->s == '|' || *p->s == ')' || at_close(p);
}

static int parse_cmd(struct parse *p, struct tmpl_cmd **ret)
{
    struct tmpl_cmd *c = node(p, sizeof(*c));
    unsigned n = 0;
    int r = c ? 0 : -ENOMEM;

    for (struct tmpl_arg **at = c ? &c->args : NULL; r == 0; at = &(*at)->next) {
        skip_space(p);
        if (ends_cmd(p))
            break;
        if (++n > TMPL_ARGS_MAX)
            return wrong(p, "more than %d arguments", TMPL_ARGS_MAX - 1);
        r = parse_arg(p, at);
        if (r == 0 && !is_space(*p->s) && !ends_cmd(p))
            r = wrong(p, "'%c' is out of place", *p->s);
        if (r < 0)
            break;
    }
    if (r == 0 && !c->args)
        r = wrong(p, "a value is missing");
    if (r == 0)
        *ret = c;
    return r;
}

/* "$x :=", "$x =", "$i, $x :=" in front of a pipeline. */
static int parse_vars(struct parse *p, struct tmpl_pipe *pipe)
{
    const char *begin = p->s;
    const char *name[2] = {NULL, NULL};
    unsigned n = 0;

    while (n < 2 && *p->s == '$') {
        p->s++;
        name[n] = word(p);
        if (!name[n++])
            return -ENOMEM;
        skip_space(p);
        if (*p->s != ',')
            break;
        p->s++;
        skip_space(p);
    }
    bool declare = strncmp(p->s, ":=", 2) == 0;
    if (n == 0 || (!declare && *p->s != '=')) {
        p->s = begin;
        return 0;
    }
    p->s += declare ? 2 : 1;
    pipe->n_vars = n;
    pipe->var[0] = name[0];
    pipe->var[1] = name[1];
    pipe->assign = !declare;
    return 0;
}

static int parse_pipe(struct parse *p, struct tmpl_pipe **ret)
{
    struct tmpl_pipe *pipe = node(p, sizeof(*pipe));

    if (!pipe)
        return -ENOMEM;
    skip_space(p);
    int r = parse_vars(p, pipe);
    struct tmpl_cmd **at = &pipe->cmds;
    while (r == 0) {
        r = parse_cmd(p, at);
        if (r < 0)
            return r;
        at = &(*at)->next;
        if (*p->s != '|')
            break;
        p->s++;
    }
    *ret = pipe;
    return r;
}

/* The end of an action, and with "-}}" the space behind it. */
static int close_action(struct parse *p)
{
    skip_space(p);
    if (!at_close(p))
        return *p->s ? wrong(p, "'%c' is out of place", *p->s)
                     : wrong(p, "the text ends within {{");
    bool trim = *p->s == '-';
    p->s += trim ? 3 : 2;
    if (trim)
        skip_space(p);
    return 0;
}

static bool take_word(struct parse *p, const char *w)
{
    size_t n = strlen(w);

    if (strncmp(p->s, w, n) != 0 || is_word(p->s[n]))
        return false;
    p->s += n;
    return true;
}

static int parse_list(struct parse *p, struct tmpl_stmt **ret);

/* if, range, with: their pipeline, body and else; "else if" and "else with" nest. */
static int parse_block(struct parse *p, struct tmpl_stmt *s)
{
    if (++p->depth > TMPL_DEPTH_MAX)
        return wrong(p, "too many blocks in one another");
    p->ranges += s->kind == STMT_RANGE;
    int r = parse_pipe(p, &s->pipe);
    if (r == 0)
        r = close_action(p);
    if (r == 0)
        r = parse_list(p, &s->body);
    p->ranges -= s->kind == STMT_RANGE;
    if (r == 0 && !p->word)
        r = wrong(p, "{{end}} is missing");
    if (r == 0 && strcmp(p->word, "else") == 0) {
        skip_space(p);
        bool again = (s->kind == STMT_IF && take_word(p, "if")) ||
                     (s->kind == STMT_WITH && take_word(p, "with"));

        if (again) {
            s->otherwise = node(p, sizeof(*s));
            if (!s->otherwise)
                return -ENOMEM;
            s->otherwise->kind = s->kind;
            r = parse_block(p, s->otherwise); /* which takes the {{end}} of both */
            p->depth--;
            return r;
        }
        r = close_action(p);
        if (r == 0)
            r = parse_list(p, &s->otherwise);
        if (r == 0 && (!p->word || strcmp(p->word, "end") != 0))
            r = wrong(p, "{{end}} is missing");
    }
    if (r == 0)
        r = close_action(p);
    p->depth--;
    return r;
}

/* What stands behind "{{". Sets p->word at an end or an else. */
static int parse_action(struct parse *p, struct tmpl_stmt *s)
{
    static const struct {
        const char *word;
        enum tmpl_stmt_kind kind;
    } blocks[] = {{"if", STMT_IF}, {"range", STMT_RANGE}, {"with", STMT_WITH}};

    skip_space(p);
    p->word = NULL;
    if (take_word(p, "end"))
        p->word = "end";
    else if (take_word(p, "else"))
        p->word = "else";
    if (p->word)
        return 0;
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        if (take_word(p, blocks[i].word)) {
            s->kind = blocks[i].kind;
            int r = parse_block(p, s);
            p->word = NULL;
            return r;
        }
    }
    bool stop = take_word(p, "break");
    if (stop || take_word(p, "continue")) {
        s->kind = stop ? STMT_BREAK : STMT_CONTINUE;
        return p->ranges ? close_action(p) : wrong(p, "break and continue belong in a range");
    }
    s->kind = STMT_PRINT;
    int r = parse_pipe(p, &s->pipe);
    return r == 0 ? close_action(p) : r;
}

/* Text up to the next action, with \t and \n as docker reads them. */
static int parse_text(struct parse *p, struct tmpl_stmt *s, size_t len, bool trim)
{
    char *text = node(p, len + 1), *to = text;

    if (!text)
        return -ENOMEM;
    for (const char *end = p->s + len; p->s < end; p->s++) {
        bool escape = *p->s == '\\' && p->s + 1 < end && (p->s[1] == 't' || p->s[1] == 'n');

        if (escape)
            p->s++;
        *to++ = !escape ? *p->s : *p->s == 't' ? '\t' : '\n';
    }
    while (trim && to > text && is_space(to[-1]))
        to--;
    s->kind = STMT_TEXT;
    s->text = text;
    s->len = (size_t)(to - text);
    return 0;
}

static bool opens_trimmed(const char *s)
{
    return s[2] == '-' && is_space(s[3]);
}

/* {{/ * a comment * /}}; p->s stands behind "{{" and its dash. */
static int skip_comment(struct parse *p)
{
    const char *end = strstr(p->s, "*/");

    if (!end)
        return wrong(p, "a comment is not closed");
    p->s = end + 2;
    return close_action(p);
}

/* Statements up to {{end}}, {{else}} or the end of the text. */
static int parse_list(struct parse *p, struct tmpl_stmt **at)
{
    p->word = NULL;
    while (*p->s) {
        const char *open = strstr(p->s, "{{");
        struct tmpl_stmt *s = node(p, sizeof(*s));
        int r;

        if (!s)
            return -ENOMEM;
        if (open != p->s) {
            r = parse_text(p, s, open ? (size_t)(open - p->s) : strlen(p->s),
                           open && opens_trimmed(open));
        } else {
            p->s += opens_trimmed(p->s) ? 4 : 2;
            skip_space(p);
            if (strncmp(p->s, "/*", 2) == 0) {
                r = skip_comment(p);
                if (r < 0)
                    return r;
                continue;
            }
            r = parse_action(p, s);
        }
        if (r < 0 || p->word)
            return r;
        *at = s;
        at = &s->next;
    }
    p->word = NULL;
    return 0;
}

int tmpl_new(const char *text, struct tmpl **ret, struct err *e)
{
    struct tmpl *t = calloc(1, sizeof(*t));
    struct err own = {0};
    struct parse p = {.t = t, .e = e ? e : &own};

    if (strlen(text) > TMPL_TEXT_MAX) {
        free(t);
        return err_set(e, -E2BIG, "a template has at most %d bytes", TMPL_TEXT_MAX);
    }
    if (!t || !(t->text = strdup(text))) {
        free(t);
        return err_errno(e, -ENOMEM, "--format");
    }
    p.s = t->text;
    int r = parse_list(&p, &t->body);
    if (r == 0 && p.word)
        r = wrong(&p, "{{%s}} without a beginning", p.word);
    if (r < 0) {
        tmpl_free(t);
        return r;
    }
    *ret = t;
    return 0;
}

void tmpl_free(struct tmpl *t)
{
    if (!t)
        return;
    while (t->blocks) {
        struct tmpl_block *b = t->blocks;

        t->blocks = b->next;
        if (b->arg)
            json_decref(b->arg->value);
        free(b);
    }
    free(t->text);
    free(t);
}
