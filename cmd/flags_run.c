/* Flags that say what runs, and how the machine does that carries it. */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/flags.h"
#include "cmd/verb.h"
#include "container/spec.h"
#include "vm/vm.h"

static int set_hostname(void *text, const char *value, struct err *e)
{
    size_t n = strlen(value);

    /* HOST_NAME_MAX of the kernel is 64; a label of DNS is one shorter (RFC 1035, 2.3.4). */
    if (n == 0 || n > 63 || strpbrk(value, " \t\n/"))
        return err_set(e, -EINVAL, "'%s' is not a host's name of at most 63 bytes", value);
    return flags_copy(text, value, e);
}

static int set_workdir(void *text, const char *value, struct err *e)
{
    if (value[0] != '/')
        return err_set(e, -EINVAL, "'%s' is not an absolute path", value);
    return flags_copy(text, value, e);
}

static int accept(void *target, const char *value, struct err *e)
{
    (void)target;
    (void)value;
    (void)e;
    return 0;
}

static int set_platform(void *target, const char *value, struct err *e)
{
    (void)target;
    if (strcmp(value, "linux/amd64") != 0 && strcmp(value, "linux/x86_64") != 0)
        return err_set(e, -EINVAL, "'%s': kiln runs linux/amd64 only", value);
    return 0;
}

#define S struct spec
static const struct flag process_flags[] = {
    {"interactive", 'i', NULL, "pass standard input on", FLAG_BOOL(S, open_stdin)},
    {"tty", 't', NULL, "give the command a terminal", FLAG_BOOL(S, tty)},
    {"env", 'e', "K[=V]", "set a variable; without =V as it is here", FLAG_AT(S, env, flags_env),
     .values = "@env"},
    {"env-file", 0, "FILE", "variables, one a line", FLAG_AT(S, env, flags_env_file),
     .values = "@file"},
    {"workdir", 'w', "DIR", "working directory", FLAG_AT(S, cwd, set_workdir)},
    {"user", 'u', "USER[:GROUP]", "names or numbers", FLAG_COPY(S, user)},
    {"group-add", 0, "GROUP", "a further group of the command", FLAG_WORDS(S, groups)},
    {"hostname", 'h', "NAME", "its host name", FLAG_AT(S, hostname, set_hostname)},
    {"domainname", 0, "NAME", "its NIS domain name", FLAG_COPY(S, domainname)},
    {"label", 'l', "K[=V]", "a label", FLAG_AT(S, labels, flags_label)},
    {"label-file", 0, "FILE", "labels, one a line", FLAG_AT(S, labels, flags_label_file),
     .values = "@file"},
    {"init", 0, NULL, "accepted: what the command leaves behind is always reaped",
     FLAG_SET(accept)},
    {"platform", 0, "NAME", "accepted: linux/amd64", FLAG_SET(set_platform),
     .values = "linux/amd64"},
    {0},
};
const struct flag_group flags_process = {"The command", process_flags};

static int set_isolation(void *isolation, const char *value, struct err *e)
{
    bool process = strcmp(value, "process") == 0;

    if (!process && strcmp(value, "vm") != 0)
        return err_set(e, -EINVAL, "'%s' is neither vm nor process", value);
    *(enum spec_isolation *)isolation = process ? SPEC_PROCESS : SPEC_VM;
    return 0;
}

static int set_engine(void *text, const char *value, struct err *e)
{
    static const char *const known[] = {"auto", "kvm", "bt", "interp"};

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(value, known[i]) == 0)
            return flags_copy(text, value, e);
    return err_set(e, -EINVAL, "there is no engine '%s': auto, kvm, bt, interp", value);
}

static const struct flag machine_flags[] = {
    {"isolation", 0, "CLASS",
     "vm: a machine with a kernel of its own (default); process: namespaces and cgroups",
     FLAG_AT(S, isolation, set_isolation), .values = "vm process"},
    {"engine", 0, "NAME", "auto, kvm, bt or interp (default auto)", FLAG_AT(S, engine, set_engine),
     .values = "auto kvm bt interp"},
    {"kernel", 0, "PATH", "guest kernel: a file, or a folder with its modules",
     FLAG_COPY(S, kernel), .values = "@file"},
    {"code-cache", 0, "SIZE", "bt: translated code that is kept, 1m to 1g (default 20m)",
     FLAG_AT(S, code_cache_bytes, flags_code_cache)},
    {"no-template", 0, NULL, "boot, even where a machine that has booted is kept",
     FLAG_BOOL(S, no_template)},
    {"no-jail", 0, NULL, "let the machine's process keep its powers over this host",
     FLAG_BOOL(S, no_jail)},
    {"perf-map", 0, NULL, "bt: write /tmp/perf-PID.map, the guest's code for perf(1)",
     FLAG_BOOL(S, perf_map)},
    {0},
};
const struct flag_group flags_machine = {"Isolation", machine_flags};
