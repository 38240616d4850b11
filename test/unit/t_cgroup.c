/* jail/cgroup*.c over folders that play cgroup file systems, jail/devfilter.c with a small
 * interpreter. */
#include "test/unit/t.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jail/cgroup.h"
#include "jail/devfilter.h"

static int drop(const char *path, const struct stat *st, int type, struct FTW *f)
{
    return remove(path);
}

static int setup(void **state)
{
    char *root = strdup("/tmp/t_cgroup.XXXXXX");

    *state = root;
    return root && mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)nftw(*state, drop, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return 0;
}

static void file(const char *root, const char *path, const char *text)
{
    char full[512];

    snprintf(full, sizeof(full), "%s/%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        (void)mkdir(full, 0755);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static const char *text(const char *dir, const char *name)
{
    static char buf[512];
    char full[512];

    snprintf(full, sizeof(full), "%s/%s", dir, name);
    FILE *f = fopen(full, "r");
    if (!f)
        return "(absent)";
    buf[fread(buf, 1, sizeof(buf) - 1, f)] = '\0';
    fclose(f);
    return buf;
}

static const char *below(const char *root, const char *path)
{
    size_t n = strlen(root);

    return strncmp(path, root, n) == 0 ? path + n : path;
}

/* The layout of a host with both: memory is in a group that the mount shows from below. */
static void hybrid(const char *root)
{
    file(root, "proc/self/cgroup",
         "9:name=systemd:/\n8:pids:/\n6:freezer:/a\n5:devices:/\n"
         "4:memory:/outer/a b\n3:cpuset:/\n2:cpu,cpuacct:/x\n0::/\n");
    file(root, "proc/self/mountinfo",
         "22 27 0:21 / /proc rw - proc proc rw\n"
         "32 31 0:29 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
         "34 31 0:31 / /cg/cpuset rw shared:7 - cgroup cgroup rw,cpuset\n"
         "35 31 0:32 /outer /cg/mem\\040ory rw - cgroup cgroup rw,memory\n"
         "36 31 0:33 / /cg/devices rw - cgroup cgroup rw,devices\n"
         "37 31 0:34 / /cg/freezer rw - cgroup cgroup rw,freezer\n"
         "39 31 0:36 / /cg/pids rw - cgroup cgroup rw,pids\n"
         "40 31 0:37 / /cg/systemd rw - cgroup cgroup rw,name=systemd\n"
         "41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n");
    file(root, "cg/unified/cgroup.controllers", "\n");
    file(root, "cg/cpuset/cpuset.cpus", "0-1\n");
    file(root, "cg/cpuset/cpuset.mems", "0\n");
    file(root, "cg/mem ory/a b/x", "");
    file(root, "cg/cpu,cpuacct/x/x", "");
    file(root, "cg/devices/x", "");
    file(root, "cg/freezer/a/x", "");
    file(root, "cg/pids/x", "");
}

static void pure_v2(const char *root)
{
    file(root, "proc/self/cgroup", "0::/user/me\n");
    file(root, "proc/self/mountinfo", "41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n");
    file(root, "cg/user/me/cgroup.controllers", "cpuset cpu io memory pids\n");
    file(root, "cg/user/me/cgroup.procs", "77\n");
    file(root, "cg/user/cgroup.subtree_control", "");
}

static void a_hybrid_host_is_found(void **state)
{
    struct cgroup_host h;
    struct err e = {0};

    hybrid(*state);
    assert_int_equal(cgroup_host_find(*state, &h, &e), 0);
    assert_int_equal(h.layout, CGROUP_HYBRID);
    assert_string_equal(below(*state, h.own[CGROUP_MEMORY]), "/cg/mem ory/a b");
    assert_string_equal(below(*state, h.own[CGROUP_CPU]), "/cg/cpu,cpuacct/x");
    assert_string_equal(h.own[CGROUP_CPU], h.own[CGROUP_CPUACCT]);
    assert_string_equal(below(*state, h.own[CGROUP_FREEZER]), "/cg/freezer/a");
    assert_string_equal(below(*state, h.own[CGROUP_UNIFIED]), "/cg/unified");
    assert_string_equal(h.own[CGROUP_IO], "");
}

static void limits_are_written_as_v1_wants_them(void **state)
{
    const struct cgroup_device dev[] = {{true, 'c', 1, 3, "rwm"}, {true, 'b', -1, -1, "m"}};
    struct cgroup_limits l = {.memory_bytes = 64 << 20,
                              .memory_swap_bytes = 128 << 20,
                              .cpu_quota_us = 150000,
                              .cpu_shares = 512,
                              .cpus = "1",
                              .pids = 100,
                              .devices = dev,
                              .n_devices = 2};
    struct cgroup_host h;
    struct cgroup c;
    struct err e = {0};

    hybrid(*state);
    assert_int_equal(cgroup_host_find(*state, &h, &e), 0);
    assert_int_equal(cgroup_make(&h, "abc", &l, &c, &e), 0);
    assert_string_equal(below(*state, c.path[CGROUP_MEMORY]), "/cg/mem ory/a b/kiln-abc");
    assert_string_equal(text(c.path[CGROUP_MEMORY], "memory.limit_in_bytes"), "67108864");
    assert_string_equal(text(c.path[CGROUP_MEMORY], "memory.memsw.limit_in_bytes"), "134217728");
    assert_string_equal(text(c.path[CGROUP_CPU], "cpu.cfs_quota_us"), "150000");
    assert_string_equal(text(c.path[CGROUP_CPU], "cpu.shares"), "512");
    assert_string_equal(text(c.path[CGROUP_CPUSET], "cpuset.cpus"), "1");
    assert_string_equal(text(c.path[CGROUP_CPUSET], "cpuset.mems"), "0\n");
    assert_string_equal(text(c.path[CGROUP_PIDS], "pids.max"), "100");
    assert_string_equal(text(c.path[CGROUP_DEVICES], "devices.deny"), "a");
    assert_string_equal(text(c.path[CGROUP_DEVICES], "devices.allow"), "c 1:3 rwmb *:* m");
    assert_string_equal(c.path[CGROUP_UNIFIED], "");

    /* Without it asked for, no group where it costs or needs care. */
    assert_int_equal(cgroup_make(&h, "def", NULL, &c, &e), 0);
    assert_string_equal(c.path[CGROUP_CPUSET], "");
    assert_string_equal(c.path[CGROUP_DEVICES], "");
    assert_string_not_equal(c.path[CGROUP_FREEZER], "");
}

static void limits_are_written_as_v2_wants_them(void **state)
{
    struct cgroup_limits l = {.memory_bytes = 64 << 20,
                              .memory_swap_bytes = 96 << 20,
                              .cpu_quota_us = 50000,
                              .cpu_shares = 262144,
                              .pids = -1,
                              .io_weight = 500};
    struct cgroup_host h;
    struct cgroup c;
    struct err e = {0};

    pure_v2(*state);
    /* The kernel would fill this in for what is written there. */
    file(*state, "cg/user/cgroup.subtree_control", "");
    assert_int_equal(cgroup_host_find(*state, &h, &e), 0);
    assert_int_equal(h.layout, CGROUP_V2);
    assert_string_equal(below(*state, h.own[CGROUP_PIDS]), "/cg/user/me");
    struct cgroup g = {.layout = CGROUP_V2};
    for (unsigned i = 0; i <= CGROUP_UNIFIED; i++)
        if (i != CGROUP_CPUACCT && i != CGROUP_FREEZER && i != CGROUP_DEVICES)
            snprintf(g.path[i], CGROUP_PATH_MAX, "%s/cg", (char *)*state);
    assert_int_equal(cgroup_update(&g, &l, &e), 0);
    assert_string_equal(text(g.path[0], "memory.max"), "67108864");
    assert_string_equal(text(g.path[0], "memory.swap.max"), "33554432");
    assert_string_equal(text(g.path[0], "cpu.max"), "50000");
    assert_string_equal(text(g.path[0], "cpu.weight"), "10000");
    assert_string_equal(text(g.path[0], "pids.max"), "max");
    assert_string_equal(text(g.path[0], "io.bfq.weight"), "500");
    l = (struct cgroup_limits){.cpu_period_us = 50000};
    assert_int_equal(cgroup_update(&g, &l, &e), 0);
    assert_string_equal(text(g.path[0], "cpu.max"), "50000 50000");
    /* Nothing asked: a group below the caller's own will do. */
    assert_int_equal(cgroup_make(&h, "abc", NULL, &c, &e), 0);
    assert_string_equal(below(*state, c.path[CGROUP_UNIFIED]), "/cg/user/me/kiln-abc");
}

static void without_groups_only_limits_are_an_error(void **state)
{
    struct cgroup_limits none = {0}, some = {.pids = 3};
    struct cgroup_host h;
    struct cgroup c;
    struct err e = {0};

    file(*state, "proc/self/cgroup", "0::/\n");
    file(*state, "proc/self/mountinfo", "22 27 0:21 / /proc rw - proc proc rw\n");
    assert_int_equal(cgroup_host_find(*state, &h, &e), 0);
    assert_int_equal(h.layout, CGROUP_NONE);
    assert_int_equal(cgroup_make(&h, "abc", &none, &c, &e), 0);
    assert_int_equal(c.layout, CGROUP_NONE);
    assert_int_equal(cgroup_enter(&c, 0, &e), 0);
    assert_int_equal(cgroup_kill(&c, 0, &e), 0);
    assert_int_equal(cgroup_remove(&c, 0, &e), 0);
    assert_int_equal(cgroup_make(&h, "abc", &some, &c, &e), -EOPNOTSUPP);
    assert_int_equal(cgroup_freeze(&c, true, 0, &e), -EOPNOTSUPP);
}

static void what_cannot_be_a_group_is_refused(void **state)
{
    static const char *const id[] = {"", "..", "a/b", "a b", ".x"};
    static const char *const path[] = {"", "/", "/a/../b", "../x"};
    struct cgroup_limits l = {.memory_swap_bytes = 5};
    struct cgroup_host h;
    struct cgroup c;
    struct err e = {0};
    int64_t quota = 7;

    hybrid(*state);
    assert_int_equal(cgroup_host_find(*state, &h, &e), 0);
    for (unsigned i = 0; i < sizeof(id) / sizeof(id[0]); i++)
        assert_int_equal(cgroup_make(&h, id[i], NULL, &c, &e), -EINVAL);
    for (unsigned i = 0; i < sizeof(path) / sizeof(path[0]); i++)
        assert_int_equal(cgroup_make_at(&h, path[i], NULL, &c, &e), -EINVAL);
    assert_int_equal(cgroup_make(&h, "abc", &l, &c, &e), -EINVAL);
    assert_int_equal(cgroup_cpus(0.001, 2, &quota, &e), -EINVAL);
    assert_int_equal(cgroup_cpus(2.5, 2, &quota, &e), -EINVAL);
    assert_int_equal(quota, 7);
    assert_int_equal(cgroup_cpus(1.5, 2, &quota, &e), 0);
    assert_int_equal(quota, 150000);
}

static void usage_is_read_from_both(void **state)
{
    struct cgroup c = {.layout = CGROUP_HYBRID};
    struct cgroup_usage u;
    struct err e = {0};
    const char *root = *state;

    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++)
        snprintf(c.path[i], CGROUP_PATH_MAX, "%s/v1", root);
    file(root, "v1/memory.usage_in_bytes", "1000\n");
    file(root, "v1/memory.limit_in_bytes", "9223372036854771712\n");
    file(root, "v1/memory.stat", "cache 1\ntotal_inactive_file 300\n");
    file(root, "v1/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    file(root, "v1/cpuacct.usage", "123456789\n");
    file(root, "v1/pids.current", "4\n");
    file(root, "v1/pids.max", "max\n");
    file(root, "v1/blkio.throttle.io_service_bytes_recursive",
         "254:0 Read 4096\n254:0 Write 1\n7:0 Read 2\nTotal 4099\n");
    assert_int_equal(cgroup_usage(&c, &u, &e), 0);
    assert_int_equal(u.memory_bytes, 1000);
    assert_int_equal(u.memory_limit_bytes, 0);
    assert_int_equal(u.memory_cache_bytes, 300);
    assert_int_equal(u.oom_kills, 2);
    assert_int_equal(u.cpu_ns, 123456789);
    assert_int_equal(u.pids, 4);
    assert_int_equal(u.pids_limit, 0);
    assert_int_equal(u.io_read_bytes, 4098);
    assert_int_equal(u.io_written_bytes, 1);

    c = (struct cgroup){.layout = CGROUP_V2};
    for (unsigned i = 0; i <= CGROUP_UNIFIED; i++)
        if (i != CGROUP_CPUACCT && i != CGROUP_FREEZER && i != CGROUP_DEVICES)
            snprintf(c.path[i], CGROUP_PATH_MAX, "%s/v2", root);
    file(root, "v2/memory.current", "55\n");
    file(root, "v2/memory.max", "1048576\n");
    file(root, "v2/memory.events", "low 0\noom 3\noom_kill 1\n");
    file(root, "v2/cpu.stat", "usage_usec 7\nthrottled_usec 9\n");
    file(root, "v2/io.stat", "8:0 rbytes=10 wbytes=20 rios=1\n8:1 rbytes=1 wbytes=2\n");
    assert_int_equal(cgroup_usage(&c, &u, &e), 0);
    assert_int_equal(u.memory_bytes, 55);
    assert_int_equal(u.memory_limit_bytes, 1048576);
    assert_int_equal(u.oom_kills, 1);
    assert_int_equal(u.cpu_ns, 7000);
    assert_int_equal(u.cpu_throttled_ns, 9000);
    assert_int_equal(u.io_read_bytes, 11);
    assert_int_equal(u.io_written_bytes, 22);
}

/* ---- devices on v2 */

static bool allowed(const struct bpf_insn *v, int n, char type, unsigned access, unsigned major,
                    unsigned minor)
{
    struct bpf_cgroup_dev_ctx ctx = {
        .access_type = (access << 16) | (type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR),
        .major = major,
        .minor = minor};
    int64_t r[11] = {0};

    for (int pc = 0; pc < n; pc++) {
        const struct bpf_insn *i = &v[pc];
        uint32_t word;

        switch (i->code) {
        case BPF_LDX | BPF_W | BPF_MEM:
            memcpy(&word, (char *)&ctx + i->off, 4);
            r[i->dst_reg] = word;
            break;
        case BPF_ALU64 | BPF_MOV | BPF_X:
            r[i->dst_reg] = r[i->src_reg];
            break;
        case BPF_ALU64 | BPF_MOV | BPF_K:
            r[i->dst_reg] = i->imm;
            break;
        case BPF_ALU64 | BPF_AND | BPF_K:
            r[i->dst_reg] &= i->imm;
            break;
        case BPF_ALU64 | BPF_RSH | BPF_K:
            r[i->dst_reg] = (int64_t)((uint64_t)r[i->dst_reg] >> i->imm);
            break;
        case BPF_JMP | BPF_JNE | BPF_K:
            pc += r[i->dst_reg] != i->imm ? i->off : 0;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += r[i->dst_reg] == i->imm ? i->off : 0;
            break;
        case BPF_JMP | BPF_EXIT:
            return r[0] != 0;
        default:
            fail_msg("instruction %d: code %#x", pc, i->code);
        }
    }
    fail_msg("the program has no end");
    return false;
}

static void the_last_rule_that_fits_decides(void **state)
{
    enum { M = BPF_DEVCG_ACC_MKNOD, R = BPF_DEVCG_ACC_READ, W = BPF_DEVCG_ACC_WRITE };
    const struct cgroup_device rule[] = {
        {true, 'c', -1, -1, "m"},  {true, 'c', 1, 3, "rwm"}, {true, 'b', 8, -1, "r"},
        {false, 'b', 8, 5, "rwm"}, {true, 'b', 8, 6, "rwm"},
    };
    const struct cgroup_device all[] = {{false, 'c', 1, 1, "rwm"}, {true, 'a', -1, -1, "rwm"}};
    struct bpf_insn v[DEVFILTER_INSNS_MAX];
    struct err e = {0};
    int n = devfilter_build(rule, 5, v, &e);

    assert_true(n > 0);
    assert_true(allowed(v, n, 'c', M, 9, 9));
    assert_false(allowed(v, n, 'c', R, 9, 9));
    assert_true(allowed(v, n, 'c', R | W, 1, 3));
    assert_false(allowed(v, n, 'b', M, 1, 3));
    assert_true(allowed(v, n, 'b', R, 8, 1));
    assert_false(allowed(v, n, 'b', R | W, 8, 1));
    assert_false(allowed(v, n, 'b', R, 8, 5));
    assert_true(allowed(v, n, 'b', W, 8, 6));
    n = devfilter_build(all, 2, v, &e);
    assert_true(n > 0);
    assert_true(allowed(v, n, 'c', R, 1, 1));
    n = devfilter_build(NULL, 0, v, &e);
    assert_false(allowed(v, n, 'c', R, 1, 3));
    const struct cgroup_device bad = {true, 'x', 1, 1, "rwm"};
    assert_int_equal(devfilter_build(&bad, 1, v, &e), -EINVAL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_hybrid_host_is_found),
        TEST(limits_are_written_as_v1_wants_them),
        TEST(limits_are_written_as_v2_wants_them),
        TEST(without_groups_only_limits_are_an_error),
        TEST(what_cannot_be_a_group_is_refused),
        TEST(usage_is_read_from_both),
        TEST(the_last_rule_that_fits_decides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
