/* Run when kiln is built: the lists of calls.h as programs for seccomp(2), made by libseccomp,
 * printed as C for jail/jailfilter.c. Compiling them at each start would cost milliseconds. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/fs.h>
#include <linux/prctl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jail/calls.h"
#include "jail/jailfilter.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

enum {
    NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                 CLONE_NEWPID | CLONE_NEWNET,
    KVM_TYPE = 0xae, /* linux/kvm.h: KVMIO */
    VHOST_TYPE = 0xaf,
    TYPE_MASK = 0xff00,
};

static const unsigned long ioctls[] = {
    FICLONE,     TUNSETOFFLOAD,   TUNSETVNETHDRSZ, TUNSETQUEUE,       TUNSETVNETLE,
    UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_WAKE,     UFFDIO_UNREGISTER,
};
static const int prctls[] = {PR_SET_NAME, PR_SET_PDEATHSIG, PR_SET_VMA};

static void check(int r, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "mkcalls: %s: %s\n", what, strerror(-r));
        exit(1); /* a tool of the build */
    }
}

static void allow(scmp_filter_ctx c, int nr, const char *name, struct scmp_arg_cmp arg)
{
    check(seccomp_rule_add_exact_array(c, SCMP_ACT_ALLOW, nr, 1, &arg), name);
}

/* Programs of exec and write at once are never allowed; each rule adds to the others. */
static void add_mapping(scmp_filter_ctx c, int nr, const struct call *call)
{
    uint64_t code = call->rule == CALL_CODE ? PROT_EXEC : 0;
    uint64_t mask = call->rule == CALL_CODE ? PROT_EXEC | PROT_WRITE : PROT_EXEC;

    allow(c, nr, call->name, SCMP_A2_64(SCMP_CMP_MASKED_EQ, mask, code));
}

static void add_ioctl(scmp_filter_ctx c, int nr, const char *name)
{
    allow(c, nr, name, SCMP_A1_64(SCMP_CMP_MASKED_EQ, TYPE_MASK, KVM_TYPE << 8));
    allow(c, nr, name, SCMP_A1_64(SCMP_CMP_MASKED_EQ, TYPE_MASK, VHOST_TYPE << 8));
    for (size_t i = 0; i < ARRAY_LEN(ioctls); i++)
        allow(c, nr, name, SCMP_A1_64(SCMP_CMP_EQ, ioctls[i]));
}

static void add_call(scmp_filter_ctx c, const struct call *call)
{
    int nr = seccomp_syscall_resolve_name(call->name);
    uint64_t thread = CLONE_THREAD;

    check(nr < 0 ? -ENOSYS : 0, call->name);
    switch (call->rule) {
    case CALL_ANY:
        check(seccomp_rule_add_exact_array(c, SCMP_ACT_ALLOW, nr, 0, NULL), call->name);
        break;
    case CALL_REFUSED:
        check(
            seccomp_rule_add_exact_array(
                c, SCMP_ACT_ERRNO(strcmp(call->name, "clone3") == 0 ? ENOSYS : EPERM), nr, 0, NULL),
            call->name);
        break;
    case CALL_NO_CODE:
    case CALL_CODE:
        add_mapping(c, nr, call);
        break;
    case CALL_THREAD:
        allow(c, nr, call->name, SCMP_A0_64(SCMP_CMP_MASKED_EQ, NAMESPACES | thread, thread));
        break;
    case CALL_FORK:
        allow(c, nr, call->name, SCMP_A0_64(SCMP_CMP_MASKED_EQ, NAMESPACES, 0));
        break;
    case CALL_FSTAT:
        allow(c, nr, call->name, SCMP_A3_64(SCMP_CMP_EQ, AT_EMPTY_PATH));
        break;
    case CALL_KICK:
        allow(c, nr, call->name, SCMP_A2_64(SCMP_CMP_EQ, (scmp_datum_t)SIGRTMIN + 1));
        break;
    case CALL_OWN_PID:
        allow(c, nr, call->name, SCMP_A0_64(SCMP_CMP_EQ, JAILFILTER_PID));
        break;
    case CALL_IOCTL:
        add_ioctl(c, nr, call->name);
        break;
    case CALL_PRCTL:
        for (size_t i = 0; i < ARRAY_LEN(prctls); i++)
            allow(c, nr, call->name, SCMP_A0_64(SCMP_CMP_EQ, (scmp_datum_t)prctls[i]));
        break;
    }
}

