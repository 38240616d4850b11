/* kiln port: where a container's ports can be reached on this host. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/flag.h"
#include "cmd/verb.h"
#include "container/record.h"

static int run(int argc, char **argv);

const struct command command_port = {
    .name = "port",
    .operands = "CONTAINER [PORT[/PROTOCOL]]",
    .summary = "show a container's published ports",
    .about = "Prints each published port of a container and where it can be reached, or only\n"
             "that of one port.",
    .min_operands = 1,
    .max_operands = 2,
    .values = "@container",
    .run = run,
};

/* "80", "80/tcp", "53/udp". */
static int parse_port(const char *text, unsigned *port, bool *udp, struct err *e)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);

    *udp = strcmp(end, "/udp") == 0;
    if (v == 0 || v > 65535 || (*end && !*udp && strcmp(end, "/tcp") != 0))
        return err_set(e, -EINVAL, "invalid port: '%s': write NUMBER[/tcp|/udp]", text);
    *port = (unsigned)v;
    return 0;
}

/* docker writes both families where no address was asked for. */
static void print_port(const struct record_port *p, bool with_port)
{
    static const char *const any[] = {"0.0.0.0", "[::]"};

    for (unsigned i = 0; i < (p->host_ip[0] ? 1u : 2u); i++) {
        if (with_port)
            printf("%u/%s -> ", p->ctr_port, p->udp ? "udp" : "tcp");
        if (strchr(p->host_ip, ':'))
            printf("[%s]:%u\n", p->host_ip, p->host_port);
        else
            printf("%s:%u\n", p->host_ip[0] ? p->host_ip : any[i], p->host_port);
    }
}

static int show(const struct record *r, const char *only, struct err *e)
{
    unsigned port = 0, found = 0;
    bool udp = false;
    int rc = only ? parse_port(only, &port, &udp, e) : 0;

    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < r->state.n_ports; i++) {
        const struct record_port *p = &r->state.port[i];

        if (only && (p->ctr_port != port || p->udp != udp))
            continue;
        print_port(p, !only);
        found++;
    }
    if (only && !found)
        return err_set(e, -ENOENT, "no public port '%u/%s' published for %s", port,
                       udp ? "udp" : "tcp", r->name);
    return 0;
}

static int run(int argc, char **argv)
{
    struct err e = {0};
    struct record r;
    int at = flag_parse(&command_port, argc, argv, NULL, &e);

    if (at <= 0)
        return flag_stop(&command_port, at, &e);
    if (record_find(NULL, argv[at], RECORD_LOOK, &r, &e) < 0)
        return say_err(&e, 1);
    int rc = show(&r, at + 1 < argc ? argv[at + 1] : NULL, &e);
    record_done(&r);
    return rc < 0 ? say_err(&e, 1) : 0;
}
