#include "cmd/runflags.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/verb.h"
#include "mem/mem.h"
#include "vm/vm.h"

enum {
    OPT_RM = 256,
    OPT_NAME,
    OPT_ENTRYPOINT,
    OPT_CPUS,
    OPT_ENGINE,
    OPT_CODE_CACHE,
    OPT_STATS,
    OPT_PERF_MAP,
    OPT_KERNEL,
    OPT_READ_ONLY,
    OPT_TIMEOUT,
    OPT_ENV_FILE,
    OPT_TRACE_START,
    OPT_NO_TEMPLATE,
};

enum { LIST_MAX = 65536, LINE_MAX_LEN = 128 * 1024, RAM_DEFAULT = 512 << 20 };

int list_add(struct list *l, const char *text, struct err *e)
{
    char **v = l->n < LIST_MAX ? reallocarray(l->v, l->n + 2, sizeof(*v)) : NULL;

    if (!v)
        return err_set(e, -E2BIG, "too many words or variables");
    l->v = v;
    l->v[l->n + 1] = NULL;
    l->v[l->n] = strdup(text);
    return l->v[l->n] ? (l->n++, 0) : err_errno(e, -ENOMEM, "%s", text);
}

void list_done(struct list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct list){0};
}

static int add_env(struct run_flags *f, const char *text, struct err *e)
{
    CLEANUP(mem) char *full = NULL;
    const char *value;

    if (text[0] == '\0' || text[0] == '=')
        return err_set(e, -EINVAL, "-e '%s': a variable needs a name", text);
    if (strchr(text, '='))
        return list_add(&f->env, text, e);
    value = getenv(text);
    if (!value)
        return 0; /* as docker: not here, so not there */
    if (asprintf(&full, "%s=%s", text, value) < 0)
        return err_errno(e, -ENOMEM, "-e %s", text);
    return list_add(&f->env, full, e);
}

static int add_env_file(struct run_flags *f, const char *path, struct err *e)
{
    CLEANUP(file) FILE *in = fopen(path, "re");
    CLEANUP(mem) char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    unsigned number = 0;

    if (!in)
        return err_errno(e, -errno, "--env-file %s", path);
    while ((n = getline(&line, &cap, in)) >= 0) {
        number++;
        if (n > LINE_MAX_LEN || strlen(line) != (size_t)n)
            return err_set(e, -EINVAL, "--env-file %s: line %u is too long or holds a NUL", path,
                           number);
        line[strcspn(line, "\r\n")] = '\0';
        char *text = line + strspn(line, " \t");
        if (!text[0] || text[0] == '#')
            continue;
        int r = add_env(f, text, e);
        if (r < 0)
            return err_wrap(e, r, "--env-file %s: line %u", path, number);
    }
    return ferror(in) ? err_errno(e, -EIO, "--env-file %s", path) : 0;
}

static int set_memory(struct run_flags *f, const char *text, struct err *e)
{
    int r = parse_size(text, &f->ram_bytes, e);

    if (r < 0)
        return err_wrap(e, r, "--memory");
    if (f->ram_bytes < (uint64_t)VM_RAM_MIN_MIB << 20 || f->ram_bytes > MEM_SIZE_MAX)
        return err_set(e, -EINVAL, "--memory '%s' is out of range: %d MiB to %llu MiB", text,
                       VM_RAM_MIN_MIB, (unsigned long long)(MEM_SIZE_MAX >> 20));
    return 0;
}

static int set_timeout(struct run_flags *f, const char *text, struct err *e)
{
    uint64_t ns;
    int r = parse_duration(text, &ns, e);

    if (r < 0)
        return err_wrap(e, r, "--timeout");
    uint64_t ms = ns / 1000000;
    if (ms == 0 || ms > INT_MAX)
        return err_set(e, -EINVAL, "--timeout '%s' is out of range: 1 ms to %d s", text,
                       INT_MAX / 1000);
    f->timeout_ms = (int)ms;
    return 0;
}

static int add_volume(struct run_flags *f, const char *text, struct err *e)
{
    if (f->n_volumes == VOLUME_MAX)
        return err_set(e, -EINVAL, "-v: at most %d folders", VOLUME_MAX);
    int r = volume_parse(text, &f->volume[f->n_volumes], e);
    if (r == 0)
        f->n_volumes++;
    return r;
}

