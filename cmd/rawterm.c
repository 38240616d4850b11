#include "cmd/rawterm.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"

/* What signal handlers and atexit(3) put back. */
static struct {
    struct termios before;
    volatile sig_atomic_t raw;
    bool registered;
} term;

/* xterm's control sequences: the alternate screen, the cursor. */
static const char enter_text[] = "\033[?1049h\033[?25l\033[2J";
static const char leave_text[] = "\033[0m\033[?25h\033[?1049l";

static void say_bytes(const char *text, size_t len)
{
    (void)!write(STDOUT_FILENO, text, len);
}

/* Async-signal-safe. */
void rawterm_leave(void)
{
    if (!term.raw)
        return;
    term.raw = 0;
    say_bytes(leave_text, sizeof(leave_text) - 1);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &term.before);
}

void rawterm_enter(void)
{
    struct termios t = term.before;

    cfmakeraw(&t);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &t);
    term.raw = 1;
    say_bytes(enter_text, sizeof(enter_text) - 1);
}

static void on_end(int sig)
{
    rawterm_leave();
    signal(sig, SIG_DFL);
    raise(sig);
}

int rawterm_open(struct err *e)
{
    static const int ends[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGABRT, SIGSEGV, SIGBUS, SIGFPE};

    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) ||
        tcgetattr(STDIN_FILENO, &term.before) < 0)
        return err_set(e, -ENOTTY, "this needs a terminal");
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        signal(ends[i], on_end);
    if (!term.registered)
        atexit(rawterm_leave);
    term.registered = true;
    rawterm_enter();
    return 0;
}

void rawterm_close(void)
{
    rawterm_leave();
}

int rawterm_key(const char *bytes, unsigned n, unsigned *used)
{
    static const struct {
        const char *text;
        int key;
    } known[] = {
        {"\033[A", KEY_UP},   {"\033OA", KEY_UP},       {"\033[B", KEY_DOWN},
        {"\033OB", KEY_DOWN}, {"\033[5~", KEY_PAGE_UP}, {"\033[6~", KEY_PAGE_DOWN},
        {"\033[H", KEY_HOME}, {"\033OH", KEY_HOME},     {"\033[1~", KEY_HOME},
        {"\033[F", KEY_END},  {"\033OF", KEY_END},      {"\033[4~", KEY_END},
    };

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        size_t len = strlen(known[i].text);

        if (n >= len && memcmp(bytes, known[i].text, len) == 0) {
            *used = (unsigned)len;
            return known[i].key;
        }
    }
    *used = 1;
    if (bytes[0] != '\033')
        return (unsigned char)bytes[0];
    /* ECMA-48, 5.4: a control sequence ends with a byte of 0x40 to 0x7e. */
    if (n > 1 && (bytes[1] == '[' || bytes[1] == 'O')) {
        *used = 2;
        while (*used < n && (bytes[*used] < 0x40 || bytes[*used] > 0x7e))
            (*used)++;
        *used += *used < n;
    }
    return KEY_NONE;
}
