/* process/filter*.c and process/mountopt.c: filters are run by a small interpreter. */
#include "test/unit/t.h"

#include <errno.h>
#include <jansson.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "process/defaults.h"
#include "process/filter.h"
#include "process/mountopt.h"

/* Classic BPF as libseccomp uses it: seccomp(2). */
static uint32_t run(const struct process_filter *f, const struct seccomp_data *d)
{
    const struct sock_filter *v = f->insns;
    uint32_t a = 0, word;

    for (size_t pc = 0; pc < f->n; pc++) {
        const struct sock_filter *i = &v[pc];
        bool yes;

        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(i->k + 4 <= sizeof(*d));
            memcpy(&word, (const char *)d + i->k, 4);
            a = word;
            continue;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= i->k;
            continue;
        case BPF_RET | BPF_K:
            return i->k;
        case BPF_JMP | BPF_JA:
            pc += i->k;
            continue;
        case BPF_JMP | BPF_JEQ | BPF_K:
            yes = a == i->k;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            yes = a > i->k;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            yes = a >= i->k;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            yes = (a & i->k) != 0;
            break;
        default:
            fail_msg("code %#x at %zu", i->code, pc);
            return 0;
        }
        pc += yes ? i->jt : i->jf;
    }
    fail_msg("no end");
    return 0;
}

/* 0 = allowed, else the errno. */
static int verdict(const struct filter *f, long nr, uint64_t arg)
{
    const struct seccomp_data d = {.nr = (int)nr, .arch = AUDIT_ARCH_X86_64, .args = {arg}};
    uint32_t r = run(&f->f, &d);

    if (r == SECCOMP_RET_ALLOW)
        return 0;
    assert_int_equal(r & SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ERRNO);
    return (int)(r & SECCOMP_RET_DATA);
}

static void the_default_filter_refuses_what_docker_refuses(void **state)
{
    static const long refused[] = {SYS_keyctl, SYS_add_key,    SYS_mount,      SYS_umount2,
                                   SYS_setns,  SYS_unshare,    SYS_bpf,        SYS_ptrace + 1000,
                                   SYS_reboot, SYS_swapon,     SYS_fsopen,     SYS_init_module,
                                   SYS_iopl,   SYS_kexec_load, SYS_userfaultfd};
    static const long allowed[] = {SYS_read,        SYS_execve,  SYS_openat2,
                                   SYS_ptrace,      SYS_chroot,  SYS_futex,
                                   SYS_close_range, SYS_accept4, SYS_io_submit};
    struct filter f;
    struct err e = {0};

    assert_int_equal(filter_default(DEFAULTS_CAPS, &f, &e), 0);
    assert_null(f.owned); /* the one that was made with the program */
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_int_equal(verdict(&f, refused[i], 0), refused[i] > 1000 ? ENOSYS : EPERM);
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
        if (verdict(&f, allowed[i], 0) != 0)
            fail_msg("system call %ld", allowed[i]);
    assert_int_equal(verdict(&f, SYS_clone3, 0), ENOSYS);
    assert_int_equal(verdict(&f, SYS_clone, CLONE_VM | CLONE_THREAD), 0);
    assert_int_not_equal(verdict(&f, SYS_clone, CLONE_NEWUSER), 0);
    assert_int_equal(verdict(&f, SYS_personality, 0xffffffff), 0);
    assert_int_not_equal(verdict(&f, SYS_personality, 0x0040000), 0);
    assert_int_equal(verdict(&f, SYS_socket, AF_INET6), 0);
    assert_int_not_equal(verdict(&f, SYS_socket, AF_VSOCK), 0);
    filter_done(&f);
}

static void a_capability_brings_its_calls(void **state)
{
    struct filter f;
    struct err e = {0};

    assert_int_equal(filter_default(DEFAULTS_CAPS | DEFAULTS_CAP(CAP_SYS_ADMIN), &f, &e), 0);
    assert_non_null(f.owned);
    assert_int_equal(verdict(&f, SYS_mount, 0), 0);
    assert_int_equal(verdict(&f, SYS_clone3, 0), 0);
    assert_int_equal(verdict(&f, SYS_clone, CLONE_NEWUSER), 0);
    assert_int_equal(verdict(&f, SYS_keyctl, 0), EPERM);
    filter_done(&f);
    assert_int_equal(filter_default(DEFAULTS_CAPS & ~DEFAULTS_CAP(CAP_SYS_CHROOT), &f, &e), 0);
    assert_int_equal(verdict(&f, SYS_chroot, 0), EPERM);
    filter_done(&f);
    /* One that no rule asks for changes nothing. */
    assert_int_equal(filter_default(DEFAULTS_CAPS & ~DEFAULTS_CAP(CAP_KILL), &f, &e), 0);
    assert_null(f.owned);
}

