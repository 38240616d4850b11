/* kiln check: a line for each layer of the jail that machines live in. */
#include "cmd/checks.h"
#include "jail/jail.h"

static void show(struct check_result *r, enum jail_layer layer)
{
    struct jail_state s[JAIL_LAYERS];
    struct err e = {0};

    if (jail_probe(s, &e) < 0) {
        check_says(r, CHECK_WARN, "%s", e.msg);
        return;
    }
    check_says(r, s[layer].on ? CHECK_OK : CHECK_WARN, "%s: %s", s[layer].on ? "on" : "off",
               s[layer].text);
    if (!s[layer].on)
        check_fix(r, "%s", s[layer].fix);
}

void checkjail_user(struct check_result *r)
{
    show(r, JAIL_USER);
}

void checkjail_pid(struct check_result *r)
{
    show(r, JAIL_PID);
}

void checkjail_mount(struct check_result *r)
{
    show(r, JAIL_MOUNT);
}

void checkjail_net(struct check_result *r)
{
    show(r, JAIL_NET);
}

void checkjail_caps(struct check_result *r)
{
    show(r, JAIL_CAPS);
}

void checkjail_seccomp(struct check_result *r)
{
    show(r, JAIL_SECCOMP);
}

void checkjail_landlock(struct check_result *r)
{
    show(r, JAIL_LANDLOCK);
}

void checkjail_mdwe(struct check_result *r)
{
    show(r, JAIL_MDWE);
}
