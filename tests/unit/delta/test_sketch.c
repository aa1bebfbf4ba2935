#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "delta/sketch.h"
#include "lib/check.h"
#include "lib/trees.h"

static void noise(struct buf *out, uint64_t seed, size_t len)
{
    struct random r = { seed };

    for (size_t i = 0; i < len; i++)
        buf_char(out, (char)(unsigned char)random_next(&r));
}

/* In pieces of `piece` bytes. */
static struct sketch sketch_of(const struct buf *b, size_t piece)
{
    struct sketcher *s = mem_alloc(sizeof(*s));
    struct sketch ret;

    sketcher_init(s);
    sketcher_begin(s, b->len);
    for (size_t at = 0; at < b->len; at += piece)
        sketcher_add(s, (const unsigned char *)b->data + at,
                     b->len - at < piece ? b->len - at : piece);
    sketcher_end(s, &ret);
    sketcher_release(s);
    free(s);
    return ret;
}

static size_t shared(const struct sketch *a, const struct sketch *b)
{
    size_t n = 0;

    for (size_t i = 0; i < a->count; i++)
        for (size_t k = 0; k < b->count; k++)
            n += a->features[i] == b->features[k];
    return n;
}

static void assert_same(const struct sketch *a, const struct sketch *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(shared(a, b), a->count);
}

static void test_pieces_do_not_matter(void **state)
{
    AUTO_BUF b = BUF_INIT;
    struct sketch whole, parts;

    (void)state;
    noise(&b, 1, 2500000);
    whole = sketch_of(&b, b.len);
    assert_int_equal(whole.count, SKETCH_FIRST + 2 * SKETCH_MORE);
    for (size_t i = 1; i < whole.count; i++)
        assert_true(whole.features[i - 1] < whole.features[i]);
    for (size_t piece = 7; piece < 1 << 21; piece *= 11) {
        parts = sketch_of(&b, piece);
        assert_same(&whole, &parts);
        sketch_release(&parts);
    }
    sketch_release(&whole);
}

/* The number of features follows from the size; what is shorter than a window has none. */
static void test_sizes(void **state)
{
    static const struct {
        size_t size, least, most;
    } cases[] = {
        { 0, 0, 0 },    { 1, 0, 0 },    { SKETCH_WINDOW - 1, 0, 0 }, { SKETCH_WINDOW, 1, 1 },
        { 1000, 4, 4 }, { 5000, 8, 8 }, { 1 << 20, 16, 16 },         { 3 << 20, 32, 32 }
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_BUF b = BUF_INIT;
        struct sketch s;

        noise(&b, 2, cases[i].size);
        s = sketch_of(&b, 1 << 20);
        assert_in_range(s.count, cases[i].least, cases[i].most);
        sketch_release(&s);
    }
}

/* What is inserted in front moves everything, and changes little. */
static void test_moved_content_is_found(void **state)
{
    AUTO_BUF old = BUF_INIT;
    AUTO_BUF new = BUF_INIT;
    AUTO_BUF other = BUF_INIT;
    struct sketch a, b, c;

    (void)state;
    noise(&old, 3, 900000);
    noise(&new, 4, 777);
    buf_append(&new, old.data, 400000);
    noise(&new, 5, 50);
    buf_append(&new, old.data + 400000, 500000);
    noise(&other, 6, 900000);
    a = sketch_of(&old, 65536);
    b = sketch_of(&new, 65536);
    c = sketch_of(&other, 65536);
    assert_true(shared(&a, &b) >= 14);
    assert_int_equal(shared(&a, &c), 0);
    sketch_release(&a);
    sketch_release(&b);
    sketch_release(&c);
}

/* One byte over and over has one feature; so has a page of few different ones few. */
static void test_repetition(void **state)
{
    AUTO_BUF b = BUF_INIT;
    struct sketch s;

    (void)state;
    for (size_t i = 0; i < 3 << 20; i++)
        buf_char(&b, '\0');
    s = sketch_of(&b, 65536);
    assert_int_equal(s.count, 1);
    sketch_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_do_not_matter),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_moved_content_is_found),
        cmocka_unit_test(test_repetition),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
