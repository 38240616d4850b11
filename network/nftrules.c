#include "network/nftrules.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "network/netprog.h"

/* Sets and maps, in nft.h's terms: bridge.c and publish.c fill them. The two IP families differ in
 * words alone, so that one text serves both: FAM is ip or ip6, ADDR its address type. */
static const char routed[] =
    "add table FAM kiln\n"
    /* host port -> container; `ports_on` for one address of the host */
    "add map FAM kiln ports { type inet_proto . inet_service : ADDR . inet_service; }\n"
    "add map FAM kiln ports_on "
    "{ type ADDR . inet_proto . inet_service : ADDR . inet_service; }\n"
    "add set FAM kiln subnets { type ADDR; flags interval; }\n"
    "add set FAM kiln same { type ifname . ifname; }\n" /* each bridge with itself */
    "add set FAM kiln internal { type ifname; }\n"
    "add chain FAM kiln raw { type filter hook prerouting priority raw; }\n"
    "add chain FAM kiln prerouting { type nat hook prerouting priority dstnat; }\n"
    "add chain FAM kiln output { type nat hook output priority -100; }\n"
    "add chain FAM kiln postrouting { type nat hook postrouting priority srcnat; }\n"
    "add chain FAM kiln forward { type filter hook forward priority filter; }\n"
    "add chain FAM kiln publish\n"
    "flush table FAM kiln\n"
    /* route_localnet lets published ports work at 127.0.0.1; nothing else may come of it */
    "add rule FAM kiln raw iifname \"kn-*\" FAM daddr LOOPBACK drop\n"
    "add rule FAM kiln prerouting fib daddr type local jump publish\n"
    "add rule FAM kiln output fib daddr type local jump publish\n"
    "add rule FAM kiln publish meta l4proto { tcp, udp } "
    "dnat FAM to FAM daddr . meta l4proto . th dport map @ports_on\n"
    "add rule FAM kiln publish meta l4proto { tcp, udp } "
    "dnat FAM to meta l4proto . th dport map @ports\n"
    "add rule FAM kiln postrouting ct status dnat oifname \"kn-*\" FAM saddr LOOPBACK masquerade\n"
    /* a container at a port that another of its network, or itself, has published */
    "add rule FAM kiln postrouting ct status dnat oifname \"kn-*\" FAM saddr @subnets masquerade\n"
    "add rule FAM kiln postrouting FAM saddr @subnets oifname != \"kn-*\" "
    "FAM daddr != MULTICAST masquerade\n"
    "add rule FAM kiln forward iifname . oifname @same accept\n"
    "add rule FAM kiln forward iifname @internal drop\n"
    "add rule FAM kiln forward oifname @internal drop\n"
    "add rule FAM kiln forward oifname \"kn-*\" ct state established,related accept\n"
    "add rule FAM kiln forward oifname \"kn-*\" ct status dnat accept\n"
    "add rule FAM kiln forward oifname \"kn-*\" drop\n";

/* What a container sends bears its own addresses, or nothing passes: checked before the bridge
 * learns from the frame (it does behind this hook). */
static const char bridged[] =
    "add table bridge kiln\n"
    "add set bridge kiln macs { type ifname . ether_addr; }\n"
    "add set bridge kiln arps { type ifname . ether_addr . ipv4_addr; }\n"
    "add set bridge kiln ip4s { type ifname . ipv4_addr; }\n"
    "add set bridge kiln ip6s { type ifname . ipv6_addr; }\n"
    "add set bridge kiln targets { typeof iifname . @th,64,128; }\n"
    "add chain bridge kiln prerouting { type filter hook prerouting priority -300; }\n"
    "add set bridge kiln same { type ifname . ifname; }\n" /* each port with itself */
    "add chain bridge kiln forward { type filter hook forward priority -200; }\n"
    "add chain bridge kiln guard\n"
    "flush table bridge kiln\n"
    /* a port gets back what it sent to itself, not what it sent to all */
    "add rule bridge kiln forward ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 "
    "iifname . oifname @same drop\n"
    "add rule bridge kiln prerouting iifname \"kt-*\" jump guard\n"
    "add rule bridge kiln prerouting iifname \"kp-*\" jump guard\n"
    "add rule bridge kiln guard iifname . ether saddr != @macs drop\n"
    "add rule bridge kiln guard ether type != { arp, ip, ip6 } drop\n"
    "add rule bridge kiln guard ether type arp "
    "iifname . arp saddr ether . arp saddr ip != @arps drop\n"
    "add rule bridge kiln guard ether type ip iifname . ip saddr != @ip4s drop\n"
    "add rule bridge kiln guard udp sport 67 drop\n" /* it is no DHCP server */
    "add rule bridge kiln guard ether type ip6 iifname . ip6 saddr != @ip6s drop\n"
    "add rule bridge kiln guard icmpv6 type { nd-router-advert, nd-redirect } drop\n"
    "add rule bridge kiln guard icmpv6 type nd-neighbor-advert "
    "iifname . @th,64,128 != @targets drop\n";

static const struct {
    const char *word, *ip, *ip6;
} words[] = {
    {"FAM", "ip", "ip6"},
    {"ADDR", "ipv4_addr", "ipv6_addr"},
    {"LOOPBACK", "127.0.0.0/8", "::1"},
    {"MULTICAST", "224.0.0.0/4", "ff00::/8"},
};

static void put_routed(FILE *f, bool ip6)
{
    for (const char *p = routed; *p;) {
        size_t i, n = 0;

        for (i = 0; i < ARRAY_LEN(words) && n == 0; i++)
            if (strncmp(p, words[i].word, strlen(words[i].word)) == 0)
                n = strlen(words[i].word);
        if (n > 0)
            fputs(ip6 ? words[i - 1].ip6 : words[i - 1].ip, f);
        else
            putc(*p, f);
        p += n ? n : 1;
    }
}

int nftrules_load(struct err *e)
{
    static const char *const nft[] = {"nft", "-f", "-", NULL};
    CLEANUP(mem) char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return err_errno(e, -ENOMEM, "nftables");
    put_routed(f, false);
    if (access("/proc/sys/net/ipv6", F_OK) == 0)
        put_routed(f, true);
    fputs(bridged, f);
    if (fclose(f) != 0)
        return err_errno(e, -ENOMEM, "nftables");
    int r = netprog_feed(nft, text, len, e);
    return r < 0 ? err_wrap(e, r, "nftables") : 0;
}

void nftrules_unload(void)
{
    static const char *const nft[] = {"nft", "-f", "-", NULL};
    /* Adding first makes deleting what is not there no error. */
    static const char text[] = "add table ip kiln\ndelete table ip kiln\n"
                               "add table ip6 kiln\ndelete table ip6 kiln\n"
                               "add table bridge kiln\ndelete table bridge kiln\n";

    (void)netprog_feed(nft, text, sizeof(text) - 1, NULL);
}
