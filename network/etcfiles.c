#include "network/etcfiles.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "network/ipaddr.h"

enum { HOST_RESOLV_MAX = 65536, ADD_HOSTS_MAX = 1024, WORD_MAX = 255 };

int etcfiles_check_word(const char *what, const char *text, struct err *e)
{
    size_t n = strlen(text);

    for (size_t i = 0; i < n; i++)
        if (!isgraph((unsigned char)text[i]) || text[i] == '#')
            return err_set(e, -EINVAL, "%s '%s' holds a character that it may not", what, text);
    if (n == 0 || n > WORD_MAX)
        return err_set(e, -EINVAL, "%s '%s' is empty or too long", what, text);
    return 0;
}

static int put_words(FILE *f, const char *directive, char *const *list, struct err *e)
{
    if (!list || !list[0])
        return 0;
    fputs(directive, f);
    for (char *const *s = list; *s; s++) {
        int r = etcfiles_check_word(directive, *s, e);

        if (r < 0)
            return r;
        fprintf(f, " %s", *s);
    }
    putc('\n', f);
    return 0;
}

static void copy_host_resolv(FILE *f)
{
    CLEANUP(file) FILE *in = fopen("/etc/resolv.conf", "re");
    char line[1024];
    size_t total = 0;

    while (in && fgets(line, sizeof(line), in) && (total += strlen(line)) < HOST_RESOLV_MAX)
        fputs(line, f);
}

static int put_resolv(FILE *f, const struct network_want *w, const char *const *servers,
                      struct err *e)
{
    int r = put_words(f, "search", w->dns_search, e);

    for (const char *const *s = servers; s && *s; s++)
        fprintf(f, "nameserver %s\n", *s);
    for (char *const *s = w->dns; !servers && s && *s; s++) {
        r = ipaddr_parse(*s, 0, &(struct ipaddr){0}, e);
        if (r < 0)
            return r;
        fprintf(f, "nameserver %s\n", *s);
    }
    if (!servers && !(w->dns && w->dns[0]))
        copy_host_resolv(f);
    return r < 0 ? r : put_words(f, "options", w->dns_options, e);
}

/* NAME:IP, or NAME:host-gateway. */
static int put_host(FILE *f, const char *entry, const struct network_lease *l, struct err *e)
{
    const char *ip = strchr(entry, ':');
    CLEANUP(mem) char *name = strndup(entry, ip ? (size_t)(ip - entry) : 0);

    if (!name)
        return err_errno(e, -ENOMEM, "hosts");
    if (!ip || ip == entry)
        return err_set(e, -EINVAL, "bad format for add-host: \"%s\"", entry);
    ip++;
    if (strcmp(ip, "host-gateway") == 0)
        ip = l->gateway[0] ? l->gateway : l->gateway6[0] ? l->gateway6 : "127.0.0.1";
    if (ipaddr_parse(ip, 0, &(struct ipaddr){0}, NULL) < 0)
        return err_set(e, -EINVAL, "invalid IP address in add-host: \"%s\"", ip);
    int r = etcfiles_check_word("add-host", name, e);
    if (r == 0)
        fprintf(f, "%s\t%s\n", ip, name);
    return r;
}

static int put_hosts(FILE *f, const struct network_want *w, const struct network_lease *l,
                     struct err *e)
{
    char short_id[13] = "";
    const char *host = w->hostname ? w->hostname : short_id;
    unsigned n = 0;
    int r;

    snprintf(short_id, sizeof(short_id), "%s", w->id);
    r = etcfiles_check_word("hostname", host, e);
    fputs("127.0.0.1\tlocalhost\n"
          "::1\tlocalhost ip6-localhost ip6-loopback\n"
          "fe00::\tip6-localnet\n"
          "ff00::\tip6-mcastprefix\n"
          "ff02::1\tip6-allnodes\n"
          "ff02::2\tip6-allrouters\n",
          f);
    for (char *const *s = w->add_hosts; r == 0 && s && *s; s++)
        r = ++n > ADD_HOSTS_MAX ? err_set(e, -E2BIG, "more than %d --add-host", ADD_HOSTS_MAX)
                                : put_host(f, *s, l, e);
    if (r < 0)
        return r;
    if (l->ip[0])
        fprintf(f, "%s\t%s\n", l->ip, host);
    if (l->ip6[0])
        fprintf(f, "%s\t%s\n", l->ip6, host);
    if (!l->ip[0] && !l->ip6[0])
        fprintf(f, "127.0.1.1\t%s\n", host);
    return 0;
}

int etcfiles_make(const struct network_want *w, const char *const *servers, struct network_lease *l,
                  struct err *e)
{
    CLEANUP(mem) char *resolv = NULL;
    CLEANUP(mem) char *hosts = NULL;
    size_t len;
    FILE *f = open_memstream(&resolv, &len);
    FILE *g = open_memstream(&hosts, &len);
    int r = f && g ? 0 : err_errno(e, -ENOMEM, "resolv.conf");

    if (r == 0)
        r = put_resolv(f, w, servers, e);
    if (r == 0)
        r = put_hosts(g, w, l, e);
    if (f && fclose(f) != 0 && r == 0)
        r = err_errno(e, -ENOMEM, "resolv.conf");
    if (g && fclose(g) != 0 && r == 0)
        r = err_errno(e, -ENOMEM, "hosts");
    if (r == 0) {
        l->resolv = take_ptr(&resolv);
        l->hosts = take_ptr(&hosts);
    }
    return r;
}