/* --- roles ---------------------------------------------------------------------- */

struct part {
    const struct call *call;
    size_t n;
};
#define PART(list)              \
    {                           \
        (list), ARRAY_LEN(list) \
    }

enum { PARTS_MAX = 8 };

static const struct role {
    enum jailfilter_program program;
    struct part part[PARTS_MAX];
} roles[] = {
    {JAILFILTER_VCPU, {PART(common), PART(vcpu)}},
    {JAILFILTER_IO, {PART(common), PART(io)}},
    {JAILFILTER_IO_FILES, {PART(common), PART(io), PART(files)}},
    {JAILFILTER_BLOCK, {PART(common), PART(block)}},
    {JAILFILTER_MEMORY, {PART(common), PART(memory)}},
    {JAILFILTER_LOG, {PART(common), PART(console_log)}},
    {JAILFILTER_WRITER, {PART(common), PART(writer)}},
    {JAILFILTER_CONTROL, {PART(common), PART(vcpu), PART(io), PART(writer), PART(control)}},
    {JAILFILTER_CONTROL_FILES,
     {PART(common), PART(vcpu), PART(io), PART(files), PART(writer), PART(control)}},
};

static bool weaker(const struct call *a, const struct call *b)
{
    return strcmp(a->name, b->name) == 0 && a->rule == CALL_THREAD && b->rule == CALL_FORK;
}

/* A call that several lists of the role have is added once; of clone's two the wider one. */
static bool covered(const struct role *r, const struct part *part, size_t at)
{
    const struct call *call = &part->call[at];
    bool earlier = true;

    for (const struct part *p = r->part; p < r->part + PARTS_MAX; p++) {
        for (size_t i = 0; i < p->n; i++) {
            const struct call *o = &p->call[i];

            if (o == call)
                earlier = false;
            else if (weaker(call, o) ||
                     (earlier && strcmp(o->name, call->name) == 0 && o->rule == call->rule))
                return true;
        }
    }
    return false;
}

static void print_program(scmp_filter_ctx c, unsigned program)
{
    struct sock_filter f[JAILFILTER_MAX];
    FILE *tmp = tmpfile();

    check(tmp ? 0 : -errno, "tmpfile");
    check(seccomp_export_bpf(c, fileno(tmp)), "export");
    rewind(tmp);
    size_t n = fread(f, sizeof(*f), JAILFILTER_MAX, tmp);
    check(n > 0 && n < JAILFILTER_MAX ? 0 : -E2BIG, "program");
    fclose(tmp);
    printf("static const struct sock_filter program_%u[] = {\n", program);
    for (size_t i = 0; i < n; i++)
        printf("    {0x%x, %u, %u, 0x%x},\n", f[i].code, f[i].jt, f[i].jf, f[i].k);
    printf("};\n");
}

static void make_program(const struct role *r)
{
    scmp_filter_ctx c = seccomp_init(SCMP_ACT_TRAP);

    check(c ? 0 : -ENOMEM, "seccomp_init");
    check(seccomp_attr_set(c, SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimize");
    for (const struct part *p = r->part; p < r->part + PARTS_MAX; p++)
        for (size_t i = 0; i < p->n; i++)
            if (!covered(r, p, i))
                add_call(c, &p->call[i]);
    print_program(c, r->program);
    seccomp_release(c);
}

int main(void)
{
    printf("/* Made by jail/mkcalls.c. */\n");
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        make_program(&roles[i]);
    printf("static const struct program {\n    const struct sock_filter *f;\n    unsigned n;\n} "
           "programs[JAILFILTER_PROGRAMS] = {\n");
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        printf("    [%u] = {program_%u, sizeof(program_%u) / sizeof(program_%u[0])},\n",
               roles[i].program, roles[i].program, roles[i].program, roles[i].program);
    printf("};\n");
    return 0;
}