static int one(struct run_flags *f, int c, const char *value, struct err *e)
{
    uint64_t n;
    int r = 0;

    switch (c) {
    case 'i':
        f->interactive = true;
        break;
    case 't':
        f->tty = true;
        break;
    case 'q':
        f->quiet = true;
        break;
    case OPT_READ_ONLY:
        f->read_only = true;
        break;
    case OPT_RM: /* nothing of a container outlives it */
        break;
    case OPT_PERF_MAP:
        f->perf_map = true;
        break;
    case OPT_STATS:
        f->stats = true;
        break;
    case OPT_NAME:
        f->name = value;
        break;
    case 'h':
        f->hostname = value;
        break;
    case 'w':
        f->workdir = value;
        break;
    case 'u':
        f->user = value;
        break;
    case OPT_ENTRYPOINT:
        f->entrypoint = value;
        f->entrypoint_given = true;
        break;
    case OPT_ENGINE:
        f->engine = value;
        break;
    case OPT_CODE_CACHE:
        r = parse_code_cache(value, &f->code_cache_bytes, e);
        break;
    case OPT_KERNEL:
        f->kernel = value;
        break;
    case OPT_NO_TEMPLATE:
        f->no_template = true;
        break;
    case OPT_TRACE_START:
        f->trace_start = value;
        break;
    case 'e':
        r = add_env(f, value, e);
        break;
    case OPT_ENV_FILE:
        r = add_env_file(f, value, e);
        break;
    case 'm':
        r = set_memory(f, value, e);
        break;
    case OPT_CPUS:
        r = parse_uint("--cpus", value, 1, VM_CPUS_MAX, &n, e);
        if (r == 0)
            f->cpus = (unsigned)n;
        break;
    case OPT_TIMEOUT:
        r = set_timeout(f, value, e);
        break;
    default:
        r = add_volume(f, value, e);
    }
    return r;
}

int runflags_parse(int argc, char **argv, struct run_flags *f, struct err *e)
{
    static const struct option opts[] = {
        {"interactive", 0, NULL, 'i'},
        {"tty", 0, NULL, 't'},
        {"rm", 0, NULL, OPT_RM},
        {"name", 1, NULL, OPT_NAME},
        {"env", 1, NULL, 'e'},
        {"env-file", 1, NULL, OPT_ENV_FILE},
        {"workdir", 1, NULL, 'w'},
        {"user", 1, NULL, 'u'},
        {"entrypoint", 1, NULL, OPT_ENTRYPOINT},
        {"hostname", 1, NULL, 'h'},
        {"memory", 1, NULL, 'm'},
        {"cpus", 1, NULL, OPT_CPUS},
        {"engine", 1, NULL, OPT_ENGINE},
        {"code-cache", 1, NULL, OPT_CODE_CACHE},
        {"kernel", 1, NULL, OPT_KERNEL},
        {"read-only", 0, NULL, OPT_READ_ONLY},
        {"volume", 1, NULL, 'v'},
        {"timeout", 1, NULL, OPT_TIMEOUT},
        {"perf-map", 0, NULL, OPT_PERF_MAP},
        {"stats", 0, NULL, OPT_STATS},
        {"no-template", 0, NULL, OPT_NO_TEMPLATE},
        {"trace-start", 1, NULL, OPT_TRACE_START},
        {"quiet", 0, NULL, 'q'},
        {"help", 0, NULL, 'H'},
        {NULL, 0, NULL, 0},
    };
    int c;

    *f =
        (struct run_flags){.ram_bytes = RAM_DEFAULT, .cpus = 1, .timeout_ms = -1, .engine = "auto"};
    optind = 0; /* glibc: begin anew, also when getopt was used before */
    opterr = 0;
    while ((c = getopt_long(argc, argv, "+:ite:w:u:h:m:v:q", opts, NULL)) != -1) {
        const char *word = optind > 0 ? argv[optind - 1] : "";

        if (c == 'H') {
            f->help = true;
            return 0;
        }
        if (c == ':')
            return err_set(e, -EINVAL, "flag %s needs a value", word);
        if (c == '?' && optopt > 0 && optopt < 256 && strncmp(word, "--", 2) != 0)
            return err_set(e, -EINVAL, "unknown flag -%c", optopt);
        if (c == '?')
            return err_set(e, -EINVAL, "unknown or ambiguous flag, or a value it does not take: %s",
                           word);
        int r = one(f, c, optarg, e);
        if (r < 0)
            return r;
    }
    if (optind >= argc)
        return err_set(e, -EINVAL, "which image? usage: kiln run [flags] IMAGE [COMMAND...]");
    f->image = argv[optind];
    f->cmd = argv + optind + 1;
    return 0;
}

void runflags_done(struct run_flags *f)
{
    list_done(&f->env);
    for (size_t i = 0; i < f->n_volumes; i++)
        volume_done(&f->volume[i]);
    f->n_volumes = 0;
}
