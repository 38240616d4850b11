/* Cases on the host's CPU. The child is a signal handler: it keeps what the last case left in its
 * frame, puts the next case's registers there, and returns into it. INT3 ends a case. */
#include "test/diff/diff.h"

#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { ALT_STACK = 65536, UC_STRICT_SS = 4, LIMIT_S = 20, FRAME_HDR = 512, FRAME_YMMH = 576 };

struct dhost {
    const uint8_t *pool;
    int code_fd;
    uint8_t *code;           /* writable view */
    struct diff_result *out; /* shared with the child */
    uint8_t *stack;
    /* the child's: */
    const struct diff_case *cases;
    unsigned n;
    int cur;      /* case under way */
    bool running; /* it was started by this child */
};

static struct dhost *the_host; /* a signal handler has no other way */

static const uint8_t greg_of[GPRS] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                      REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                      REG_R12, REG_R13, REG_R14, REG_R15};

/* The part of an XSAVE frame that its header says is in its initial state. */
static void init_missing(uint8_t *x)
{
    uint64_t bv;

    memcpy(&bv, x + FRAME_HDR, 8);
    if (!(bv & XCR0_X87)) {
        memset(x, 0, 24);
        memset(x + 32, 0, 128);
        x[0] = 0x7f;
        x[1] = 3;
    }
    if (!(bv & XCR0_SSE))
        memset(x + 160, 0, 256);
    if (!(bv & XCR0_AVX))
        memset(x + FRAME_YMMH, 0, 256);
}

static void keep(struct dhost *h, ucontext_t *uc)
{
    struct diff_result *r = &h->out[h->cur];
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *x = (uint8_t *)uc->uc_mcontext.fpregs;

    for (unsigned n = 0; n < GPRS; n++)
        r->s.gpr[n] = (uint64_t)g[greg_of[n]];
    r->s.rip = (uint64_t)g[REG_RIP];
    r->s.rflags = (uint64_t)g[REG_EFL];
    r->s.vector = (uint8_t)g[REG_TRAPNO];
    r->s.error = (uint32_t)g[REG_ERR];
    r->s.cr2 = (uint64_t)g[REG_CR2];
    init_missing(x);
    memcpy(r->s.fx, x, DIFF_FX);
    memcpy(r->s.ymmh, x + FRAME_YMMH, DIFF_YMMH);
    memcpy(r->data, (void *)(uintptr_t)DIFF_DATA, DIFF_DATA_BYTES);
    r->done = true;
}

static void load(struct dhost *h, ucontext_t *uc)
{
    const struct diff_case *c = &h->cases[h->cur];
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *x = (uint8_t *)uc->uc_mcontext.fpregs;
    uint64_t bv = XCR0_ALL;

    for (unsigned n = 0; n < GPRS; n++)
        g[greg_of[n]] = (greg_t)c->in.gpr[n];
    g[REG_RIP] = (greg_t)c->in.rip;
    g[REG_EFL] = (greg_t)c->in.rflags;
    g[REG_CSGSFS] = (greg_t)((c->c32 ? DIFF_CS32 : DIFF_CS64) | (uint64_t)DIFF_DS << 48);
    uc->uc_flags |= UC_STRICT_SS;
    memcpy(x, c->in.fx, DIFF_FX);
    memcpy(x + FRAME_HDR, &bv, 8);
    memcpy(x + FRAME_YMMH, c->in.ymmh, DIFF_YMMH);
    memcpy((void *)(uintptr_t)DIFF_DATA, h->pool + c->pool_at, DIFF_RW_BYTES);
}

/* NT and ID are not among what a signal frame restores. */
static void plain_flags(void)
{
    __asm__ volatile("pushq $0x202\n popfq" ::: "memory", "cc");
}

static void on_signal(int sig, siginfo_t *info, void *ctx)
{
    struct dhost *h = the_host;

    plain_flags();
    if (h->running)
        keep(h, ctx);
    h->running = true;
    if (++h->cur >= (int)h->n)
        _exit(0);
    load(h, ctx);
}