static int parse(const char *text, uint64_t caps, struct filter *f, struct err *e)
{
    json_t *j = json_loads(text, 0, NULL);

    assert_non_null(j);
    int r = filter_profile(j, caps, f, e);
    json_decref(j);
    return r;
}

static void a_profile_is_taken_as_it_says(void **state)
{
    const char *text = "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,\"syscalls\":["
                       "{\"names\":[\"read\",\"no_such_call\"],\"action\":\"SCMP_ACT_ALLOW\"},"
                       "{\"names\":[\"personality\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":["
                       "{\"index\":0,\"value\":0,\"op\":\"SCMP_CMP_EQ\"},"
                       "{\"index\":0,\"value\":8,\"op\":\"SCMP_CMP_EQ\"}]},"
                       "{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ALLOW\","
                       "\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
                       "{\"names\":[\"keyctl\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":13}]}";
    struct filter f;
    struct err e = {0};

    assert_int_equal(parse(text, DEFAULTS_CAPS, &f, &e), 0);
    assert_int_equal(verdict(&f, SYS_read, 0), 0);
    assert_int_equal(verdict(&f, SYS_write, 0), ENOSYS);
    assert_int_equal(verdict(&f, SYS_personality, 0), 0);
    assert_int_equal(verdict(&f, SYS_personality, 8), 0);
    assert_int_equal(verdict(&f, SYS_personality, 9), ENOSYS);
    assert_int_equal(verdict(&f, SYS_mount, 0), ENOSYS);
    assert_int_equal(verdict(&f, SYS_keyctl, 0), EACCES);
    filter_done(&f);
    assert_int_equal(parse(text, DEFAULTS_CAP(CAP_SYS_ADMIN), &f, &e), 0);
    assert_int_equal(verdict(&f, SYS_mount, 0), 0);
    filter_done(&f);
}

static void what_is_no_profile_is_refused(void **state)
{
    static const char *const bad[] = {
        "[]",
        "{}",
        "{\"defaultAction\":\"ALLOW\"}",
        "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":5000}",
        "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"]}]}",
        "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],"
        "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":6,\"op\":\"SCMP_CMP_EQ\"}]}]}",
        "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],"
        "\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":0,\"op\":\"EQ\"}]}]}",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct filter f;
        struct err e = {0};

        assert_int_equal(parse(bad[i], 0, &f, &e), -EINVAL);
        assert_true(e.msg[0]);
    }
}

static void mount_options_are_words(void **state)
{
    struct mountopt o = {.flags = MS_NOEXEC};
    struct err e = {0};

    assert_int_equal(mountopt_words("ro,nosuid,exec,size=64m,rw,,mode=1777,rro,rslave", &o, &e), 0);
    assert_int_equal(o.flags, MS_NOSUID);
    assert_int_equal(o.clear, MS_NOEXEC | MS_RDONLY);
    assert_int_equal(o.rec_flags, MS_RDONLY);
    assert_int_equal(o.propagation, MS_SLAVE | MS_REC);
    assert_string_equal(o.data, "size=64m,mode=1777");
    o = (struct mountopt){0};
    assert_int_equal(mountopt_word("rbind", &o, &e), 0);
    assert_int_equal(o.flags, MS_BIND | MS_REC);
    assert_int_equal(o.rec_flags, 0);
    char text[MOUNTOPT_DATA_MAX + 1];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(mountopt_words(text, &o, &e), -E2BIG);
    assert_string_equal(o.data, "");
}

static void capabilities_have_names(void **state)
{
    assert_int_equal(defaults_cap_number("CAP_CHOWN"), CAP_CHOWN);
    assert_int_equal(defaults_cap_number("net_admin"), CAP_NET_ADMIN);
    assert_int_equal(defaults_cap_number("checkpoint_restore"), CAP_CHECKPOINT_RESTORE);
    assert_int_equal(defaults_cap_number("CAP_"), -EINVAL);
    assert_int_equal(DEFAULTS_CAPS, 0xa80425fb); /* docker's */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_filter_refuses_what_docker_refuses),
        cmocka_unit_test(a_capability_brings_its_calls),
        cmocka_unit_test(a_profile_is_taken_as_it_says),
        cmocka_unit_test(what_is_no_profile_is_refused),
        cmocka_unit_test(mount_options_are_words),
        cmocka_unit_test(capabilities_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
