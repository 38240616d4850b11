#include "os/jsonfile.h"

#include <errno.h>
#include <unistd.h>

static size_t take(void *buf, size_t len, void *fd)
{
    ssize_t n;

    do
        n = read(*(int *)fd, buf, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? (size_t)-1 : (size_t)n;
}

json_t *jsonfile_load(int fd, size_t flags, json_error_t *why)
{
    return json_load_callback(take, &fd, flags, why);
}
