#include "cmd/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/columns.h"
#include "cmd/filter.h"
#include "cmd/human.h"
#include "cmd/progress.h"
#include "cmd/tmpl.h"
#include "test/unit/t.h"

static const char values[] =
    "{\"ID\":\"0123456789ab\",\"Names\":\"web\",\"Image\":\"nginx:1\",\"Labels\":\"a=1,b=two\","
    "\"State\":{\"Running\":true,\"Pid\":42,\"Health\":null},\"Args\":[\"-g\",\"daemon off;\"],"
    "\"Mounts\":[{\"Name\":\"v1\",\"Dst\":\"/a\"},{\"Name\":\"v2\",\"Dst\":\"/b\"}],"
    "\"Networks\":{\"z\":{\"IP\":\"10.0.0.2\"},\"m\":{\"IP\":\"10.0.0.1\"}},\"Size\":1.5,\"None\":["
    "]}";

/* What the template makes of the values, or the sentence of its error. */
static char *made(const char *template)
{
    json_t *v = json_loads(values, 0, NULL);
    struct tmpl *t = NULL;
    struct err e = {0};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(v);
    int r = tmpl_new(template, &t, &e);
    if (r == 0)
        r = tmpl_run(t, v, out, &e);
    fclose(out);
    if (r < 0) {
        free(text);
        text = strdup(e.msg);
    }
    tmpl_free(t);
    json_decref(v);
    return text;
}

static void gives(const char *template, const char *expected)
{
    CLEANUP(mem) char *text = made(template);

    if (strcmp(text, expected) != 0)
        fail_msg("%s: '%s', expected '%s'", template, text, expected);
}

static void dockers_examples_give_what_docker_gives(void **state)
{
    gives("{{.ID}}: {{.Names}}", "0123456789ab: web");
    gives("{{ .ID }}\\t{{.Image}}", "0123456789ab\tnginx:1");
    gives("{{json .State}}", "{\"Running\":true,\"Pid\":42,\"Health\":null}");
    gives("{{.State.Pid}} {{.State.Running}}", "42 true");
    gives("{{join .Args \" , \"}}", "-g , daemon off;");
    gives("{{range .Mounts}}{{.Name}}\\n{{end}}", "v1\nv2\n");
    gives("{{range .Mounts}}{{println .Name}}{{end}}", "v1\nv2\n");
    gives("{{range .Args}}{{upper .}}{{end}}", "-GDAEMON OFF;");
    gives("{{range $net, $conf := .Networks}}{{$net}}={{$conf.IP}} {{end}}",
          "m=10.0.0.1 z=10.0.0.2 ");
    gives("{{(index .Mounts 1).Dst}}", "/b");
    gives("{{(index .Networks \"z\").IP}}", "10.0.0.2");
    gives("{{with .State}}{{.Pid}}{{end}}", "42");
    gives("{{.Label \"b\"}}{{.Label \"none\"}}", "two");
    gives("{{title .Names}} {{lower \"ABC\"}} {{pad .Names 1 2}}|{{truncate .ID 4}}",
          "Web abc  web  |0123");
    gives("{{split .Image \":\"}}", "[nginx 1]");
    gives("{{.State}}", "map[Health:<no value> Pid:42 Running:true]");
    gives("{{index .Networks.z \"none\"}}", "");
    gives("{{.State.Missing}}", "<no value>");
}

static void conditions_and_comparisons(void **state)
{
    gives("{{if .State.Running}}up{{else}}down{{end}}", "up");
    gives("{{if not .State.Running}}down{{else if eq .State.Pid 42}}pid{{else}}no{{end}}", "pid");
    gives("{{if and .State.Running (gt .State.Pid 40)}}yes{{end}}", "yes");
    gives("{{if or .None .State.Health}}a{{else}}b{{end}}", "b");
    gives("{{if eq .Names \"db\" \"web\"}}one of them{{end}}", "one of them");
    gives("{{ne 1 2}} {{le 2 2}} {{lt 1 .Size}} {{ge \"a\" \"b\"}}", "true true true false");
    gives("{{range .None}}x{{else}}none{{end}}", "none");
    gives("{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$m.Name}}{{end}}", "v1, v2");
    gives("{{range .Mounts}}{{.Name}}{{break}}{{end}}", "v1");
    gives("{{range .Mounts}}{{if eq .Name \"v1\"}}{{continue}}{{end}}{{.Name}}{{end}}", "v2");
    gives("{{range .Mounts}}{{$.Names}} {{end}}", "web web ");
    gives("{{$n := len .Args}}{{$n}}{{$n = 7}}{{$n}}", "27");
    gives("{{with .None}}x{{else}}{{.Names}}{{end}}", "web");
}

