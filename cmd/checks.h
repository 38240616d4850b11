/* cmd/checks.h - what `kiln check` looks at: a table of probes, and the report over it. */
#ifndef CMD_CHECKS_H
#define CMD_CHECKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum check_status {
    CHECK_OK,
    CHECK_WARN,    /* `kiln run` works; something is slower or left out */
    CHECK_MISSING, /* `kiln run` will not work */
};

enum { CHECK_TEXT_MAX = 512 };

struct check_result {
    enum check_status status;
    char text[CHECK_TEXT_MAX]; /* what was found */
    char fix[CHECK_TEXT_MAX];  /* what to do; empty when there is nothing to do */
};

struct check_item {
    const char *name;
    void (*probe)(struct check_result *r); /* r comes as CHECK_OK with empty texts */
};

/* checkjail.c: the layers of jail/jail.h, each tried out. */
void checkjail_user(struct check_result *r);
void checkjail_pid(struct check_result *r);
void checkjail_mount(struct check_result *r);
void checkjail_net(struct check_result *r);
void checkjail_caps(struct check_result *r);
void checkjail_seccomp(struct check_result *r);
void checkjail_landlock(struct check_result *r);
void checkjail_mdwe(struct check_result *r);

/* This host's. */
extern const struct check_item checks_host[];
extern const size_t checks_host_n;

/* Run all and print a line each, or one JSON document. True: nothing is missing. */
bool checks_report(const struct check_item *items, size_t n, bool json, FILE *out);

/* For probes: fill *r. */
__attribute__((format(printf, 3, 4))) void check_says(struct check_result *r, enum check_status s,
                                                      const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void check_fix(struct check_result *r, const char *fmt, ...);

#endif
