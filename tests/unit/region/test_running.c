#include "lib/check.h"

#include <stdio.h>

#include "base/mem.h"
#include "region/running.h"

static struct hash hash_of(unsigned n)
{
    struct hash h = { { 0 } };

    h.b[0] = (unsigned char)n;
    h.b[1] = (unsigned char)(n >> 8);
    return h;
}

static void move(struct running *r, const char *service, unsigned from, unsigned to)
{
    struct hash a = hash_of(from), b = hash_of(to);

    running_move(r, service, &a, &b);
}

static uint64_t count(const struct running *r, const char *service, unsigned release)
{
    struct hash h = hash_of(release);

    return running_count(r, service, &h);
}

/* "web 1:3 2:1", or "" if nothing has changed. */
static void next(struct running *r, struct buf *out)
{
    struct msg_runs runs;

    buf_reset(out);
    buf_str_append(out, "");
    if (!running_next(r, &runs))
        return;
    buf_str_append(out, runs.service);
    for (size_t i = 0; i < runs.releases.count; i++) {
        const struct msg_running *one = (const struct msg_running *)runs.releases.items + i;

        buf_printf(out, " %d:%d", one->release.b[0] + 256 * one->release.b[1], (int)one->machines);
    }
    codec_release(msg_codec(MSG_RUNS), &runs);
}

static void machines_move_from_release_to_release(void **state)
{
    struct running r = { .nchanged = 0 };
    AUTO_BUF told = BUF_INIT;

    (void)state;
    next(&r, &told);
    assert_string_equal(buf_str(&told), "");
    for (int i = 0; i < 4; i++)
        move(&r, "web", 0, 1);
    next(&r, &told);
    assert_string_equal(buf_str(&told), "web 1:4");
    next(&r, &told);
    assert_string_equal(buf_str(&told), ""); /* once */
    move(&r, "web", 1, 2);
    move(&r, "web", 1, 1); /* nothing */
    next(&r, &told);
    assert_string_equal(buf_str(&told), "web 1:3 2:1");
    assert_int_equal(count(&r, "web", 1), 3);
    assert_int_equal(count(&r, "web", 3), 0);
    assert_int_equal(count(&r, "other", 1), 0);
    for (int i = 0; i < 3; i++)
        move(&r, "web", 1, 2);
    move(&r, "web", 2, 0);
    next(&r, &told);
    assert_string_equal(buf_str(&told), "web 2:3"); /* one that nobody runs is not there */
    running_release(&r);
}

static void each_service_is_told_of_by_itself(void **state)
{
    struct running r = { .nchanged = 0 };
    AUTO_BUF told = BUF_INIT;

    (void)state;
    move(&r, "web", 0, 1);
    move(&r, "db", 0, 9);
    next(&r, &told);
    next(&r, &told);
    next(&r, &told);
    assert_string_equal(buf_str(&told), "");
    move(&r, "db", 9, 0);
    next(&r, &told);
    assert_string_equal(buf_str(&told), "db"); /* nobody runs it any more */
    running_touch_all(&r);
    running_touch(&r, "web"); /* no more than once */
    running_touch(&r, "nobody's");
    assert_int_equal(r.nchanged, 3);
    next(&r, &told);
    next(&r, &told);
    next(&r, &told);
    next(&r, &told);
    assert_string_equal(buf_str(&told), "");
    running_release(&r);
}

static void of_too_many_releases_the_most_run_are_told(void **state)
{
    struct running r = { .nchanged = 0 };
    struct msg_runs runs;
    const struct msg_running *first;

    (void)state;
    for (unsigned i = 1; i <= RUNS_MAX + 10; i++)
        move(&r, "web", 0, i);
    move(&r, "web", 0, RUNS_MAX + 7);
    assert_true(running_next(&r, &runs));
    assert_int_equal(runs.releases.count, RUNS_MAX);
    first = runs.releases.items;
    assert_int_equal(first->machines, 2);
    assert_int_equal(first->release.b[0] + 256 * first->release.b[1], RUNS_MAX + 7);
    codec_release(msg_codec(MSG_RUNS), &runs);
    running_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_move_from_release_to_release),
        cmocka_unit_test(each_service_is_told_of_by_itself),
        cmocka_unit_test(of_too_many_releases_the_most_run_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