static void on_alarm(int sig)
{
    _exit(1);
}

static void child_maps(struct dhost *h)
{
    int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    void *data = (void *)(uintptr_t)DIFF_DATA;

    if (mmap((void *)(uintptr_t)DIFF_CODE, DIFF_CODE_BYTES, PROT_READ | PROT_EXEC,
             MAP_SHARED | MAP_POPULATE | MAP_FIXED_NOREPLACE, h->code_fd, 0) == MAP_FAILED ||
        mmap(data, DIFF_DATA_BYTES, PROT_READ | PROT_WRITE, fixed, -1, 0) == MAP_FAILED)
        _exit(2);
    memcpy(data, h->pool, DIFF_DATA_BYTES);
    memcpy((uint8_t *)data + DIFF_RW_BYTES, h->pool, DIFF_DATA_BYTES - DIFF_RW_BYTES);
    if (mprotect((uint8_t *)data + DIFF_RW_BYTES, DIFF_DATA_BYTES - DIFF_RW_BYTES, PROT_READ) < 0)
        _exit(2);
}

static _Noreturn void child(struct dhost *h)
{
    static const int sigs[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction alarm_sa = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK};
    struct itimerval limit = {.it_value = {.tv_sec = LIMIT_S}};
    stack_t ss = {.ss_sp = h->stack, .ss_size = ALT_STACK};
    uint16_t ds = DIFF_DS;

    child_maps(h);
    the_host = h;
    if (sigaltstack(&ss, NULL) < 0 || syscall(SYS_arch_prctl, ARCH_SET_GS, DIFF_DATA) < 0 ||
        sigaction(SIGALRM, &alarm_sa, NULL) < 0 || setitimer(ITIMER_REAL, &limit, NULL) < 0)
        _exit(2);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned n = 0; n < sizeof(sigs) / sizeof(sigs[0]); n++)
        if (sigaction(sigs[n], &sa, NULL) < 0)
            _exit(2);
    __asm__ volatile("mov %0, %%ds\n mov %0, %%es\n int3" ::"r"(ds) : "memory");
    _exit(2);
}

/* A child that runs the cases from `from` on. Errors: negative errno. */
static int run_child(struct dhost *h, unsigned from)
{
    int status;

    h->cur = (int)from - 1;
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        child(h);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int dhost_run(struct dhost *h, const struct diff_case *cases, unsigned n, struct diff_result *out)
{
    for (unsigned k = 0; k < n; k++) {
        memcpy(h->code + (cases[k].in.rip - DIFF_CODE), cases[k].code, DIFF_CASE_BYTES);
        h->out[k].done = false;
    }
    h->cases = cases;
    h->n = n;
    for (unsigned k = 0; k < n;) {
        int r = run_child(h, k);

        if (r < 0)
            return r;
        while (k < n && h->out[k].done)
            k++;
        k++; /* the one it died of, if it did not reach the end */
    }
    memcpy(out, h->out, n * sizeof(*out));
    return 0;
}

int dhost_new(const struct dgen *g, struct dhost **ret)
{
    struct dhost *h = calloc(1, sizeof(*h));

    if (!h)
        return -ENOMEM;
    h->pool = g->pool;
    h->code_fd = memfd_create("diff-code", MFD_CLOEXEC);
    if (h->code_fd < 0 || ftruncate(h->code_fd, DIFF_CODE_BYTES) < 0)
        return -errno;
    h->code = mmap(NULL, DIFF_CODE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, h->code_fd, 0);
    h->out = mmap(NULL, DIFF_BATCH * sizeof(*h->out), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    h->stack = malloc(ALT_STACK);
    if (h->code == MAP_FAILED || h->out == MAP_FAILED || !h->stack)
        return -ENOMEM;
    *ret = h;
    return 0;
}

void dhost_free(struct dhost *h)
{
    if (!h)
        return;
    (void)munmap(h->code, DIFF_CODE_BYTES);
    (void)munmap(h->out, DIFF_BATCH * sizeof(*h->out));
    free(h->stack);
    (void)close(h->code_fd);
    free(h);
}
