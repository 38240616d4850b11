/* A seccomp profile as JSON: runtime-spec 1.1, config-linux.md, "Seccomp"; docker's files add
 * archMap and, per rule, includes and excludes by capability. */
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>

#include "base/cleanup.h"
#include "process/defaults.h"
#include "process/filter.h"
#include "process/filterrules.h"

enum { ARGS_MAX = 6, ERRNO_MAX = 4095, RULES_MAX = 4096 };

static const struct {
    const char *name;
    uint32_t action;
} action_of[] = {
    {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
    {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
    {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_LOG", SCMP_ACT_LOG},
    {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
};

static const struct {
    const char *name;
    enum scmp_compare op;
} op_of[] = {
    {"SCMP_CMP_EQ", SCMP_CMP_EQ}, {"SCMP_CMP_GE", SCMP_CMP_GE},
    {"SCMP_CMP_GT", SCMP_CMP_GT}, {"SCMP_CMP_LE", SCMP_CMP_LE},
    {"SCMP_CMP_LT", SCMP_CMP_LT}, {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
    {"SCMP_CMP_NE", SCMP_CMP_NE},
};

struct profile {
    scmp_filter_ctx ctx;
    uint32_t default_action;
    uint64_t caps;
    unsigned rules;
};

static int get_action(const json_t *from, const char *action, const char *errno_key, uint32_t *out,
                      struct err *e)
{
    const char *name = json_string_value(json_object_get(from, action));
    const json_t *number = json_object_get(from, errno_key);
    json_int_t code = number ? json_integer_value(number) : EPERM;

    for (unsigned i = 0; name && i < ARRAY_LEN(action_of); i++)
        if (strcmp(name, action_of[i].name) == 0) {
            *out = action_of[i].action;
            return 0;
        }
    if (!name || strcmp(name, "SCMP_ACT_ERRNO") != 0)
        return err_set(e, -EINVAL, "%s '%s' is not known", action, name ? name : "");
    if (code < 0 || code > ERRNO_MAX)
        return err_set(e, -EINVAL, "%s is out of range", errno_key);
    *out = SCMP_ACT_ERRNO((uint32_t)code);
    return 0;
}

/* docker's conditions: of capabilities alone; of an architecture or kernel: taken as fulfilled, as
 * there is one architecture and kernels are newer. */
static bool wanted(const struct profile *p, const json_t *rule)
{
    const json_t *name;
    size_t i;

    json_array_foreach(json_object_get(json_object_get(rule, "includes"), "caps"), i, name)
    {
        int n = json_is_string(name) ? defaults_cap_number(json_string_value(name)) : -1;

        if (n < 0 || !(p->caps & DEFAULTS_CAP(n)))
            return false;
    }
    json_array_foreach(json_object_get(json_object_get(rule, "excludes"), "caps"), i, name)
    {
        int n = json_is_string(name) ? defaults_cap_number(json_string_value(name)) : -1;

        if (n >= 0 && (p->caps & DEFAULTS_CAP(n)))
            return false;
    }
    const json_t *arch;
    bool ours = true;
    json_array_foreach(json_object_get(json_object_get(rule, "includes"), "arches"), i, arch)
    {
        const char *s = json_string_value(arch);

        ours = (i > 0 && ours) || (s && (strcmp(s, "amd64") == 0 || strcmp(s, "x86_64") == 0));
    }
    return ours;
}

static int get_args(const json_t *rule, struct scmp_arg_cmp args[ARGS_MAX], unsigned *n,
                    struct err *e)
{
    const json_t *a;
    size_t i;

    *n = 0;
    json_array_foreach(json_object_get(rule, "args"), i, a)
    {
        const char *op = json_string_value(json_object_get(a, "op"));
        json_int_t index = json_integer_value(json_object_get(a, "index"));
        bool known = false;

        if (*n == ARGS_MAX || index < 0 || index >= ARGS_MAX)
            return err_set(e, -EINVAL, "args: index out of range");
        struct scmp_arg_cmp *out = &args[(*n)++];
        *out = (struct scmp_arg_cmp){
            .arg = (unsigned)index,
            .datum_a = (scmp_datum_t)json_integer_value(json_object_get(a, "value")),
            .datum_b = (scmp_datum_t)json_integer_value(json_object_get(a, "valueTwo"))};
        for (unsigned k = 0; op && k < ARRAY_LEN(op_of); k++)
            if (strcmp(op, op_of[k].name) == 0) {
                out->op = op_of[k].op;
                known = true;
            }
        if (!known)
            return err_set(e, -EINVAL, "args: op '%s' is not known", op ? op : "");
    }
    return 0;
}

/* Several comparisons of one argument mean "or" to runtimes, and libseccomp takes one each: then a
 * rule for each of them. */
static int add_rule(struct profile *p, int nr, uint32_t action, const struct scmp_arg_cmp *args,
                    unsigned n)
{
    unsigned seen = 0;
    bool again = false;
    int r = 0;

    for (unsigned i = 0; i < n; i++) {
        again = again || (seen & (1U << args[i].arg));
        seen |= 1U << args[i].arg;
    }
    if (!again)
        return seccomp_rule_add_array(p->ctx, action, nr, n, args);
    for (unsigned i = 0; r == 0 && i < n; i++)
        r = seccomp_rule_add_array(p->ctx, action, nr, 1, &args[i]);
    return r;
}

static int take_rule(struct profile *p, const json_t *rule, struct err *e)
{
    struct scmp_arg_cmp args[ARGS_MAX];
    const json_t *name;
    uint32_t action;
    unsigned n = 0;
    size_t i;

    if (!wanted(p, rule))
        return 0;
    int r = get_action(rule, "action", "errnoRet", &action, e);
    if (r == 0)
        r = get_args(rule, args, &n, e);
    if (r < 0 || action == p->default_action)
        return r;
    json_array_foreach(json_object_get(rule, "names"), i, name)
    {
        const char *s = json_string_value(name);
        int nr = s ? seccomp_syscall_resolve_name(s) : __NR_SCMP_ERROR;

        if (nr == __NR_SCMP_ERROR) /* of another kernel or architecture */
            continue;
        if (++p->rules > RULES_MAX)
            return err_set(e, -E2BIG, "more than %d rules", RULES_MAX);
        r = add_rule(p, nr, action, args, n);
        if (r < 0 && r != -EEXIST && r != -EDOM)
            return err_errno(e, r, "rule for %s", s);
    }
    return 0;
}

/* "architectures", or docker's "archMap": that of this host brings 32-bit programs along. */
static int add_arches(struct profile *p, const json_t *profile)
{
    const json_t *list = json_object_get(profile, "architectures"), *a;
    bool x86 = json_object_get(profile, "archMap") != NULL;
    size_t i;

    json_array_foreach(list, i, a)
    {
        const char *s = json_string_value(a);

        x86 = x86 || (s && strcmp(s, "SCMP_ARCH_X86") == 0);
    }
    return x86 ? seccomp_arch_add(p->ctx, SCMP_ARCH_X86) : 0;
}

static int take_profile(struct profile *p, const json_t *profile, struct filter *out, struct err *e)
{
    const json_t *rule;
    struct sock_filter *v;
    size_t i, n;
    int r = add_arches(p, profile);

    if (r == 0)
        r = seccomp_attr_set(p->ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (r < 0)
        return err_errno(e, r, "seccomp filter");
    json_array_foreach(json_object_get(profile, "syscalls"), i, rule)
    {
        r = take_rule(p, rule, e);
        if (r < 0)
            return err_wrap(e, r, "syscalls[%zu]", i);
    }
    r = filterrules_export(p->ctx, &v, &n, e);
    if (r == 0)
        *out = (struct filter){.f = {.insns = v, .n = n}, .owned = v};
    return r;
}

int filter_profile(const json_t *profile, uint64_t caps, struct filter *out, struct err *e)
{
    struct profile p = {.caps = caps};

    if (!json_is_object(profile))
        return err_set(e, -EINVAL, "a seccomp profile is a JSON object");
    int r = get_action(profile, "defaultAction", "defaultErrnoRet", &p.default_action, e);
    if (r < 0)
        return r;
    p.ctx = seccomp_init(p.default_action);
    if (!p.ctx)
        return err_errno(e, -ENOMEM, "seccomp filter");
    r = take_profile(&p, profile, out, e);
    seccomp_release(p.ctx);
    return r;
}
