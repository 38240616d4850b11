/* What a storage daemon's process can still do. */
#include "block/qsdjail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "test/unit/t.h"

static const char image[] = "t_qsdjail.img", other[] = "t_qsdjail.other";

static bool opens(const char *path, int flags)
{
    CLEANUP(fd) int fd = open(path, flags | O_CLOEXEC, 0600);

    return fd >= 0;
}

/* As a letter of the alphabet each: what went otherwise than it should. */
static int inside(bool read_only, bool trusted)
{
    struct disktext d = {.how = DISK_QSD,
                         .where = DISK_AT_FILE,
                         .place = image,
                         .read_only = read_only,
                         .trusted = trusted};

    qsdjail_enter(&d, image);
    if (!opens(image, O_RDONLY))
        return 'a';
    if (opens(image, O_RDWR) == read_only)
        return 'b';
    if (opens(other, O_RDONLY) != trusted)
        return 'c';
    if (opens(other, O_WRONLY) || opens("t_qsdjail.new", O_WRONLY | O_CREAT))
        return 'd';
    if (opens("/etc/passwd", O_RDONLY) != trusted ||
        opens("/proc/self/status", O_RDONLY) != trusted)
        return 'e';
    if (!opens("/dev/null", O_RDWR) || !opens("/usr/bin/env", O_RDONLY))
        return 'f';
    if (unlink(other) == 0 || rename(image, other) == 0)
        return 'g';
    return 0;
}

static void only_the_image_is_written(void **state)
{
    (void)state;
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1)
        skip(); /* no landlock here */
    close(open(image, O_RDWR | O_CREAT, 0600));
    close(open(other, O_RDWR | O_CREAT, 0600));
    for (int how = 0; how < 4; how++) {
        pid_t pid = fork();
        int status;

        if (pid == 0)
            _exit(inside(how & 1, how & 2)); /* forked child */
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    unlink(image);
    unlink(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_image_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
