/* A machine is snapshotted to disk while it computes and goes on from there, on this engine or
 * another; chains of diffs do the same; and fork(2) makes a second one that goes on by itself. The
 * guest's own sum says that no bit was lost. argv[1]: the guest. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mem/mem.h"
#include "test/switch/world.h"
#include "vm/seed.h"
#include "vm/snapshot.h"

enum { RUN_US = 3000 };

static char dir[] = "/tmp/kiln-seed-XXXXXX"; /* all snapshots of this test */

static const char *at(const char *name)
{
    static char path[16][128];
    static unsigned turn;
    char *p = path[turn++ % 16];

    snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    return p;
}

static struct snap_report make(struct vm *vm, const char *name, const char *parent, bool compress,
                               bool stop)
{
    struct snap_opts o = {.dir = at(name),
                          .parent = parent ? at(parent) : NULL,
                          .compress = compress,
                          .stop = stop,
                          .note = "of a test"};
    struct snap_report rep;
    struct err e = {0};

    if (snapshot_create(vm, &o, &rep, &e) < 0 || snapshot_verify(at(name), &e) < 0)
        die(name, &e);
    return rep;
}

static struct vm *grow(const char *name, const char *engine)
{
    struct seed *s;
    struct vm_conf c;
    struct vm *vm;
    struct err e = {0};

    if (seed_open(at(name), &s, &e) < 0)
        die("open", &e);
    if (strcmp(seed_note(s), "of a test") != 0)
        die("the note is lost", &e);
    shape_conf(seed_shape(s), &c);
    c.engine = engine;
    if (seed_grow(s, &c, &vm, &e) < 0 || vm_start(vm, &e) < 0)
        die("grow", &e);
    seed_free(s);
    return vm;
}

/* Each snapshot goes on to the right sum: the first of a chain, the middle, the last. */
static int chain(const char *guest, const char *a, const char *b, bool compress)
{
    struct vm *vm = world_new(guest, a);
    struct err e = {0};
    int bad = 0;

    printf("%s to %s%s:\n", a, b, compress ? ", compressed" : "");
    if (vm_start(vm, &e) < 0)
        die("start", &e);
    world_let_run(vm, RUN_US);
    make(vm, "one", NULL, compress, false);
    world_let_run(vm, RUN_US);
    struct snap_report two = make(vm, "two", "one", compress, false);
    world_let_run(vm, RUN_US);
    struct snap_report three = make(vm, "three", "two", compress, true);
    vm_free(vm);
    /* A machine grown from the middle knows what it changed since. */
    vm = grow("two", b);
    world_let_run(vm, RUN_US);
    make(vm, "side", "two", compress, false);
    bad |= world_verdict(vm);
    static const char *const names[] = {"one", "two", "three", "side"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        vm = grow(names[i], i % 2 ? a : b);
        world_let_run(vm, RUN_US);
        bad |= world_verdict(vm);
    }
    if (two.pages == 0 || three.pages == 0 || two.pages > 512) {
        printf("diffs of %llu and %llu pages\n", (unsigned long long)two.pages,
               (unsigned long long)three.pages);
        bad = 1;
    }
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (snapshot_remove(at(names[i]), &e) < 0)
            die("remove", &e);
    return bad;
}

/* What a machine wrote since its snapshot is known across changes of its engine. */
static int switched(const char *guest, const char *a, const char *b)
{
    struct vm *vm = world_new(guest, a);
    struct err e = {0};

    printf("%s, %s and %s between snapshot and diff:\n", a, b, a);
    if (vm_start(vm, &e) < 0)
        die("start", &e);
    world_let_run(vm, RUN_US);
    make(vm, "one", NULL, false, false);
    for (unsigned i = 0; i < 3; i++) {
        world_let_run(vm, RUN_US);
        if (vm_pause(vm, &e) < 0 || vm_switch_engine(vm, i % 2 ? a : b, &e) < 0 ||
            vm_resume(vm, &e) < 0)
            die("switch", &e);
    }
    world_let_run(vm, RUN_US);
    make(vm, "two", "one", false, true);
    vm_free(vm);
    vm = grow("two", a);
    world_let_run(vm, RUN_US);
    int bad = world_verdict(vm);
    if (snapshot_remove(at("two"), &e) < 0 || snapshot_remove(at("one"), &e) < 0)
        die("remove", &e);
    return bad;
}

/* A diff needs a parent that this machine's changes are known since. */
static int stale_parents(const char *guest)
{
    struct vm *vm = world_new(guest, "interp"), *other = world_new(guest, "interp");
    struct snap_opts o = {.dir = at("diff"), .parent = at("full")};
    struct err e = {0};
    int bad = 0;

    make(vm, "full", NULL, false, false);
    if (snapshot_create(other, &o, NULL, &e) != -ESTALE)
        bad = printf("a diff of another machine's snapshot was made\n");
    make(vm, "newer", NULL, false, false);
    if (snapshot_create(vm, &o, NULL, &e) != -ESTALE)
        bad = printf("a diff of a snapshot that is not the last was made\n");
    o.parent = NULL;
    o.dir = at("full");
    if (snapshot_create(vm, &o, NULL, &e) != -EEXIST)
        bad = printf("a snapshot was replaced\n");
    if (snapshot_remove(at("full"), &e) < 0 || snapshot_remove(at("newer"), &e) < 0)
        die("remove", &e);
    vm_free(vm);
    vm_free(other);
    return bad != 0;
}

/* In the child: the second machine, on `engine`; ends the process with its verdict. */
static _Noreturn void second(struct seed *s, const char *engine)
{
    struct vm_conf c;
    struct vm *vm;
    struct err e = {0};

    shape_conf(seed_shape(s), &c);
    c.engine = engine;
    if (seed_grow(s, &c, &vm, &e) < 0 || vm_start(vm, &e) < 0)
        die("grow", &e);
    world_let_run(vm, RUN_US);
    int bad = world_verdict(vm);
    fflush(stdout);
    _exit(bad); /* forked child */
}

static int forked(const char *guest, const char *a, const char *b)
{
    struct vm *vm = world_new(guest, a);
    struct err e = {0};
    int status, bad = 0;

    printf("%s forks, the child on %s:\n", a, b);
    fflush(stdout);
    if (vm_start(vm, &e) < 0)
        die("start", &e);
    for (unsigned i = 0; i < 3; i++) {
        struct seed *s;
        uint64_t pause;

        world_let_run(vm, RUN_US);
        pid_t pid = seed_fork(vm, NULL, &s, &pause, &e);
        if (pid < 0)
            die("fork", &e);
        if (pid == 0)
            second(s, b);
        if (waitpid(pid, &status, 0) != pid || status != 0)
            bad = 1;
    }
    return bad | world_verdict(vm);
}

static int all(const char *guest, const char *a, const char *b)
{
    return chain(guest, a, b, false) | chain(guest, b, a, true) | switched(guest, a, b) |
           forked(guest, a, b) | forked(guest, b, a);
}

int main(int argc, char **argv)
{
    bool hw;
    struct err e = {0};

    if (argc < 2 || !mkdtemp(dir))
        return 2;
    int bad = stale_parents(argv[1]);
    if (cpu_bt.probe(&hw, &e) < 0)
        printf("bt and interp: skipped: %s\n", e.msg);
    else
        bad |= all(argv[1], "bt", "interp");
    if (cpu_kvm.probe(&hw, &e) < 0)
        printf("kvm and interp: skipped: %s\n", e.msg);
    else
        bad |= all(argv[1], "kvm", "interp");
    if (rmdir(dir) < 0)
        bad |= printf("something is left in %s\n", dir) > 0;
    return bad;
}
