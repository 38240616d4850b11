#include "cmd/livedraw.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/columns.h"
#include "cmd/rawterm.h"
#include "test/unit/t.h"

static struct stats_row rows[] = {
    {.id = "a",
     .name = "web",
     .image = "nginx",
     .status = RECORD_RUNNING,
     .valid = true,
     .cpu_percent = 12.5,
     .memory_percent = 3,
     .now = {.memory = 64 << 20, .pids = 7}},
    {.id = "b",
     .name = "db\033[2J",
     .image = "postgres",
     .status = RECORD_PAUSED,
     .valid = true,
     .cpu_percent = 90,
     .net_rx_rate = 1234567,
     .now = {.memory = 512 << 20, .pids = 30}},
    {.id = "c", .name = "a-name-that-is-very-much-longer-than-its-column", .status = RECORD_EXITED},
};

/* The screen as text without control sequences, lines at most `cols` - 1 wide. */
static char *screen(struct livedraw *d, const struct stats_row **row, size_t n)
{
    char *raw = NULL, *text, *to;
    size_t len;
    FILE *out = open_memstream(&raw, &len);

    livedraw(d, row, n, out);
    fclose(out);
    text = to = malloc(len + 1);
    for (const char *s = raw; *s; s++) {
        if (*s == '\033') {
            s += 2;
            while (*s < 0x40 || *s > 0x7e)
                s++;
        } else if (*s != '\r') {
            *to++ = *s;
        }
    }
    *to = '\0';
    free(raw);
    for (const char *s = text; *s; s += strcspn(s, "\n"), s += *s == '\n')
        assert_true(columns_width(s, strcspn(s, "\n")) < d->cols);
    return text;
}

static void list(const struct stats_row *row[3])
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        row[i] = &rows[i];
}

static void it_fits_terminals_from_twenty_to_two_hundred_columns(void **state)
{
    const struct stats_row *row[3];

    for (int cols = 20; cols <= 200; cols++) {
        struct livedraw d = {.rows = 24, .cols = cols};

        list(row);
        CLEANUP(mem) char *text = screen(&d, row, 3);
        assert_non_null(strstr(text, "CPU%"));
        assert_true((strstr(text, "nginx") != NULL) == (cols >= 110));
        assert_true(cols < 80 || strstr(text, "WRIT/s"));
    }
}

static void it_is_sorted_and_the_selection_stays(void **state)
{
    struct livedraw d = {.rows = 24, .cols = 80};
    const struct stats_row *row[3];

    list(row);
    free(screen(&d, row, 3));
    assert_string_equal(row[0]->id, "b"); /* the most CPU */
    assert_string_equal(d.selected, "b");
    livedraw_move(&d, row, 3, 1);
    assert_string_equal(livedraw_row(&d, row, 3)->name, "web");
    d.sort = LIVE_BY_NAME;
    free(screen(&d, row, 3));
    assert_string_equal(row[0]->id, "c");
    assert_string_equal(d.selected, "a");
    d.reverse = true;
    free(screen(&d, row, 3));
    assert_string_equal(row[0]->id, "a");
    livedraw_move(&d, row, 3, 100);
    assert_string_equal(d.selected, "c");
    livedraw_move(&d, row, 3, -100);
    assert_string_equal(d.selected, "a");
    free(screen(&d, row + 1, 2)); /* it is gone */
    assert_string_equal(d.selected, row[1]->id);
}

static void small_screens_scroll(void **state)
{
    const struct stats_row *row[40];
    struct livedraw d = {.rows = 10, .cols = 80, .sort = LIVE_BY_NAME};
    static struct stats_row many[40];

    for (int i = 0; i < 40; i++) {
        snprintf(many[i].id, sizeof(many[i].id), "%02d", i);
        snprintf(many[i].name, sizeof(many[i].name), "n%02d", i);
        row[i] = &many[i];
    }
    free(screen(&d, row, 40));
    livedraw_move(&d, row, 40, 39);
    CLEANUP(mem) char *end = screen(&d, row, 40);
    assert_null(strstr(end, "n33"));
    assert_non_null(strstr(end, "n34"));
    assert_non_null(strstr(end, "n39"));
    d.rows = 4; /* no room for rows at all */
    free(screen(&d, row, 40));
}

static void control_characters_of_names_do_not_reach_the_terminal(void **state)
{
    struct livedraw d = {.rows = 24, .cols = 80, .message = "odd\033[31m"};
    const struct stats_row *row[3];

    list(row);
    CLEANUP(mem) char *text = screen(&d, row, 3);
    assert_non_null(strstr(text, "db?[2J"));
    assert_non_null(strstr(text, "odd?[31m"));
}

static void sizes_take_five_characters(void **state)
{
    static const struct {
        double bytes;
        const char *text;
    } cases[] = {{0, "0"},         {999, "999"},     {1000, "1.00k"},    {12345, "12.3k"},
                 {999400, "999k"}, {1e6, "1.00M"},   {9.996e6, "10.0M"}, {123e9, "123G"},
                 {1e18, "1.00E"},  {99.96e3, "100k"}};
    char text[16];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(livedraw_size(cases[i].bytes, text), cases[i].text);
}

static void keys_are_bytes_and_sequences(void **state)
{
    unsigned used;

    assert_int_equal(rawterm_key("q", 1, &used), 'q');
    assert_int_equal(rawterm_key("\033[Aq", 4, &used), KEY_UP);
    assert_int_equal(used, 3);
    assert_int_equal(rawterm_key("\033[6~", 4, &used), KEY_PAGE_DOWN);
    assert_int_equal(rawterm_key("\033[1;5Cx", 7, &used), KEY_NONE);
    assert_int_equal(used, 6);
    assert_int_equal(rawterm_key("\033", 1, &used), KEY_NONE);
    assert_int_equal(used, 1);
    assert_int_equal(rawterm_key("\033[", 2, &used), KEY_NONE);
    assert_int_equal(used, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_fits_terminals_from_twenty_to_two_hundred_columns),
        cmocka_unit_test(it_is_sorted_and_the_selection_stays),
        cmocka_unit_test(small_screens_scroll),
        cmocka_unit_test(control_characters_of_names_do_not_reach_the_terminal),
        cmocka_unit_test(sizes_take_five_characters),
        cmocka_unit_test(keys_are_bytes_and_sequences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
