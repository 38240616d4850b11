#include "cmd/flag.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/suggest.h"
#include "cmd/verb.h"
#include "test/unit/t.h"

struct common {
    const char *name;
    struct strv env;
};

struct args {
    bool interactive, tty, called;
    const char *workdir;
    char *engine;
    unsigned count;
    int64_t pids;
    uint64_t memory;
    int64_t interval;
    struct common *common;
};

static int call(void *target, const char *value, struct err *e)
{
    struct args *a = target;

    if (strcmp(value, "true") != 0)
        return err_set(e, -EINVAL, "cannot be taken back");
    a->called = true;
    return 0;
}

static const struct flag common_flags[] = {
    {"name", 0, "NAME", "what it is called", FLAG_TEXT(struct common, name)},
    {"env", 'e', "K=V", "a variable", FLAG_WORDS(struct common, env)},
    {0},
};
static const struct flag own_flags[] = {
    {"interactive", 'i', NULL, "pass input on", FLAG_BOOL(struct args, interactive)},
    {"tty", 't', NULL, "a terminal", FLAG_BOOL(struct args, tty)},
    {"call", 0, NULL, "a function", FLAG_SET(call)},
    {"workdir", 'w', "DIR", "working directory", FLAG_TEXT(struct args, workdir)},
    {"engine", 0, "NAME", "a copy", FLAG_COPY(struct args, engine)},
    {"count", 'n', "N", "how many", FLAG_UINT(struct args, count, 1, 10)},
    {"pids", 0, "N", "may be -1", FLAG_INT(struct args, pids, -1, 100)},
    {"memory", 'm', "SIZE", "memory", FLAG_SIZE(struct args, memory), .min = 1024},
    {"mem", 0, "SIZE", NULL, FLAG_SIZE(struct args, memory)},
    {"interval", 0, "TIME", "time", FLAG_DURATION(struct args, interval)},
    {0},
};
static const struct flag_group common_group = {"Shared", common_flags};
static const struct flag_group own_group = {NULL, own_flags};

