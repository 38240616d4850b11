#include "cmd/complete.h"

#include <string.h>

#include "base/cleanup.h"
#include "cmd/flag.h"
#include "cmd/verb.h"

void complete_word(struct complete *c, const char *word, const char *what)
{
    size_t n = strlen(word);

    if (strncmp(word, c->prefix, strlen(c->prefix)) != 0 || strpbrk(word, "\t\n"))
        return;
    fprintf(c->out, "%s%s\t%s\n", c->before, word, what);
    if (n && (word[n - 1] == '=' || word[n - 1] == ':'))
        c->nospace = true;
}

static const char *last_word(const char *name)
{
    const char *space = strrchr(name, ' ');

    return space ? space + 1 : name;
}

static void verbs(struct complete *c)
{
    for (size_t i = 0; i < verbs_n; i++) {
        const struct verb *v = &verbs_table[i];

        if (v->command)
            complete_word(c, v->command->name, v->command->summary);
        else if (v->name)
            complete_word(c, v->name, v->summary);
    }
    complete_word(c, "help", "explain a command");
    complete_word(c, "--help", "the commands");
    complete_word(c, "--version", "the version");
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < verbs_n; i++)
        if (verbs_table[i].command && strcmp(verbs_table[i].command->name, name) == 0)
            return verbs_table[i].command;
    return NULL;
}

static void flags(struct complete *c, const struct command *cmd)
{
    for (size_t i = 0; i < FLAG_GROUPS_MAX && cmd->groups[i].group; i++) {
        for (const struct flag *f = cmd->groups[i].group->flags; f->name; f++) {
            char word[80];

            if (!f->help)
                continue;
            snprintf(word, sizeof(word), "--%s", f->name);
            complete_word(c, word, f->help);
            snprintf(word, sizeof(word), "-%c", f->letter);
            if (f->letter)
                complete_word(c, word, f->help);
        }
    }
    complete_word(c, "--help", "this text");
}

/* The flag whose value the next word is: "--name", "-n", "-itn". */
static const struct flag *awaits_value(const struct command *cmd, const char *word)
{
    const struct flag *f = NULL;

    if (strncmp(word, "--", 2) == 0)
        return strchr(word, '=') ? NULL : flag_find(cmd, word + 2, strlen(word + 2), 0, NULL);
    for (const char *s = word + 1; *s; s++) {
        f = flag_find(cmd, NULL, 0, *s, NULL);
        if (!f)
            return NULL;
        if (f->meta)
            return s[1] ? NULL : f;
    }
    return f;
}

/* The kind of the operand of this number; the last one named repeats. */
static void operand(struct complete *c, const struct command *cmd, int n)
{
    const char *kind = cmd->values ? cmd->values : "";

    if (cmd->max_operands != FLAG_MANY && n >= cmd->max_operands)
        return;
    for (; n > 0 && strchr(kind, ' '); n--)
        kind = strchr(kind, ' ') + 1;
    complete_kind(c, kind, strcspn(kind, " "));
}

static void value(struct complete *c, const struct flag *f)
{
    if (f->values)
        complete_kind(c, f->values, strlen(f->values));
}

/* The words of a verb, the last being the one to complete. */
static void words(struct complete *c, const struct command *cmd, int n, char **word)
{
    const struct flag *awaited = NULL;
    const char *last = word[n - 1], *equal = strchr(last, '=');
    bool only_operands = false;
    int operands = 0;

    if (cmd->sub && n > 1) {
        for (size_t i = 0; cmd->sub[i]; i++)
            if (strcmp(last_word(cmd->sub[i]->name), word[0]) == 0)
                words(c, cmd->sub[i], n - 1, word + 1);
        return;
    }
    for (size_t i = 0; cmd->sub && cmd->sub[i]; i++)
        complete_word(c, last_word(cmd->sub[i]->name), cmd->sub[i]->summary);
    for (int i = 0; i < n - 1; i++) {
        if (awaited) {
            awaited = NULL;
        } else if (!only_operands && word[i][0] == '-' && word[i][1]) {
            only_operands = strcmp(word[i], "--") == 0;
            awaited = awaits_value(cmd, word[i]);
            if (awaited && !awaited->meta)
                awaited = NULL;
        } else {
            operands++;
            only_operands |= cmd->flags_first;
        }
    }
    if (awaited) {
        value(c, awaited);
    } else if (!only_operands && strncmp(last, "--", 2) == 0 && equal) {
        const struct flag *f = flag_find(cmd, last + 2, (size_t)(equal - last - 2), 0, NULL);
        CLEANUP(mem) char *before = strndup(last, (size_t)(equal - last) + 1);

        if (!f || !before)
            return;
        c->before = before;
        c->prefix = equal + 1;
        if (f->meta)
            value(c, f);
        else
            complete_kind(c, "true false", 10);
    } else if (!only_operands && last[0] == '-') {
        flags(c, cmd);
    } else if (!cmd->sub) {
        operand(c, cmd, operands);
    }
}

int complete_main(int argc, char **argv)
{
    struct complete c = {.out = stdout, .prefix = "", .before = ""};
    int n = argc - 1;
    char **word = argv + 1;

    if (n > 0)
        c.prefix = word[n - 1];
    if (n > 1 && strcmp(word[0], "help") == 0) {
        word++;
        n--;
        if (n > 1) { /* a verb of a verb: its flags are not wanted */
            const struct command *cmd = find(word[0]);

            if (cmd && cmd->sub)
                words(&c, cmd, n - 1, word + 1);
            n = 0;
        }
    }
    if (n == 1)
        verbs(&c);
    else if (n > 1 && find(word[0]))
        words(&c, find(word[0]), n - 1, word + 1);
    printf(":%s%s%s\n", c.files ? " files" : "", c.dirs ? " dirs" : "",
           c.nospace ? " nospace" : "");
    return 0;
}
