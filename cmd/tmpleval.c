/* A template's nodes to text. Semantics: pkg.go.dev/text/template, "Pipelines", "Variables". */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/suggest.h"
#include "cmd/tmplnode.h"

enum { VARS_MAX = 256 };

struct var {
    const char *name;
    json_t *value; /* owned */
};

/* What runs on after a statement. */
enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

struct run {
    json_t *root; /* borrowed */
    FILE *out;
    struct err *e;
    struct var var[VARS_MAX];
    unsigned n_vars;
    unsigned steps;
};

/* Values in here are new references; NULL means *e is set. */

static void *fail(struct run *x, int code, const char *text)
{
    err_set(x->e, code, "%s", text);
    return NULL;
}

static json_t *step(struct run *x, json_t *v)
{
    if (++x->steps > TMPL_STEPS_MAX)
        return fail(x, -E2BIG, "the template does not come to an end");
    return json_incref(v);
}

static void *no_field(struct run *x, const char *name)
{
    struct suggest s;
    const char *key;
    json_t *value;

    suggest_init(&s, name, strlen(name));
    json_object_foreach(x->root, key, value) suggest_try(&s, key);
    if (suggest_best(&s))
        err_set(x->e, -EINVAL, "there is no field .%s; did you mean .%s?", name, suggest_best(&s));
    else
        err_set(x->e, -EINVAL, "there is no field .%s", name);
    return NULL;
}

/* One field of v, which is released. */
static json_t *take_field(struct run *x, json_t *v, const char *name)
{
    json_t *f = json_object_get(v, name);

    if (!f && v == x->root && json_is_object(v)) {
        no_field(x, name);
        json_decref(v);
        return NULL;
    }
    if (!f && !json_is_object(v) && !json_is_null(v)) {
        err_set(x->e, -EINVAL, "there is no .%s in a value that has no fields", name);
        json_decref(v);
        return NULL;
    }
    f = f ? json_incref(f) : json_null();
    json_decref(v);
    return f;
}

static struct var *find_var(struct run *x, const char *name)
{
    for (unsigned i = x->n_vars; i-- > 0;)
        if (strcmp(x->var[i].name, name) == 0)
            return &x->var[i];
    err_set(x->e, -EINVAL, "there is no variable $%s", name);
    return NULL;
}

static int set_var(struct run *x, const char *name, json_t *value, bool assign)
{
    struct var *v = assign ? find_var(x, name) : NULL;

    if (assign && !v)
        return -EINVAL;
    if (!assign) {
        if (x->n_vars == VARS_MAX)
            return err_set(x->e, -E2BIG, "too many variables");
        v = &x->var[x->n_vars++];
        *v = (struct var){.name = name};
    }
    json_decref(v->value);
    v->value = json_incref(value);
    return 0;
}

static void drop_vars(struct run *x, unsigned keep)
{
    while (x->n_vars > keep)
        json_decref(x->var[--x->n_vars].value);
}

static json_t *eval_pipe(struct run *x, const struct tmpl_pipe *p, json_t *dot);

/* An argument without its fields. */
static json_t *eval_head(struct run *x, const struct tmpl_arg *a, json_t *dot)
{
    struct var *v;

    switch (a->kind) {
    case ARG_DOT:
        return step(x, dot);
    case ARG_VALUE:
        return step(x, a->value);
    case ARG_VAR:
        v = find_var(x, a->name);
        return v ? step(x, v->value) : NULL;
    case ARG_PIPE:
        return eval_pipe(x, a->pipe, dot);
    case ARG_FUNC:
        return ++x->steps > TMPL_STEPS_MAX ? fail(x, -E2BIG, "the template does not come to an end")
                                           : tmplfunc_call(a->name, NULL, 0, x->e);
    }
    BUG("an argument of no kind");
}

static json_t *eval_arg(struct run *x, const struct tmpl_arg *a, json_t *dot)
{
    json_t *v = eval_head(x, a, dot);

    for (const struct tmpl_name *n = a->chain; v && n; n = n->next)
        v = take_field(x, v, n->text);
    return v;
}