static const struct command run = {
    .name = "run",
    .operands = "IMAGE [COMMAND...]",
    .summary = "run a command",
    .groups = {{&own_group}, {&common_group, offsetof(struct args, common), true}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .flags_first = true,
};
static const struct command rm = {
    .name = "rm",
    .operands = "NAME...",
    .summary = "remove",
    .groups = {{&own_group}},
    .max_operands = 2,
};

/* Words of one line; flag_parse() gives the index of the first operand. */
static char words[16][64], *vector[17];
static int n_words;

static int parse(const struct command *c, const char *line, struct args *a, struct err *e)
{
    n_words = 0;
    for (const char *s = line; *s; s += strspn(s, " ")) {
        size_t n = strcspn(s, " ");

        assert_true(n_words < 16 && n < 64);
        snprintf(words[n_words], 64, "%.*s", (int)n, s);
        vector[n_words] = words[n_words];
        n_words++;
        s += n;
    }
    vector[n_words] = NULL;
    return flag_parse(c, n_words, vector, a, e);
}

static void refused(const struct command *c, const char *line, const char *sentence)
{
    struct common common = {0};
    struct args a = {.common = &common};
    struct err e = {0};

    assert_true(parse(c, line, &a, &e) < 0);
    assert_string_equal(e.msg, sentence);
    free(a.engine);
    strv_done(&common.env);
}

static void flags_end_at_the_first_operand_where_the_verb_says_so(void **state)
{
    struct common common = {0};
    struct args a = {.common = &common};
    struct err e = {0};
    int at = parse(&run, "run -it --name x -e A=1 --env=B= -eC=3 image -t --unknown", &a, &e);

    assert_int_equal(at, 8);
    assert_string_equal(vector[at], "image");
    assert_string_equal(vector[at + 2], "--unknown");
    assert_true(a.interactive && a.tty);
    assert_string_equal(common.name, "x");
    assert_int_equal(common.env.n, 3);
    assert_string_equal(common.env.v[1], "B=");
    assert_string_equal(common.env.v[2], "C=3");
    strv_done(&common.env);
}

static void elsewhere_flags_stand_between_operands(void **state)
{
    struct args a = {0};
    struct err e = {0};
    int at = parse(&rm, "rm a -t b -w dir", &a, &e);

    assert_int_equal(at, n_words - 2);
    assert_string_equal(vector[at], "a");
    assert_string_equal(vector[at + 1], "b");
    assert_string_equal(a.workdir, "dir");
    at = parse(&rm, "rm -i -- -t -", &a, &e);
    assert_int_equal(at, n_words - 2);
    assert_string_equal(vector[at], "-t");
    assert_string_equal(vector[at + 1], "-");
}

static void a_value_stands_behind_a_letter_in_three_ways(void **state)
{
    struct args a = {0};
    struct err e = {0};

    assert_true(parse(&rm, "rm -w/x", &a, &e) > 0);
    assert_string_equal(a.workdir, "/x");
    assert_true(parse(&rm, "rm -w=/y", &a, &e) > 0);
    assert_string_equal(a.workdir, "/y");
    assert_true(parse(&rm, "rm -iw /z", &a, &e) > 0);
    assert_string_equal(a.workdir, "/z");
    assert_true(a.interactive);
}

static void a_switch_takes_true_and_false(void **state)
{
    struct args a = {.tty = true};
    struct err e = {0};

    assert_true(parse(&rm, "rm --tty=false -i=true --call=1", &a, &e) > 0);
    assert_true(!a.tty && a.interactive && a.called);
    refused(&rm, "rm --tty=maybe", "-t, --tty: 'maybe' is neither true nor false");
    refused(&rm, "rm --call=false", "--call: cannot be taken back");
    refused(&rm, "rm -i=", "-i, --interactive: '' is neither true nor false");
}

static void numbers_are_checked(void **state)
{
    struct args a = {0};
    struct err e = {0};

    assert_true(parse(&rm, "rm -n 10 --pids -1 -m 1g --interval 1.5s --engine bt --engine kvm", &a,
                      &e) > 0);
    assert_int_equal(a.count, 10);
    assert_int_equal(a.pids, -1);
    assert_int_equal(a.memory, 1 << 30);
    assert_int_equal(a.interval, 1500000000);
    assert_string_equal(a.engine, "kvm");
    free(a.engine);
    refused(&rm, "rm -n 11", "-n, --count: '11' is out of range: 1 to 10");
    refused(&rm, "rm --count=x", "-n, --count: 'x' is not a number");
    refused(&rm, "rm --pids=-2", "--pids: '-2' is out of range: -1 to 100");
    refused(&rm, "rm --pids=99999999999999999999",
            "--pids: '99999999999999999999' is out of range: -1 to 100");
    refused(&rm, "rm -m 12", "-m, --memory: '12' is less than it may be");
}

static void mistakes_are_told_in_sentences(void **state)
{
    refused(&rm, "rm --memroy=1g", "unknown flag --memroy; did you mean --memory?");
    refused(&rm, "rm --zebra", "unknown flag --zebra");
    refused(&rm, "rm -Z", "unknown flag -Z");
    refused(&rm, "rm -engine bt", "unknown flag -e in '-engine'; did you mean --engine?");
    refused(&rm, "rm -itZ", "unknown flag -Z in '-itZ'");
    refused(&rm, "rm --workdir", "flag -w, --workdir needs a value: --workdir DIR");
    refused(&rm, "rm -iw", "flag -w, --workdir needs a value: --workdir DIR");
    refused(&rm, "rm a b c", "takes at most 2 arguments");
    refused(&run, "run -i", "needs at least 1 argument: kiln run [flags] IMAGE [COMMAND...]");
}

static void sizes_and_durations_are_dockers(void **state)
{
    static const struct {
        const char *text;
        uint64_t value;
    } sizes[] = {{"0", 0},          {"10b", 10},           {"1.5g", 3ULL << 29},
                 {"64M", 64 << 20}, {"512MiB", 512 << 20}, {"2kb", 2048},
                 {"0.5k", 512}},
      times[] = {{"30", 30000000000},
                 {"1.5s", 1500000000},
                 {"1h30m", 5400000000000},
                 {"250ms", 250000000},
                 {"1m0.5s", 60500000000},
                 {"5us", 5000},
                 {"0", 0}};
    static const char *const no_size[] = {"",    "k",   "-1",        "1x", "1.k",
                                          "1kk", "1e3", "99999999t", "b"};
    static const char *const no_time[] = {"",     "s",    "-1",  "1x", "1h30",
                                          "30 m", "0x10", "nan", "1hh"};
    uint64_t v;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(parse_size(sizes[i].text, &v, NULL), 0);
        assert_int_equal(v, sizes[i].value);
    }
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        assert_int_equal(parse_duration(times[i].text, &v, NULL), 0);
        assert_int_equal(v, times[i].value);
    }
    for (size_t i = 0; i < ARRAY_LEN(no_size); i++)
        if (parse_size(no_size[i], &v, NULL) == 0)
            fail_msg("size '%s' was taken", no_size[i]);
    for (size_t i = 0; i < ARRAY_LEN(no_time); i++)
        if (parse_duration(no_time[i], &v, NULL) == 0)
            fail_msg("duration '%s' was taken", no_time[i]);
}

