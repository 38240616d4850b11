/* What --help prints, made from the tables of cmd/flag.h. */
#include <ctype.h>
#include <string.h>

#include "cmd/flag.h"
#include "cmd/termwidth.h"

enum { COLUMN_MAX = 34, WIDTH_MIN = 60, WIDTH_MAX = 100, INDENT = 2 };

struct layout {
    FILE *out;
    int column; /* where help texts begin */
    int width;
};

/* "-m, --memory SIZE" as it will stand in the column; returns its length. */
static int spell(char *buf, size_t len, const struct flag *f)
{
    char letter[5] = "    ";

    if (f->letter)
        snprintf(letter, sizeof(letter), "-%c, ", f->letter);
    return snprintf(buf, len, "%s--%s%s%s", letter, f->name, f->meta ? " " : "",
                    f->meta ? f->meta : "");
}

/* Words, broken at the width; the pen stands in column `at`. */
static void wrap(const struct layout *l, const char *text, int at, int indent)
{
    const char *space = "";

    while (*text) {
        int n = (int)strcspn(text, " \n");

        if (at + (int)strlen(space) + n > l->width && space[0]) {
            fprintf(l->out, "\n%*s", indent, "");
            at = indent;
            space = "";
        }
        at += fprintf(l->out, "%s%.*s", space, n, text);
        text += n;
        text += strspn(text, " \n");
        space = " ";
    }
    fputc('\n', l->out);
}

static void entry(const struct layout *l, const struct flag *f)
{
    char name[128];
    int n = INDENT + spell(name, sizeof(name), f);

    fprintf(l->out, "%*s%s", INDENT, "", name);
    if (n + 2 > l->column)
        fprintf(l->out, "\n%*s", l->column, "");
    else
        fprintf(l->out, "%*s", l->column - n, "");
    wrap(l, f->help, l->column, l->column);
}

static int column_of(const struct command *c)
{
    char name[128];
    int most = INDENT + (int)strlen("-h, --help") + 2;

    for (size_t i = 0; i < FLAG_GROUPS_MAX && c->groups[i].group; i++) {
        for (const struct flag *f = c->groups[i].group->flags; f->name; f++) {
            int n = INDENT + spell(name, sizeof(name), f) + 2;

            if (f->help && n <= COLUMN_MAX && n > most)
                most = n;
        }
    }
    return most;
}

static void groups(const struct layout *l, const struct command *c)
{
    const struct flag help = {
        .name = "help",
        .letter = flag_find(c, NULL, 0, 'h', NULL) ? 0 : 'h',
        .help = "this text",
    };
    size_t i;

    for (i = 0; i < FLAG_GROUPS_MAX && c->groups[i].group; i++) {
        const struct flag_group *g = c->groups[i].group;

        fprintf(l->out, "\n%s:\n", g->title ? g->title : "Flags");
        for (const struct flag *f = g->flags; f->name; f++)
            if (f->help)
                entry(l, f);
        if (i == 0)
            entry(l, &help);
    }
    if (i == 0 && !c->sub) {
        fputs("\nFlags:\n", l->out);
        entry(l, &help);
    }
}

void flag_help(FILE *out, const struct command *c)
{
    int width = termwidth(fileno(out), 100);
    struct layout l = {out, column_of(c), width};

    if (l.width < WIDTH_MIN)
        l.width = WIDTH_MIN;
    if (l.width > WIDTH_MAX)
        l.width = WIDTH_MAX;
    bool operands = c->operands && !c->sub;

    fprintf(out, "Usage: kiln %s%s%s%s\n\n", c->name, c->sub ? " COMMAND" : " [flags]",
            operands ? " " : "", operands ? c->operands : "");
    if (c->about)
        wrap(&l, c->about, 0, 0);
    else
        fprintf(out, "%c%s.\n", toupper((unsigned char)c->summary[0]), c->summary + 1);
    if (c->sub) {
        int w = 0;

        fputs("\nCommands:\n", out);
        for (size_t i = 0; c->sub[i]; i++)
            if ((int)strlen(strrchr(c->sub[i]->name, ' ')) > w)
                w = (int)strlen(strrchr(c->sub[i]->name, ' '));
        for (size_t i = 0; c->sub[i]; i++) {
            fprintf(out, " %-*s  ", w, strrchr(c->sub[i]->name, ' '));
            wrap(&l, c->sub[i]->summary, w + 3, w + 3);
        }
        fprintf(out, "\n'kiln %s COMMAND --help' tells more about a command.\n", c->name);
    }
    groups(&l, c);
    if (c->after)
        fprintf(out, "\n%.*s\n", (int)(strlen(c->after) - (c->after[strlen(c->after) - 1] == '\n')),
                c->after);
}