/* {{.Label "name"}} of docker ps: the one method rows have. */
static json_t *eval_method(struct run *x, const struct tmpl_arg *a, json_t *dot, json_t *last)
{
    const struct tmpl_name *n = a->chain;
    json_t *of = n ? eval_head(x, a, dot) : NULL;

    if (!n)
        return fail(x, -EINVAL, "a value that is no function has arguments");
    for (; of && n->next; n = n->next)
        of = take_field(x, of, n->text);
    if (!of)
        return NULL;
    json_t *name = a->next ? eval_arg(x, a->next, dot) : json_incref(last), *v = NULL;
    if (name && (strcmp(n->text, "Label") != 0 || !json_is_string(name) ||
                 (a->next && (a->next->next || last))))
        err_set(x->e, -EINVAL, ".%s takes no arguments", n->text);
    else if (name)
        v = tmplfunc_label(of, json_string_value(name));
    json_decref(name);
    json_decref(of);
    return v;
}

/* `last`: the value of the command before, which becomes the last argument; NULL = none. */
static json_t *eval_cmd(struct run *x, const struct tmpl_cmd *c, json_t *dot, json_t *last)
{
    json_t *arg[TMPL_ARGS_MAX + 1] = {NULL}, *v = NULL;
    unsigned n = 0;
    bool good = true;

    if (c->args->kind != ARG_FUNC) {
        if (c->args->next || last)
            return eval_method(x, c->args, dot, last);
        return eval_arg(x, c->args, dot);
    }
    for (const struct tmpl_arg *a = c->args->next; a && good; a = a->next) {
        arg[n] = eval_arg(x, a, dot);
        good = arg[n] != NULL;
        n += good;
    }
    if (good && last)
        arg[n++] = json_incref(last);
    if (good && ++x->steps > TMPL_STEPS_MAX)
        fail(x, -E2BIG, "the template does not come to an end");
    else if (good)
        v = tmplfunc_call(c->args->name, arg, n, x->e);
    while (n > 0)
        json_decref(arg[--n]);
    for (const struct tmpl_name *f = c->args->chain; v && f; f = f->next)
        v = take_field(x, v, f->text);
    return v;
}

static json_t *eval_pipe(struct run *x, const struct tmpl_pipe *p, json_t *dot)
{
    json_t *v = NULL;

    for (const struct tmpl_cmd *c = p->cmds; c; c = c->next) {
        json_t *next = eval_cmd(x, c, dot, v);

        json_decref(v);
        if (!next)
            return NULL;
        v = next;
    }
    return v;
}

static int run_list(struct run *x, const struct tmpl_stmt *s, json_t *dot, enum flow *flow);

/* One turn of a range. */
static int turn(struct run *x, const struct tmpl_stmt *s, json_t *key, json_t *value,
                enum flow *flow)
{
    const struct tmpl_pipe *p = s->pipe;
    unsigned keep = x->n_vars;
    int r = 0;

