#include "jail/devfilter.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Registers of the program, after the prologue. */
enum { R_RESULT = 0, R_CTX = 1, R_TYPE = 2, R_ACCESS = 3, R_MAJOR = 4, R_MINOR = 5, R_TEMP = 6 };

struct program {
    struct bpf_insn *v;
    size_t n;
};

static void emit(struct program *p, uint8_t code, unsigned dst, unsigned src, int16_t off,
                 int32_t imm)
{
    p->v[p->n++] = (struct bpf_insn){.code = code,
                                     .dst_reg = (uint8_t)(dst & 15),
                                     .src_reg = (uint8_t)(src & 15),
                                     .off = off,
                                     .imm = imm};
}

static void prologue(struct program *p)
{
    const uint8_t load = BPF_LDX | BPF_W | BPF_MEM;

    emit(p, load, R_TYPE, R_CTX, offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
    emit(p, BPF_ALU64 | BPF_MOV | BPF_X, R_ACCESS, R_TYPE, 0, 0);
    emit(p, BPF_ALU64 | BPF_AND | BPF_K, R_TYPE, 0, 0, 0xffff);
    emit(p, BPF_ALU64 | BPF_RSH | BPF_K, R_ACCESS, 0, 0, 16);
    emit(p, load, R_MAJOR, R_CTX, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
    emit(p, load, R_MINOR, R_CTX, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
}

static int access_mask(const char *text)
{
    int mask = 0;

    for (; *text; text++)
        mask |= *text == 'r'   ? BPF_DEVCG_ACC_READ
                : *text == 'w' ? BPF_DEVCG_ACC_WRITE
                : *text == 'm' ? BPF_DEVCG_ACC_MKNOD
                               : -1;
    return mask;
}

/* One rule; where it does not fit, a jump behind it. */
static int rule(struct program *p, const struct cgroup_device *d, struct err *e)
{
    const uint8_t differs = BPF_JMP | BPF_JNE | BPF_K;
    size_t skip[4], n = 0;
    char access[5] = {0};

    memcpy(access, d->access, sizeof(d->access));
    int mask = access_mask(access);
    if (mask <= 0 || !memchr("abc", d->type, 3))
        return err_set(e, -EINVAL, "a rule for devices of type '%c', access '%.4s'", d->type,
                       access);
    if (d->type != 'a') {
        skip[n++] = p->n;
        emit(p, differs, R_TYPE, 0, 0, d->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    }
    if (mask != (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD)) {
        emit(p, BPF_ALU64 | BPF_MOV | BPF_X, R_TEMP, R_ACCESS, 0, 0);
        /* An allowing rule must give all that is wanted, a denying one fits if any is. */
        emit(p, BPF_ALU64 | BPF_AND | BPF_K, R_TEMP, 0, 0, d->allow ? ~mask : mask);
        skip[n++] = p->n;
        emit(p, d->allow ? differs : BPF_JMP | BPF_JEQ | BPF_K, R_TEMP, 0, 0, 0);
    }
    if (d->type != 'a' && d->major >= 0) {
        skip[n++] = p->n;
        emit(p, differs, R_MAJOR, 0, 0, d->major);
    }
    if (d->type != 'a' && d->minor >= 0) {
        skip[n++] = p->n;
        emit(p, differs, R_MINOR, 0, 0, d->minor);
    }
    emit(p, BPF_ALU64 | BPF_MOV | BPF_K, R_RESULT, 0, 0, d->allow);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    for (size_t i = 0; i < n; i++)
        p->v[skip[i]].off = (int16_t)(p->n - skip[i] - 1);
    return 0;
}

int devfilter_build(const struct cgroup_device *d, size_t n,
                    struct bpf_insn out[DEVFILTER_INSNS_MAX], struct err *e)
{
    struct program p = {.v = out};
    bool decided = false;

    if (n > CGROUP_DEVICES_MAX)
        return err_set(e, -E2BIG, "more than %d rules for devices", CGROUP_DEVICES_MAX);
    prologue(&p);
    /* The last decides, so it is asked first. Behind a rule that always fits the verifier would
     * find unreachable instructions. */
    for (size_t i = n; i-- > 0 && !decided;) {
        int r = rule(&p, &d[i], e);

        if (r < 0)
            return r;
        decided = d[i].type == 'a' && access_mask(d[i].access) == 7;
    }
    if (!decided) {
        emit(&p, BPF_ALU64 | BPF_MOV | BPF_K, R_RESULT, 0, 0, 0);
        emit(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    }
    return (int)p.n;
}

static long bpf(int cmd, union bpf_attr *attr)
{
    return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

int devfilter_attach(const char *dir, const struct cgroup_device *d, size_t n, struct err *e)
{
    struct bpf_insn insns[DEVFILTER_INSNS_MAX];
    int count = devfilter_build(d, n, insns, e);
    union bpf_attr attr = {0};

    if (count < 0)
        return count;
    CLEANUP(fd) int group = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (group < 0)
        return err_errno(e, -errno, "%s", dir);
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (uintptr_t)insns;
    attr.insn_cnt = (uint32_t)count;
    attr.license = (uintptr_t) "";
    CLEANUP(fd) int prog = (int)bpf(BPF_PROG_LOAD, &attr);
    if (prog < 0)
        return err_errno(e, -errno, "load the program that limits devices");
    attr = (union bpf_attr){.target_fd = (uint32_t)group,
                            .attach_bpf_fd = (uint32_t)prog,
                            .attach_type = BPF_CGROUP_DEVICE,
                            .attach_flags = BPF_F_ALLOW_MULTI};
    if (bpf(BPF_PROG_ATTACH, &attr) < 0)
        return err_errno(e, -errno, "attach the program that limits devices");
    return 0;
}
