/* Instructions of a Dockerfile that change an image's settings. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "container/commit.h"

/* A JSON list as it stands, else a shell's line. */
static json_t *words_of(const char *text)
{
    json_t *list = json_loads(text, 0, NULL);

    if (json_is_array(list))
        return list;
    json_decref(list);
    return json_pack("[s, s, s]", "/bin/sh", "-c", text);
}

/* "K=V", "K V", "K=\"V W\"": the pair in place. */
static bool split_pair(char *text, char **key, char **value)
{
    size_t n = strcspn(text, "= \t");

    if (n == 0 || !text[n])
        return false;
    text[n] = '\0';
    *key = text;
    *value = text + n + 1;
    size_t len = strlen(*value);
    if (len >= 2 && (**value == '"' || **value == '\'') && (*value)[len - 1] == **value) {
        (*value)[len - 1] = '\0';
        ++*value;
    }
    return true;
}

static int set_env(json_t *config, char *text)
{
    json_t *list = json_object_get(config, "Env");
    CLEANUP(mem) char *whole = NULL;
    char *key, *value;
    size_t i = 0;

    if (!split_pair(text, &key, &value))
        return -EINVAL;
    if (asprintf(&whole, "%s=%s", key, value) < 0)
        return -ENOMEM;
    if (!json_is_array(list)) {
        list = json_array();
        json_object_set_new(config, "Env", list);
    }
    for (; i < json_array_size(list); i++) {
        const char *have = json_string_value(json_array_get(list, i));

        if (have && strncmp(have, key, strlen(key)) == 0 && have[strlen(key)] == '=')
            break;
    }
    json_t *word = json_string(whole);
    return (i < json_array_size(list) ? json_array_set_new(list, i, word)
                                      : json_array_append_new(list, word)) < 0
               ? -EINVAL
               : 0;
}

/* A member of an object in the configuration: labels, ports, volumes. */
static int set_member(json_t *config, const char *object, const char *key, json_t *value)
{
    json_t *o = json_object_get(config, object);

    if (!json_is_object(o)) {
        o = json_object();
        json_object_set_new(config, object, o);
    }
    return json_object_set_new(o, key, value) < 0 ? -EINVAL : 0;
}

static int set_label(json_t *config, char *text)
{
    char *key, *value;

    return split_pair(text, &key, &value) ? set_member(config, "Labels", key, json_string(value))
                                          : -EINVAL;
}

/* Each word: "80", "53/udp". */
static int set_ports(json_t *config, char *text)
{
    int r = 0;

    for (char *word; r == 0 && (word = strsep(&text, " \t"));) {
        CLEANUP(mem) char *port = NULL;
        char *end;
        unsigned long n = strtoul(word, &end, 10);

        if (!word[0])
            continue;
        if (n == 0 || n > 65535 || (*end && strcmp(end, "/tcp") != 0 && strcmp(end, "/udp") != 0))
            return -EINVAL;
        if (asprintf(&port, "%lu%s", n, *end ? end : "/tcp") < 0)
            return -ENOMEM;
        r = set_member(config, "ExposedPorts", port, json_object());
    }
    return r;
}

static int set_volumes(json_t *config, char *text)
{
    json_t *list = json_loads(text, 0, NULL);
    int r = 0;

    if (!json_is_array(list)) {
        json_decref(list);
        return text[0] == '/' ? set_member(config, "Volumes", text, json_object()) : -EINVAL;
    }
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
        const char *path = json_string_value(json_array_get(list, i));
        r = path && path[0] == '/' ? set_member(config, "Volumes", path, json_object()) : -EINVAL;
    }
    json_decref(list);
    return r;
}

static int set_text(json_t *config, const char *member, const char *text)
{
    return text[0] && json_object_set_new(config, member, json_string(text)) == 0 ? 0 : -EINVAL;
}

static int apply(json_t *config, const char *what, char *text)
{
    if (strcasecmp(what, "CMD") == 0)
        return json_object_set_new(config, "Cmd", words_of(text)) < 0 ? -EINVAL : 0;
    if (strcasecmp(what, "ENTRYPOINT") == 0)
        return json_object_set_new(config, "Entrypoint", words_of(text)) < 0 ? -EINVAL : 0;
    if (strcasecmp(what, "ENV") == 0)
        return set_env(config, text);
    if (strcasecmp(what, "LABEL") == 0)
        return set_label(config, text);
    if (strcasecmp(what, "EXPOSE") == 0)
        return set_ports(config, text);
    if (strcasecmp(what, "VOLUME") == 0)
        return set_volumes(config, text);
    if (strcasecmp(what, "USER") == 0)
        return set_text(config, "User", text);
    if (strcasecmp(what, "WORKDIR") == 0)
        return text[0] == '/' ? set_text(config, "WorkingDir", text) : -EINVAL;
    if (strcasecmp(what, "STOPSIGNAL") == 0)
        return set_text(config, "StopSignal", text);
    return -ENOTSUP;
}

int commit_change(json_t *config, const char *text, struct err *e)
{
    CLEANUP(mem) char *copy = strdup(text);

    if (!copy)
        return err_errno(e, -ENOMEM, "%s", text);
    char *what = copy + strspn(copy, " \t"), *rest = what + strcspn(what, " \t=");
    if (*rest) {
        *rest++ = '\0';
        rest += strspn(rest, " \t");
    }
    int r = apply(config, what, rest);
    if (r == -ENOTSUP)
        return err_set(e, -EINVAL,
                       "'%s' is not a valid change command: those are CMD, ENTRYPOINT, ENV, "
                       "EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR",
                       what);
    return r < 0 ? err_set(e, r, "change '%s': what is behind %s is not what belongs there", text,
                           what)
                 : 0;
}
