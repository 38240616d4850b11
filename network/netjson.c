#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "network/netconf.h"
#include "network/nftrules.h"

/* The members are named as podman's network files have them. */

static json_t *subnet_json(const struct ipaddr *subnet, const struct ipaddr *gateway,
                           const struct ipaddr *range)
{
    char net[IPADDR_CIDR_TEXT], gw[IPADDR_TEXT], from[IPADDR_CIDR_TEXT];

    return json_pack("{s:s, s:s, s:s}", "subnet", ipaddr_cidr(subnet, net), "gateway",
                     ipaddr_text(gateway, gw), "range", ipaddr_cidr(range, from));
}

static json_t *labels_json(const struct strv *labels)
{
    json_t *o = json_object();

    for (size_t i = 0; o && i < labels->n; i++) {
        const char *eq = strchr(labels->v[i], '=');
        CLEANUP(mem) char *key = strndup(labels->v[i], strcspn(labels->v[i], "="));

        if (!key || json_object_set_new(o, key, json_string(eq ? eq + 1 : "")) < 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

json_t *netconf_to_json(const struct netconf *c)
{
    json_t *subnets = json_array();

    if (c->subnet.family)
        (void)json_array_append_new(subnets, subnet_json(&c->subnet, &c->gateway, &c->range));
    if (c->subnet6.family)
        (void)json_array_append_new(subnets, subnet_json(&c->subnet6, &c->gateway6, &c->range6));
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:o, s:b, s:b, s:I, s:o}", "name", c->name, "id",
                     c->id, "driver", "bridge", "network_interface", c->interface, "created_ns",
                     (json_int_t)c->created_ns, "subnets", subnets, "ipv6_enabled",
                     c->subnet6.family != 0, "internal", c->internal, "mtu", (json_int_t)c->mtu,
                     "labels", labels_json(&c->labels));
}

static int bad(struct err *e, const char *member)
{
    return err_set(e, -EBADMSG, "member '%s' is missing or damaged", member);
}

static bool copy(char *to, size_t size, const json_t *j, const char *member)
{
    const char *text = json_string_value(json_object_get(j, member));

    if (!text || !text[0] || strlen(text) >= size)
        return false;
    memcpy(to, text, strlen(text) + 1);
    return true;
}

static int subnet_from(const json_t *j, struct netconf *c, struct err *e)
{
    const char *net = json_string_value(json_object_get(j, "subnet"));
    const char *gw = json_string_value(json_object_get(j, "gateway"));
    const char *from = json_string_value(json_object_get(j, "range"));
    struct ipaddr a, g, f;

    if (!net || !gw || !from || ipaddr_parse_cidr(net, &a, NULL) < 0 ||
        ipaddr_parse(gw, a.family, &g, NULL) < 0 || ipaddr_parse_cidr(from, &f, NULL) < 0 ||
        !ipaddr_contains(&a, &g) || !ipaddr_contains(&a, &f))
        return bad(e, "subnets");
    g.bits = a.bits;
    *(a.family == AF_INET ? &c->subnet : &c->subnet6) = ipaddr_network(&a);
    *(a.family == AF_INET ? &c->gateway : &c->gateway6) = g;
    *(a.family == AF_INET ? &c->range : &c->range6) = ipaddr_network(&f);
    return 0;
}

static int labels_from(json_t *j, struct netconf *c, struct err *e)
{
    const char *key;
    json_t *value;

    json_object_foreach(j, key,
                        value) if (!json_is_string(value) ||
                                   strv_addf(&c->labels, "%s=%s", key, json_string_value(value)) <
                                       0) return bad(e, "labels");
    return 0;
}

static int read_all(const json_t *j, struct netconf *c, struct err *e)
{
    json_int_t mtu = json_integer_value(json_object_get(j, "mtu"));
    const json_t *subnets = json_object_get(j, "subnets");
    int r = 0;

    if (!copy(c->name, sizeof(c->name), j, "name"))
        return bad(e, "name");
    if (strcmp(c->name, NETCONF_DEFAULT) != 0 && netconf_check_name(c->name, e) < 0)
        return -EBADMSG;
    if (!copy(c->id, sizeof(c->id), j, "id"))
        return bad(e, "id");
    if (!copy(c->interface, sizeof(c->interface), j, "network_interface") ||
        strncmp(c->interface, NFTRULES_BRIDGE, strlen(NFTRULES_BRIDGE)) != 0 ||
        strchr(c->interface, '/'))
        return bad(e, "network_interface");
    if (mtu < 0 || mtu > NETCONF_MTU_MAX)
        return bad(e, "mtu");
    c->mtu = (unsigned)mtu;
    c->internal = json_is_true(json_object_get(j, "internal"));
    c->created_ns = json_integer_value(json_object_get(j, "created_ns"));
    for (size_t i = 0; r == 0 && i < json_array_size(subnets); i++)
        r = subnet_from(json_array_get(subnets, i), c, e);
    if (r == 0 && !c->subnet.family && !c->subnet6.family)
        r = bad(e, "subnets");
    return r < 0 ? r : labels_from(json_object_get(j, "labels"), c, e);
}

int netconf_from_json(const json_t *j, struct netconf *out, struct err *e)
{
    struct netconf c = {0};
    int r = read_all(j, &c, e);

    if (r < 0)
        netconf_done(&c);
    else
        *out = c;
    return r;
}
