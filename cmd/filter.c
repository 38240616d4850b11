#include "cmd/filter.h"

#include <errno.h>
#include <string.h>

static const char *value_for(const char *filter, const char *key)
{
    size_t n = strlen(key);

    return strncmp(filter, key, n) == 0 && filter[n] == '=' ? filter + n + 1 : NULL;
}

static bool is_key(const char *filter, const char *keys)
{
    size_t len = strcspn(filter, "=");

    for (const char *k = keys; *k; k += strcspn(k, " "), k += strspn(k, " "))
        if (strcspn(k, " ") == len && strncmp(k, filter, len) == 0)
            return true;
    return false;
}

int filter_check(const struct strv *filters, const char *keys, struct err *e)
{
    for (size_t i = 0; i < filters->n; i++) {
        const char *f = filters->v[i];

        if (!strchr(f, '='))
            return err_set(e, -EINVAL, "--filter '%s': write KEY=VALUE", f);
        if (!is_key(f, keys))
            return err_set(e, -EINVAL, "--filter '%s': there is no such filter; those are: %s", f,
                           keys);
    }
    return 0;
}

bool filter_has(const struct strv *filters, const char *key)
{
    for (size_t i = 0; i < filters->n; i++)
        if (value_for(filters->v[i], key))
            return true;
    return false;
}

bool filter_any(const struct strv *filters, const char *key,
                bool (*match)(void *ctx, const char *value), void *ctx)
{
    bool asked = false;

    for (size_t i = 0; i < filters->n; i++) {
        const char *value = value_for(filters->v[i], key);

        if (value && match(ctx, value))
            return true;
        asked |= value != NULL;
    }
    return !asked;
}

static bool equal(void *text, const char *value)
{
    return text && strcmp(text, value) == 0;
}

static bool part(void *text, const char *value)
{
    return text && strstr(text, value);
}

static bool prefix(void *text, const char *value)
{
    return text && strncmp(text, value, strlen(value)) == 0;
}

bool filter_equal(const struct strv *filters, const char *key, const char *text)
{
    return filter_any(filters, key, equal, (void *)text);
}

bool filter_part(const struct strv *filters, const char *key, const char *text)
{
    return filter_any(filters, key, part, (void *)text);
}

bool filter_prefix(const struct strv *filters, const char *key, const char *text)
{
    return filter_any(filters, key, prefix, (void *)text);
}

static bool has_label(char *const *labels, const char *wanted)
{
    size_t n = strlen(wanted);
    bool valued = strchr(wanted, '=') != NULL;

    for (size_t i = 0; labels && labels[i]; i++)
        if (strncmp(labels[i], wanted, n) == 0 &&
            (labels[i][n] == '\0' || (!valued && labels[i][n] == '=')))
            return true;
    return false;
}

bool filter_labels(const struct strv *filters, char *const *labels)
{
    for (size_t i = 0; i < filters->n; i++) {
        const char *wanted = value_for(filters->v[i], "label");

        if (wanted && !has_label(labels, wanted))
            return false;
    }
    return true;
}