static void what_steers_a_terminal_is_not_said(void **state)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    say_plain(out, "a\033[2J\tb\r\n\177c\303\251");
    fclose(out);
    assert_string_equal(text, "a?[2J\tb?\n?c\303\251");
    free(text);
}

static char *help_of(const struct command *c)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = tmpfile();
    assert_non_null(f);
    flag_help(f, c);
    rewind(f);
    assert_true(getdelim(&text, &n, '\0', f) > 0);
    fclose(f);
    return text;
}

static void help_is_made_from_the_table(void **state)
{
    CLEANUP(mem) char *text = help_of(&run);

    assert_string_equal(text, "Usage: kiln run [flags] IMAGE [COMMAND...]\n\n"
                              "Run a command.\n\n"
                              "Flags:\n"
                              "  -i, --interactive    pass input on\n"
                              "  -t, --tty            a terminal\n"
                              "      --call           a function\n"
                              "  -w, --workdir DIR    working directory\n"
                              "      --engine NAME    a copy\n"
                              "  -n, --count N        how many\n"
                              "      --pids N         may be -1\n"
                              "  -m, --memory SIZE    memory\n"
                              "      --interval TIME  time\n"
                              "  -h, --help           this text\n\n"
                              "Shared:\n"
                              "      --name NAME      what it is called\n"
                              "  -e, --env K=V        a variable\n");
}

static const char *meant(const char *typed)
{
    static const char *const words_known[] = {"run", "rmi", "restart", "volume", "inspect"};
    struct suggest s;

    suggest_init(&s, typed, strlen(typed));
    for (size_t i = 0; i < ARRAY_LEN(words_known); i++)
        suggest_try(&s, words_known[i]);
    return suggest_best(&s);
}

static void the_closest_word_is_suggested(void **state)
{
    assert_string_equal(meant("rnu"), "run");
    assert_string_equal(meant("volumes"), "volume");
    assert_string_equal(meant("insp"), "inspect");
    assert_string_equal(meant("retsart"), "restart");
    assert_null(meant("zzzz"));
    assert_null(meant("x"));
    assert_null(meant("a-word-that-is-much-longer-than-any-verb-of-this"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_end_at_the_first_operand_where_the_verb_says_so),
        cmocka_unit_test(elsewhere_flags_stand_between_operands),
        cmocka_unit_test(a_value_stands_behind_a_letter_in_three_ways),
        cmocka_unit_test(a_switch_takes_true_and_false),
        cmocka_unit_test(numbers_are_checked),
        cmocka_unit_test(what_steers_a_terminal_is_not_said),
        cmocka_unit_test(sizes_and_durations_are_dockers),
        cmocka_unit_test(mistakes_are_told_in_sentences),
        cmocka_unit_test(help_is_made_from_the_table),
        cmocka_unit_test(the_closest_word_is_suggested),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
