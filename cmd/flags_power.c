/* Flags that say which powers a container has and which namespaces are its own. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "cmd/flags.h"
#include "cmd/suggest.h"
#include "container/spec.h"

/* capabilities(7), in the order of their numbers. */
const char *const flags_capabilities[] = {"CHOWN",
                                          "DAC_OVERRIDE",
                                          "DAC_READ_SEARCH",
                                          "FOWNER",
                                          "FSETID",
                                          "KILL",
                                          "SETGID",
                                          "SETUID",
                                          "SETPCAP",
                                          "LINUX_IMMUTABLE",
                                          "NET_BIND_SERVICE",
                                          "NET_BROADCAST",
                                          "NET_ADMIN",
                                          "NET_RAW",
                                          "IPC_LOCK",
                                          "IPC_OWNER",
                                          "SYS_MODULE",
                                          "SYS_RAWIO",
                                          "SYS_CHROOT",
                                          "SYS_PTRACE",
                                          "SYS_PACCT",
                                          "SYS_ADMIN",
                                          "SYS_BOOT",
                                          "SYS_NICE",
                                          "SYS_RESOURCE",
                                          "SYS_TIME",
                                          "SYS_TTY_CONFIG",
                                          "MKNOD",
                                          "LEASE",
                                          "AUDIT_WRITE",
                                          "AUDIT_CONTROL",
                                          "SETFCAP",
                                          "MAC_OVERRIDE",
                                          "MAC_ADMIN",
                                          "SYSLOG",
                                          "WAKE_ALARM",
                                          "BLOCK_SUSPEND",
                                          "AUDIT_READ",
                                          "PERFMON",
                                          "BPF",
                                          "CHECKPOINT_RESTORE",
                                          NULL};

static int add_cap(void *strv, const char *value, struct err *e)
{
    const char *name = strncasecmp(value, "CAP_", 4) == 0 ? value + 4 : value;
    struct suggest s;
    bool known = strcasecmp(name, "ALL") == 0;

    suggest_init(&s, name, strlen(name));
    for (size_t i = 0; i < ARRAY_LEN(flags_capabilities) - 1; i++) {
        known |= strcasecmp(name, flags_capabilities[i]) == 0;
        suggest_try(&s, flags_capabilities[i]);
    }
    if (!known && suggest_best(&s))
        return err_set(e, -EINVAL, "there is no capability '%s'; did you mean %s?", value,
                       suggest_best(&s));
    if (!known)
        return err_set(e, -EINVAL, "there is no capability '%s'", value);
    int r = strv_add(strv, value);
    return r < 0 ? err_errno(e, r, "'%s'", value) : 0;
}

/* "host", "private" and the like; "container:NAME" where a namespace can be shared. */
static int mode(char **text, const char *value, const char *words, bool container, struct err *e)
{
    size_t n = strlen(value);

    for (const char *w = words; *w; w += strcspn(w, " "), w += strspn(w, " "))
        if (strcspn(w, " ") == n && strncmp(w, value, n) == 0)
            return flags_copy(text, value, e);
    if (container && strncmp(value, "container:", 10) == 0 && value[10])
        return flags_copy(text, value, e);
    return err_set(e, -EINVAL, "'%s' is none of: %s%s", value, words,
                   container ? " container:NAME" : "");
}

static int set_pid(void *text, const char *value, struct err *e)
{
    return mode(text, value, "private host", true, e);
}

static int set_ipc(void *text, const char *value, struct err *e)
{
    return mode(text, value, "private shareable none host", true, e);
}

static int set_uts(void *text, const char *value, struct err *e)
{
    return mode(text, value, "private host", false, e);
}

static int set_userns(void *text, const char *value, struct err *e)
{
    return mode(text, value, "private host", false, e);
}

static int set_cgroupns(void *text, const char *value, struct err *e)
{
    return mode(text, value, "private host", false, e);
}

#define S struct spec
static const struct flag power_flags[] = {
    {"cap-add", 0, "NAME", "a capability more, or ALL", FLAG_AT(S, cap_add, add_cap),
     .values = "@capability"},
    {"cap-drop", 0, "NAME", "a capability less, or ALL", FLAG_AT(S, cap_drop, add_cap),
     .values = "@capability"},
    {"privileged", 0, NULL, "all capabilities and devices, no filter", FLAG_BOOL(S, privileged)},
    {"security-opt", 0, "WORD[=VALUE]",
     "no-new-privileges, seccomp=FILE, seccomp=unconfined, mask=PATH, unmask=PATH",
     FLAG_WORDS(S, security_opt), .values = "no-new-privileges seccomp=unconfined"},
    {"userns", 0, "MODE", "user namespace: private or host", FLAG_AT(S, userns, set_userns),
     .values = "private host"},
    {"pid", 0, "MODE", "process ids: private, host or container:NAME",
     FLAG_AT(S, pid_mode, set_pid), .values = "private host container:"},
    {"ipc", 0, "MODE", "System V IPC: private, shareable, none, host or container:NAME",
     FLAG_AT(S, ipc_mode, set_ipc), .values = "private shareable none host container:"},
    {"uts", 0, "MODE", "host name: private or host", FLAG_AT(S, uts_mode, set_uts),
     .values = "private host"},
    {"cgroupns", 0, "MODE", "view of cgroups: private or host", FLAG_AT(S, cgroupns, set_cgroupns),
     .values = "private host"},
    {"cgroup-parent", 0, "PATH", "cgroup in which the container's is made",
     FLAG_COPY(S, cgroup_parent)},
    {0},
};
const struct flag_group flags_power = {"Powers", power_flags};
