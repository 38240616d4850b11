/* The last program before the command of a container: static, in a sealed memfd, so that the
 * container meets it and not kiln where the kernel speaks of the file that called execve(2):
 * /proc/self/exe, also as the interpreter of a script (CVE-2019-5736).
 *
 *   argv: name, descriptor for a struct err, command and its arguments */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "os/launch.h"

enum { NOT_FOUND = 127, CANNOT_RUN = 126 };

int main(int argc, char **argv)
{
    struct err e = {0};

    if (argc < 3)
        return CANNOT_RUN;
    int report = (int)strtol(argv[1], NULL, 10);
    (void)fcntl(report, F_SETFD, FD_CLOEXEC);
    int r = launch_exec(argv + 2, environ, &e);
    (void)!write(report, &e, sizeof(e));
    return r == -ENOENT ? NOT_FOUND : CANNOT_RUN;
}
