#include "cmd/stopflags.h"

#include "cmd/verb.h"
#include "container/signame.h"

static int set_signal(void *number, const char *value, struct err *e)
{
    return signame_parse(value, number, e);
}

static const struct flag flags[] = {
    {"time", 't', "SECONDS", "until it is killed, -1: never (default 10)",
     FLAG_INT(struct stop_args, timeout, -1, INT32_MAX)},
    {"timeout", 0, "SECONDS", NULL, FLAG_INT(struct stop_args, timeout, -1, INT32_MAX)},
    {"signal", 's', "SIGNAL", "what it is asked with (default TERM)",
     FLAG_AT(struct stop_args, signal, set_signal), .values = "@signal"},
    {0},
};
const struct flag_group stopflags = {NULL, flags};

json_t *stopflags_request(const char *op, const struct stop_args *a)
{
    json_t *req = json_pack("{s:s}", "op", op);

    if (a->signal)
        json_object_set_new(req, "signal", json_integer(a->signal));
    if (a->timeout != INT64_MIN)
        json_object_set_new(req, "timeout_s", json_integer(a->timeout));
    return req;
}
