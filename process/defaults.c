#include "process/defaults.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>

#include "base/cleanup.h"

static const char *const cap_name[] = {
    "CHOWN",
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
};

int defaults_cap_number(const char *name)
{
    if (strncasecmp(name, "CAP_", 4) == 0)
        name += 4;
    for (unsigned i = 0; i < ARRAY_LEN(cap_name); i++)
        if (strcasecmp(name, cap_name[i]) == 0)
            return (int)i;
    return -EINVAL;
}

struct process_caps defaults_caps(uint64_t set)
{
    return (struct process_caps){.bounding = set, .effective = set, .permitted = set};
}

const char *const defaults_masked_paths[] = {
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    NULL,
};

const char *const defaults_readonly_paths[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL,
};

const struct process_device defaults_devices[] = {
    {.path = "/dev/null", .type = 'c', .major = 1, .minor = 3},
    {.path = "/dev/zero", .type = 'c', .major = 1, .minor = 5},
    {.path = "/dev/full", .type = 'c', .major = 1, .minor = 7},
    {.path = "/dev/random", .type = 'c', .major = 1, .minor = 8},
    {.path = "/dev/urandom", .type = 'c', .major = 1, .minor = 9},
    {.path = "/dev/tty", .type = 'c', .major = 5, .minor = 0},
};
const size_t defaults_n_devices = ARRAY_LEN(defaults_devices);

/* Linux Documentation/admin-guide/devices.txt. A node may be made, but not used. */
const struct cgroup_device defaults_device_rules[] = {
    {true, 'c', -1, -1, "m"},    {true, 'b', -1, -1, "m"}, /* any node may be made */
    {true, 'c', 1, 3, "rwm"},    {true, 'c', 1, 5, "rwm"}, /* null, zero */
    {true, 'c', 1, 7, "rwm"},    {true, 'c', 1, 8, "rwm"}, /* full, random */
    {true, 'c', 1, 9, "rwm"},    {true, 'c', 5, 0, "rwm"}, /* urandom, tty */
    {true, 'c', 5, 1, "rwm"},    {true, 'c', 5, 2, "rwm"}, /* console, ptmx */
    {true, 'c', 136, -1, "rwm"},                           /* ptys */
};
const size_t defaults_n_device_rules = ARRAY_LEN(defaults_device_rules);

const struct process_mount defaults_mounts[] = {
    {.target = "/proc",
     .type = "proc",
     .source = "proc",
     .flags = MS_NOSUID | MS_NOEXEC | MS_NODEV},
    {.target = "/dev",
     .type = "tmpfs",
     .source = "tmpfs",
     .flags = MS_NOSUID | MS_STRICTATIME,
     .data = "mode=755,size=65536k"},
    {.target = "/dev/pts",
     .type = "devpts",
     .source = "devpts",
     .flags = MS_NOSUID | MS_NOEXEC,
     .data = DEFAULTS_DEVPTS_PLAIN ",gid=5"},
    {.target = "/dev/mqueue",
     .type = "mqueue",
     .source = "mqueue",
     .flags = MS_NOSUID | MS_NOEXEC | MS_NODEV,
     .optional = true},
    {.target = "/dev/shm",
     .type = "tmpfs",
     .source = "shm",
     .flags = MS_NOSUID | MS_NOEXEC | MS_NODEV,
     .data = "mode=1777,size=65536k"},
    {.target = "/sys",
     .type = "sysfs",
     .source = "sysfs",
     .flags = MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY},
    {.target = "/sys/fs/cgroup",
     .type = "cgroup",
     .source = "cgroup",
     .flags = MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY,
     .optional = true},
};
const size_t defaults_n_mounts = ARRAY_LEN(defaults_mounts);

_Static_assert(ARRAY_LEN(defaults_mounts) == DEFAULTS_CGROUP + 1, "indexes");