    if (p->n_vars == 2)
        r = set_var(x, p->var[0], key, p->assign);
    if (r == 0 && p->n_vars)
        r = set_var(x, p->var[p->n_vars - 1], value, p->assign);
    if (r == 0)
        r = run_list(x, s->body, value, flow);
    drop_vars(x, keep);
    return r;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* In the order of their names, as Go has it. */
static int range_object(struct run *x, const struct tmpl_stmt *s, json_t *v)
{
    size_t n = 0, size = json_object_size(v);
    const char **keys = calloc(size + 1, sizeof(*keys)), *key;
    enum flow flow = FLOW_NEXT;
    json_t *value;
    int r = keys ? 0 : err_errno(x->e, -ENOMEM, "range");

    if (keys)
        json_object_foreach(v, key, value) keys[n++] = key;
    if (n > 1)
        qsort(keys, n, sizeof(*keys), by_text);
    for (size_t i = 0; r == 0 && i < n && flow != FLOW_BREAK; i++) {
        json_t *k = json_string(keys[i]);

        r = k ? turn(x, s, k, json_object_get(v, keys[i]), &flow)
              : err_errno(x->e, -ENOMEM, "range");
        json_decref(k);
    }
    free(keys);
    return r;
}

static int range_array(struct run *x, const struct tmpl_stmt *s, json_t *v)
{
    enum flow flow = FLOW_NEXT;
    int r = 0;

    for (size_t i = 0; r == 0 && i < json_array_size(v) && flow != FLOW_BREAK; i++) {
        json_t *k = json_integer((json_int_t)i);

        r = k ? turn(x, s, k, json_array_get(v, i), &flow) : err_errno(x->e, -ENOMEM, "range");
        json_decref(k);
    }
    return r;
}

static int run_range(struct run *x, const struct tmpl_stmt *s, json_t *dot, enum flow *flow)
{
    json_t *v = eval_pipe(x, s->pipe, dot);
    int r;

    if (!v)
        return x->e->code;
    if (json_array_size(v))
        r = range_array(x, s, v);
    else if (json_object_size(v))
        r = range_object(x, s, v);
    else if (json_is_array(v) || json_is_object(v) || json_is_null(v))
        r = run_list(x, s->otherwise, dot, flow);
    else
        r = err_set(x->e, -EINVAL, "range is over lists and maps");
    json_decref(v);
    return r;
}

/* if and with. */
static int run_choice(struct run *x, const struct tmpl_stmt *s, json_t *dot, enum flow *flow)
{
    unsigned keep = x->n_vars;
    json_t *v = eval_pipe(x, s->pipe, dot);
    int r = v ? 0 : x->e->code;

    if (r == 0 && s->pipe->n_vars)
        r = set_var(x, s->pipe->var[0], v, s->pipe->assign);
    if (r == 0 && tmplfunc_truth(v))
        r = run_list(x, s->body, s->kind == STMT_WITH ? v : dot, flow);
    else if (r == 0)
        r = run_list(x, s->otherwise, dot, flow);
    drop_vars(x, keep);
    json_decref(v);
    return r;
}

static int run_print(struct run *x, const struct tmpl_stmt *s, json_t *dot)
{
    json_t *v = eval_pipe(x, s->pipe, dot);
    int r = 0;

    if (!v)
        return x->e->code;
    if (s->pipe->n_vars)
        r = set_var(x, s->pipe->var[0], v, s->pipe->assign);
    else
        tmpl_print(x->out, v);
    json_decref(v);
    return r;
}

static int run_list(struct run *x, const struct tmpl_stmt *s, json_t *dot, enum flow *flow)
{
    unsigned keep = x->n_vars;
    int r = 0;

    *flow = FLOW_NEXT;
    for (; s && r == 0 && *flow == FLOW_NEXT; s = s->next) {
        if (++x->steps > TMPL_STEPS_MAX || ftell(x->out) > TMPL_OUTPUT_MAX)
            return err_set(x->e, -E2BIG, "the template does not come to an end");
        switch (s->kind) {
        case STMT_TEXT:
            fwrite(s->text, 1, s->len, x->out);
            break;
        case STMT_PRINT:
            r = run_print(x, s, dot);
            break;
        case STMT_RANGE:
            r = run_range(x, s, dot, flow);
            break;
        case STMT_IF:
        case STMT_WITH:
            r = run_choice(x, s, dot, flow);
            break;
        case STMT_BREAK:
            *flow = FLOW_BREAK;
            break;
        case STMT_CONTINUE:
            *flow = FLOW_CONTINUE;
            break;
        }
    }
    drop_vars(x, keep);
    return r;
}

int tmpl_run(const struct tmpl *t, json_t *dot, FILE *out, struct err *e)
{
    struct err own = {0};
    struct run x = {.root = dot, .out = out, .e = e ? e : &own};
    enum flow flow;

    int r = set_var(&x, "", dot, false); /* $ */
    if (r == 0)
        r = run_list(&x, t->body, dot, &flow);
    drop_vars(&x, 0);
    return r;
}