static void text_around_actions(void **state)
{
    gives("a  {{- .Names -}}  b", "awebb");
    gives("{{/* nothing */}}x{{- /* more */ -}} y", "xy");
    gives("{{\"quo\\\"te\\t\"}}{{`raw\\n`}}", "quo\"te\traw\\n");
    gives("plain", "plain");
    gives("", "");
    gives("{{.ID | printf \"%.4s|%5d|%-5s|\" }}",
          "printf: values and directives do not fit each other");
    gives("{{printf \"%.4s|%5d|%-5s|%%|%q|%x|%v\" .ID 7 .Names .Names 255 .Args}}",
          "0123|    7|web  |%|\"web\"|ff|[-g daemon off;]");
    gives("{{slice .ID 0 3}}{{len .ID}}{{print 1 2 \"x\"}}", "012121 2x");
    gives("{{.Names | upper | lower | len}}", "3");
}

static void mistakes_are_told(void **state)
{
    gives("{{.Nmaes}}", "there is no field .Nmaes; did you mean .Names?");
    gives("{{.Zebra}}", "there is no field .Zebra");
    gives("{{.ID.X}}", "there is no .X in a value that has no fields");
    gives("{{.ID", "the template is wrong at column 6: the text ends within {{");
    gives("{{if .ID}}x", "the template is wrong at column 12: {{end}} is missing");
    gives("x{{end}}", "the template is wrong at column 7: {{end}} without a beginning");
    gives("{{foo .ID}}", "the template is wrong at column 6: there is no function 'foo'");
    gives("{{}}", "the template is wrong at column 3: a value is missing");
    gives("{{.ID | }}", "the template is wrong at column 9: a value is missing");
    gives("{{(.ID}}", "the template is wrong at column 7: a parenthesis is not closed");
    gives("{{\"x}}", "the template is wrong at column 7: a string is not closed");
    gives("{{break}}", "the template is wrong at column 8: break and continue belong in a range");
    gives("{{$x}}", "there is no variable $x");
    gives("{{index .Args 9}}", "index: there is no such entry");
    gives("{{join .ID}}", "join: has another number of arguments");
    gives("{{lt 1 \"a\"}}", "lt: only numbers, and texts, can be compared");
    gives("{{.ID 1}}", ".ID takes no arguments");
}

/* The text n times, then `inner`, then `close` n times; owned. */
static char *nested(const char *open, const char *inner, const char *close, int n)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    for (int i = 0; i < n; i++)
        fputs(open, out);
    fputs(inner, out);
    for (int i = 0; i < n; i++)
        fputs(close, out);
    fclose(out);
    return text;
}

static void a_template_that_would_not_end_is_stopped(void **state)
{
    CLEANUP(mem) char *long_one = nested("{{range $.Mounts}}", "x", "{{end}}", TMPL_DEPTH_MAX - 1);
    CLEANUP(mem) char *deep = nested("{{if 1}}", "", "{{end}}", TMPL_DEPTH_MAX + 1);
    CLEANUP(mem) char *sentence = made(deep);

    gives(long_one, "the template does not come to an end");
    assert_non_null(strstr(sentence, "too many blocks"));
}

static const struct format_column columns[] = {
    {"ID", "CONTAINER ID", false},
    {"Names", "NAMES", false},
    {"Labels", "LABELS", true},
    {0},
};

static void lists(const char *format, const char *expected)
{
    json_t *rows = json_pack("[{s:s, s:s, s:s}, {s:s, s:s, s:s}]", "ID", "1", "Names", "w\303\251b",
                             "Labels", "", "ID", "2", "Names", "d\033b", "Labels", "a=1");
    struct format *f = NULL;
    struct err e = {0};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    assert_int_equal(format_new(format, columns, &f, &e), 0);
    assert_int_equal(format_print(f, rows, out, &e), 0);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
    format_free(f);
    json_decref(rows);
}

static void lists_are_tables_json_or_lines(void **state)
{
    lists(NULL, "CONTAINER ID   NAMES\n1              w\303\251b\n2              d?b\n");
    lists("table {{.Names}}\\t{{.Labels}}", "NAMES     LABELS\nw\303\251b       \nd?b       a=1\n");
    lists("{{.ID}}={{.Label \"a\"}}", "1=\n2=1\n");
    lists("json", "{\"ID\":\"1\",\"Names\":\"w\303\251b\",\"Labels\":\"\"}\n"
                  "{\"ID\":\"2\",\"Names\":\"d\\u001Bb\",\"Labels\":\"a=1\"}\n");
}

