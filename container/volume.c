#include "container/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

extern char **environ;

void volume_done(struct volume *v)
{
    free(v->host);
    free(v->guest);
    *v = (struct volume){0};
}

static int split(const char *text, struct volume *v, bool *ro, struct err *e)
{
    const char *colon = strchr(text, ':');
    const char *guest = colon ? colon + 1 : NULL;
    const char *opt = guest ? strchr(guest, ':') : NULL;

    if (!colon || colon == text || guest[0] != '/' ||
        (opt && strcmp(opt, ":ro") != 0 && strcmp(opt, ":rw") != 0))
        return err_set(e, -EINVAL, "-v '%s': write HOST:GUEST:ro, GUEST an absolute path", text);
    *ro = opt && strcmp(opt, ":ro") == 0;
    v->host = strndup(text, (size_t)(colon - text));
    v->guest = opt ? strndup(guest, (size_t)(opt - guest)) : strdup(guest);
    return v->host && v->guest ? 0 : err_errno(e, -ENOMEM, "-v");
}

int volume_parse(const char *text, struct volume *v, struct err *e)
{
    struct stat st;
    bool ro = false;

    *v = (struct volume){0};
    int r = split(text, v, &ro, e);
    if (r == 0 && !ro)
        r = err_set(e, -ENOTSUP,
                    "-v '%s': a machine cannot share a writable folder yet; with :ro it gets a "
                    "copy made at its start",
                    text);
    if (r == 0 && stat(v->host, &st) < 0)
        r = err_errno(e, -errno, "-v: %s", v->host);
    else if (r == 0 && !S_ISDIR(st.st_mode))
        r = err_set(e, -ENOTDIR, "-v: %s is not a folder", v->host);
    if (r == 0 && (strcmp(v->guest, "/") == 0 || strlen(v->guest) >= VOLUME_PATH_MAX))
        r = err_set(e, -EINVAL, "-v: '%s' cannot be a mount point", v->guest);
    if (r < 0)
        volume_done(v);
    return r;
}

/* posix_spawn with streams at /dev/null and no signal blocked. */
static int start_tool(char *const *argv, pid_t *pid)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t none;

    sigemptyset(&none);
    posix_spawn_file_actions_init(&fa);
    for (int fd = 0; fd < 3; fd++)
        posix_spawn_file_actions_addopen(&fa, fd, "/dev/null", O_RDWR, 0);
    posix_spawnattr_init(&at);
    posix_spawnattr_setsigmask(&at, &none);
    posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK);
    int r = posix_spawnp(pid, argv[0], &fa, &at, argv, environ);
    posix_spawnattr_destroy(&at);
    posix_spawn_file_actions_destroy(&fa);
    return -r;
}

int volume_pack(const struct volume *v, const char *file, struct err *e)
{
    CLEANUP(mem) char *host = NULL;
    pid_t pid;
    int status;

    /* A name that begins with '-' would be an option. */
    if (asprintf(&host, "%s%s", v->host[0] == '/' ? "" : "./", v->host) < 0)
        return err_errno(e, -ENOMEM, "-v");
    char *argv[] = {(char *)"mksquashfs",
                    host,
                    (char *)file,
                    (char *)"-noappend",
                    (char *)"-quiet",
                    (char *)"-no-progress",
                    (char *)"-noI",
                    (char *)"-noD",
                    (char *)"-noF",
                    (char *)"-noX",
                    NULL};
    int r = start_tool(argv, &pid);
    if (r < 0)
        return err_errno(e, r, "-v %s: mksquashfs (package squashfs-tools)", v->host);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(e, -errno, "-v %s: mksquashfs", v->host);
    if (status != 0)
        return err_set(e, -EIO, "-v %s: mksquashfs failed: no space, or a file that cannot be read",
                       v->host);
    return 0;
}
