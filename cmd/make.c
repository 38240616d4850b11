#include "cmd/make.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/progress.h"
#include "cmd/verb.h"
#include "container/events.h"
#include "container/upper.h"
#include "container/vmconf.h"
#include "image/initrd.h"
#include "image/store.h"

/* The image, pulled if that is wanted. */
static int get_image(struct store *s, const char *ref, const struct run_options *o,
                     struct image *im, struct err *e)
{
    struct progress p;
    int r = o->pull == PULL_ALWAYS ? -ENOENT : store_find(s, ref, im, e);

    if (r != -ENOENT || o->pull == PULL_NEVER)
        return r;
    if (o->pull == PULL_MISSING && !o->quiet && isatty(2))
        say("image '%s' is not here: pulling it", ref);
    progress_init(&p, o->quiet || !isatty(2));
    r = store_pull(s, ref, progress_tell, &p, im, e);
    progress_done(&p);
    return r;
}

/* What of this host a machine can have. */
static int check_storage(const struct spec *s, struct err *e)
{
    int r = upper_check(s, e);

    for (size_t i = 0; r == 0 && s->isolation == SPEC_VM && i < s->n_devices; i++)
        r = vmconf_check_device(&s->devices[i], e);
    return r;
}

/* Said now, and not by a keeper later. */
static int check_kernel(const struct spec *s, const char *root, struct err *e)
{
    CLEANUP(mem) char *kernel = NULL;
    CLEANUP(mem) char *dir = NULL;

    return s->isolation == SPEC_VM ? kernel_find(root, s->kernel, &kernel, &dir, e) : 0;
}

static int merge(struct spec *s, const struct run_options *o, struct err *e)
{
    struct image im = {0};
    struct store *store = NULL;
    int r = check_storage(s, e);

    if (r == 0)
        r = store_open(NULL, &store, e);
    if (r == 0)
        r = check_kernel(s, store_root(store), e);
    if (r == 0)
        r = get_image(store, s->image, o, &im, e);
    store_close(store);
    if (r == 0)
        r = specflags_merge(s, o, &im, e);
    image_done(&im);
    return r;
}

/* Opened before there is a container, so that there is none if it cannot be. */
static int open_cidfile(const char *path, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd < 0 && errno == EEXIST)
        return err_set(e, -EEXIST,
                       "--cidfile: %s is there: make sure that its container does not run, or "
                       "remove it",
                       path);
    return fd < 0 ? err_errno(e, -errno, "--cidfile: %s", path) : fd;
}

/* The record, and the volumes it needs. */
static int record(struct spec *s, const struct run_options *o, struct record *r, struct err *e)
{
    struct strv volumes = {0};
    int rc = volume_claim(NULL, s, e);

    if (rc == 0 && volume_names(s, &volumes) < 0)
        rc = err_errno(e, -ENOMEM, "volumes");
    if (rc == 0) {
        rc = record_create(NULL, o->name, s, r, e);
        if (rc < 0)
            volume_drop(NULL, &volumes);
    }
    strv_done(&volumes);
    return rc;
}

int make_container(struct spec *s, const struct run_options *o, struct record *r, struct err *e)
{
    int rc = o->name ? record_check_name(o->name, e) : 0;

    *r = (struct record){.dir = -1, .lock = -1};
    CLEANUP(fd) int cid = rc == 0 && o->cidfile ? open_cidfile(o->cidfile, e) : -1;
    if (rc == 0 && o->cidfile && cid < 0)
        rc = cid;
    if (rc == 0)
        rc = merge(s, o, e);
    if (rc == 0)
        rc = record(s, o, r, e);
    if (cid >= 0 && rc == 0 && write(cid, r->id, RECORD_ID_LEN) != RECORD_ID_LEN)
        rc = err_errno(e, -errno, "--cidfile: %s", o->cidfile);
    if (cid >= 0 && rc < 0)
        (void)unlink(o->cidfile);
    if (rc == 0) {
        const char *more[] = {"image", r->spec.image, "name", r->name, NULL};

        event_note(NULL, "container", "create", r->id, more);
    }
    return rc;
}
