#include "os/launch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int launch_mkdirs(const char *path, mode_t mode)
{
    char p[4096];
    size_t n = strlen(path);

    if (n == 0 || n >= sizeof(p))
        return -ENAMETOOLONG;
    memcpy(p, path, n + 1);
    for (char *s = p + 1;; s++) {
        if (*s != '/' && *s != '\0')
            continue;
        char c = *s;

        *s = '\0';
        if (mkdir(p, mode) < 0 && errno != EEXIST)
            return -errno;
        *s = c;
        if (c == '\0')
            return 0;
    }
}

static const char *env_get(char *const *env, const char *name)
{
    size_t n = strlen(name);

    const char *found = NULL;

    for (; env && *env; env++) /* the last one given counts */
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
            found = *env + n + 1;
    return found;
}

static int env_default(struct strv *env, const char *name, const char *value)
{
    char *s;

    if (env_get(env->v, name))
        return 0;
    if (asprintf(&s, "%s=%s", name, value) < 0)
        return -ENOMEM;
    return strv_take(env, s);
}

int launch_env(struct strv *env, const struct user *u, bool tty)
{
    char host[65] = "";
    int r = env_default(env, "PATH", DEFAULT_PATH);

    (void)gethostname(host, sizeof(host) - 1);
    if (r == 0)
        r = env_default(env, "HOSTNAME", host);
    if (r == 0 && tty)
        r = env_default(env, "TERM", "xterm");
    if (r == 0)
        r = env_default(env, "HOME", u->home[0] ? u->home : "/");
    return r;
}

int launch_cwd(const char *cwd, const struct user *u, struct err *e)
{
    struct stat st;

    if (!cwd || !cwd[0])
        cwd = "/";
    if (cwd[0] != '/')
        return err_set(e, -EINVAL, "the working directory '%s' is not an absolute path", cwd);
    if (stat(cwd, &st) < 0) {
        int r = launch_mkdirs(cwd, 0755);

        if (r < 0)
            return err_errno(e, r == -ENOENT ? -EINVAL : r, "working directory '%s'", cwd);
        (void)!chown(cwd, u->uid, u->gid);
    }
    if (chdir(cwd) < 0) {
        int r = errno == ENOENT ? -EINVAL : -errno; /* -ENOENT is the command's */
        return err_errno(e, r, "working directory '%s'", cwd);
    }
    return 0;
}

/* execve(2) says EACCES for a directory, too; both are "cannot be run". */
static int exec_path(const char *path, char *const *argv, char *const *env)
{
    struct stat st;

    execve(path, argv, env);
    if (errno == ENOENT && stat(path, &st) == 0)
        return -ELIBBAD; /* it is there: its interpreter or loader is not */
    return -errno;
}

/* As execvp(3) and the shells: go on over what is not there, remember what may not be run. */
int launch_exec(char *const *argv, char *const *env, struct err *e)
{
    const char *name = argv[0], *path = env_get(env, "PATH");
    int found = -ENOENT;

    if (!name[0])
        return err_set(e, -ENOENT, "the command is an empty string");
    if (strchr(name, '/')) {
        found = exec_path(name, argv, env);
    } else {
        CLEANUP(mem) char *dirs = strdup(path ? path : "");
        char *p = dirs, *dir;

        while (dirs && (dir = strsep(&p, ":"))) {
            char full[PATH_MAX];
            int n = snprintf(full, sizeof(full), "%s/%s", dir[0] ? dir : ".", name);

            if (n < 0 || (size_t)n >= sizeof(full))
                continue;
            int rc = exec_path(full, argv, env);
            if (rc == -ENOENT || rc == -ENOTDIR)
                continue;
            found = rc;
            if (rc != -EACCES)
                break;
        }
    }
    if (found == -ENOENT || found == -ENOTDIR)
        return err_set(e, -ENOENT, "%s: %s", name,
                       strchr(name, '/') ? "no such file"
                                         : "command not found in the image's PATH");
    if (found == -ELIBBAD)
        return err_set(e, -ENOENT, "%s: its interpreter or program loader is not in the image",
                       name);
    if (found == -ENOEXEC)
        return err_set(e, found, "%s: not a program for this machine (exec format error)", name);
    return err_errno(e, found, "%s", name);
}

void launch_own_streams(uid_t uid)
{
    struct stat st;

    for (int fd = 0; fd < 3; fd++)
        if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(fd)))
            (void)!fchown(fd, uid, (gid_t)-1);
}