static void what_costs_is_asked_for(void **state)
{
    struct format *f = NULL;
    struct err e = {0};

    assert_int_equal(format_new("{{.ID}} {{.Sizes}}", columns, &f, &e), 0);
    assert_false(format_wants(f, "Size"));
    assert_true(format_wants(f, "ID"));
    format_free(f);
    assert_int_equal(format_new(NULL, columns, &f, &e), 0);
    assert_false(format_wants(f, "Labels"));
    format_free(f);
    assert_int_equal(format_new("{{", columns, &f, &e), -EINVAL);
    assert_string_equal(e.msg, "--format: the template is wrong at column 3: a value is missing");
}

static void sizes_and_ages_are_dockers(void **state)
{
    static const struct {
        int64_t s;
        const char *text;
    } ages[] = {{0, "Less than a second"}, {1, "1 second"},         {59, "59 seconds"},
                {60, "About a minute"},    {120, "2 minutes"},      {3600, "About an hour"},
                {7200, "2 hours"},         {172800, "2 days"},      {86400 * 14, "2 weeks"},
                {86400 * 60, "2 months"},  {86400 * 730, "2 years"}};
    char text[HUMAN_MAX];

    for (size_t i = 0; i < ARRAY_LEN(ages); i++)
        assert_string_equal(human_duration(ages[i].s * 1000000000, text), ages[i].text);
    assert_string_equal(human_size(1240000, text), "1.24MB");
    assert_string_equal(human_size(999, text), "999B");
    assert_string_equal(human_size(UINT64_MAX, text), "18.45EB");
    assert_string_equal(human_mem(512 << 20, text), "512MiB");
    assert_string_equal(human_ago(0, 5000000000, text), "5 seconds ago");
    assert_string_equal(human_id("sha256:0123456789abcdef", text), "0123456789ab");
}

static void draws(int width, uint64_t done, uint64_t total, int64_t ms, const char *expected)
{
    char line[256];

    assert_true(progress_line(line, sizeof(line), width, "layer", done, total, ms) < width);
    assert_string_equal(line, expected);
}

static void a_bar_fits_its_terminal(void **state)
{
    draws(80, 500000, 1000000, 0, "layer  [==================>                 ]  500kB/1MB");
    draws(80, 500000, 1000000, 2000,
          "layer  [==================>                 ]  500kB/1MB  250kB/s  2s");
    draws(40, 1000000, 1000000, 0, "layer  [=====================]  1MB/1MB");
    draws(20, 0, 1000000, 0, "layer  0B/1MB");
    draws(8, 0, 1000000, 0, "layer  ");
    draws(80, 12, 0, 0, "layer  12");
    draws(80, 5, 4, 0, "layer  [====================================]  4B/4B");
    draws(80, 0, 0, 0, "layer");
}

static void filters_are_anded_by_key_and_ored_by_value(void **state)
{
    char *words[] = {(char *)"name=we", (char *)"name=db",   (char *)"status=running",
                     (char *)"label=a", (char *)"label=b=2", NULL};
    struct strv f = {words, 5, 6};
    char *labels[] = {(char *)"a=1", (char *)"b=2", NULL}, *other[] = {(char *)"a=1", NULL};
    struct err e = {0};

    assert_int_equal(filter_check(&f, "name status label", &e), 0);
    assert_int_equal(filter_check(&f, "name label", &e), -EINVAL);
    assert_string_equal(
        e.msg, "--filter 'status=running': there is no such filter; those are: name label");
    assert_true(filter_part(&f, "name", "web") && filter_part(&f, "name", "mydb"));
    assert_false(filter_part(&f, "name", "cache"));
    assert_true(filter_equal(&f, "status", "running"));
    assert_false(filter_equal(&f, "status", "exited"));
    assert_true(filter_equal(&f, "health", "any"));
    assert_true(filter_labels(&f, labels));
    assert_false(filter_labels(&f, other));
    assert_true(filter_has(&f, "label") && !filter_has(&f, "lab"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dockers_examples_give_what_docker_gives),
        cmocka_unit_test(conditions_and_comparisons),
        cmocka_unit_test(text_around_actions),
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(a_template_that_would_not_end_is_stopped),
        cmocka_unit_test(lists_are_tables_json_or_lines),
        cmocka_unit_test(what_costs_is_asked_for),
        cmocka_unit_test(sizes_and_ages_are_dockers),
        cmocka_unit_test(a_bar_fits_its_terminal),
        cmocka_unit_test(filters_are_anded_by_key_and_ored_by_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
