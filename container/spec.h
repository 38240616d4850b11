/* container/spec.h - what a container is to be: everything that `kiln create` and `kiln run` were
 * told, with the image's own settings already merged in. Written once as `config.json` into its
 * record, read by whoever starts it; one description for both isolation classes.
 *
 * Plain data, no behaviour. Strings are owned and may be NULL (= not said); lists are struct strv.
 * A number that was not said is SPEC_UNSET, or 0 where the field says so. */
#ifndef CONTAINER_SPEC_H
#define CONTAINER_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/strv.h"

enum {
    SPEC_MOUNTS_MAX = 128,
    SPEC_DEVICES_MAX = 64,
    SPEC_PORTS_MAX = 1024,
    SPEC_JSON_MAX = 4 * 1024 * 1024, /* bytes of config.json */
};
#define SPEC_UNSET INT64_MIN

enum spec_isolation { SPEC_VM, SPEC_PROCESS };

enum spec_mount_kind {
    SPEC_BIND,   /* source: a path of the host */
    SPEC_VOLUME, /* source: a volume's name; NULL = one without a name, removed with the container
                  */
    SPEC_TMPFS,  /* source: NULL */
};
struct spec_mount { /* -v, --mount, --tmpfs */
    enum spec_mount_kind kind;
    char *source, *target;
    char *options; /* of a tmpfs, as mount(8) has them: "size=64m,mode=1777"; or NULL */
    bool read_only;
    bool create;       /* bind: make the folder on the host if it is missing, as docker's -v does */
    char *propagation; /* bind: "rprivate", "rslave", ...; NULL = rprivate */
};

struct spec_device { /* --device */
    char *host;      /* device node, block device, or file with a disk's content */
    char *guest;     /* path inside; NULL = like host */
    char *access;    /* "rwm", "r"; NULL = rwm */
};

struct spec_port {                /* -p; ranges are split up */
    char *host_ip;                /* NULL = all, both families */
    uint16_t host_port, ctr_port; /* host_port 0 = any free one */
    bool udp;
};

enum spec_restart { SPEC_NO, SPEC_ON_FAILURE, SPEC_ALWAYS, SPEC_UNLESS_STOPPED };

struct spec_health { /* --health-*; cmd.n 0 = none; cmd as in OCI images: "CMD" words..., or
                      * "CMD-SHELL" line, or "NONE" */
    struct strv cmd;
    int64_t interval_ns, timeout_ns, start_period_ns, retries; /* SPEC_UNSET = docker's default */
};

struct spec {
    /* --- what runs */
    enum spec_isolation isolation;
    char *image;        /* as it was asked for */
    char *image_id;     /* config digest, "sha256:..." */
    char *image_digest; /* manifest digest */
    struct strv argv;   /* entrypoint and command, merged; at least one */
    struct strv env;    /* "K=V", merged, each name once */
    struct strv labels; /* "K=V", merged */
    char *cwd, *user;   /* NULL = "/", root */
    struct strv groups; /* --group-add */
    char *hostname;     /* NULL = first 12 digits of the id */
    char *domainname;
    bool tty, open_stdin;
    bool read_only;         /* root file system */
    char *stop_signal;      /* "SIGTERM", "15"; NULL = SIGTERM */
    int64_t stop_timeout_s; /* SPEC_UNSET = 10 */

    /* --- the machine (SPEC_VM) */
    char *engine;              /* NULL = auto */
    char *kernel;              /* --kernel */
    uint64_t code_cache_bytes; /* 0 = default */
    bool no_template, no_jail, perf_map, count_insns;

    /* --- limits. VM: memory is its RAM; cpus rounded up is its number of vCPUs, and the quota
     * holds beyond that if it is no whole number. Process: cgroup limits. */
    int64_t memory;             /* bytes; SPEC_UNSET: VM 512 MiB, process none */
    int64_t memory_swap;        /* bytes of both; -1 unlimited */
    int64_t memory_reservation; /* bytes */
    int64_t nano_cpus;          /* 1.5 CPUs = 1500000000; SPEC_UNSET: VM 1, process no limit */
    int64_t cpu_shares, cpu_period_us, cpu_quota_us;
    char *cpuset_cpus, *cpuset_mems;
    int64_t pids_limit; /* -1 unlimited; process class: of the container; VM: inside the machine */
    int64_t blkio_weight; /* 10 to 1000 */
    struct strv ulimits;  /* "nofile=1024:2048" */
    int64_t shm_size;     /* bytes of /dev/shm; SPEC_UNSET = 64 MiB */
    int64_t oom_score_adj;
    struct strv sysctls; /* "net.ipv4.ip_forward=1" */

    /* --- powers */
    struct strv cap_add, cap_drop; /* names with or without CAP_, or ALL */
    bool privileged;
    struct strv security_opt; /* "seccomp=FILE|unconfined", "no-new-privileges", "mask=...", ... */
    char *userns, *pid_mode, *ipc_mode, *uts_mode, *cgroupns; /* "host", "container:NAME", ... */
    char *cgroup_parent;

    /* --- storage */
    struct spec_mount *mounts; /* owned array */
    size_t n_mounts;
    struct spec_device *devices; /* owned array */
    size_t n_devices;
    int64_t storage_size; /* bytes of the writable layer; SPEC_UNSET = no limit but the host's */
    bool storage_memory;  /* the writable layer is in memory, gone when the container stops */

    /* --- network */
    char *network; /* "none", "user", "bridge", NAME of a network, "host", "container:NAME",
                    * "tap:DEV", "ns:PATH", "vhost-user:SOCKET"; NULL = the default */
    struct strv network_alias;
    char *ip, *ip6, *mac;
    struct spec_port *ports; /* owned array */
    size_t n_ports;
    bool publish_all;                                    /* -P */
    struct strv exposed;                                 /* "80/tcp", of the image and --expose */
    struct strv dns, dns_search, dns_options, add_hosts; /* add_hosts: "NAME:IP" */
    int64_t net_rate, disk_rate;                         /* bytes/s; SPEC_UNSET = none */

    /* --- life */
    enum spec_restart restart;
    int64_t restart_max; /* of SPEC_ON_FAILURE; 0 = no limit */
    bool auto_remove;    /* --rm */
    int64_t timeout_ms;  /* --timeout; SPEC_UNSET = none */
    struct spec_health health;
    char *log_driver;     /* NULL = "file"; "none" */
    int64_t log_max_size; /* bytes of one file; SPEC_UNSET = no limit */
    int64_t log_max_file; /* files kept in all; SPEC_UNSET = 1 */
    char *detach_keys;    /* NULL = ctrl-p,ctrl-q */
};

/* All unset. */
void spec_init(struct spec *s);
void spec_done(struct spec *s);
/* To and from JSON. json: owned by the caller, NULL = no memory. Unknown members are skipped,
 * absent ones are unset: an older and a newer kiln read each other's. Errors: -EBADMSG with the
 * member's name; *s is then done. */
json_t *spec_to_json(const struct spec *s);
int spec_from_json(const json_t *j, struct spec *s, struct err *e) MUST_CHECK;

#endif
