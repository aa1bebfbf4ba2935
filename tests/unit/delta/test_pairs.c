#include <stdlib.h>

#include "base/mem.h"
#include "delta/plan.h"
#include "lib/artifacts.h"
#include "lib/check.h"
#include "store/crew.h"

/* Text of 32 KiB that nothing else resembles. */
static void text(struct buf *out, uint64_t seed, size_t words)
{
    struct random r = { seed };

    for (size_t i = 0; i < words; i++)
        buf_printf(out, "%llx ", (unsigned long long)random_below(&r, 1 << 24));
}

static void add_text(struct artifact *a, const char *path, uint64_t seed, size_t words)
{
    AUTO_BUF b = BUF_INIT;

    text(&b, seed, words);
    artifact_add(a, path, buf_str(&b), b.len);
}

/* The same with a few lines put in. */
static void add_edited(struct artifact *a, const char *path, uint64_t seed, size_t words)
{
    AUTO_BUF b = BUF_INIT;

    text(&b, seed, words / 3);
    buf_str_append(&b, "something else");
    text(&b, seed, words);
    artifact_add(a, path, buf_str(&b), b.len);
}

static struct pair *find(const struct artifact *base, const struct artifact *target,
                         const struct delta_pool *pool)
{
    struct pairs_options o = { &base->manifest, &target->manifest, &base->files, &target->files,
                               pool };
    struct pair *pairs = NULL;
    struct err err = ERR_INIT;

    assert_ok(pairs_find(&pairs, &o, &err), &err);
    return pairs;
}

/* "by source source ..." of the entry at path. */
static void assert_pair(const struct artifact *base, const struct artifact *target,
                        const struct pair *pairs, const char *path, enum pair_by by,
                        const char *sources)
{
    AUTO_BUF got = BUF_INIT;

    for (size_t i = 0; i < target->manifest.nentries; i++) {
        if (strcmp(target->manifest.entries[i].path, path) != 0)
            continue;
        for (size_t k = 0; k < pairs[i].nsources; k++)
            buf_printf(&got, "%s%s", k > 0 ? " " : "",
                       base->manifest.entries[pairs[i].sources[k]].path);
        assert_string_equal(buf_str(&got), sources);
        assert_int_equal(pairs[i].by, by);
        return;
    }
    fail_msg("no %s", path);
}

static void test_names(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        { "lib/foo-1.2.3/x", "lib/foo-1.2.4/x", true },
        { "lib/foo-1.2/x", "lib/foo-1.2.10/x", true },
        { "app.3f2a1c.js", "app.9b8d77.js", true },
        { "assets/index-B1xK3jd9.js", "assets/index-Zq0mPl23.js", true },
        { "lib/modules/6.1.0-47-amd64/a.ko", "lib/modules/6.1.0-56-amd64/a.ko", true },
        { "libx.so.1.2.3", "libx.so.1.3.0", true },
        { "a/b", "a/c", false },
        { "abcdef.js", "fedcba.js", false },
        { "app.js", "app.9b8d77.js", false },
        { "v/x1", "v/x2", false },
        { "", "a", false },
        { "1.", "2.", true },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(pairs_stripped_key(cases[i].a) == pairs_stripped_key(cases[i].b),
                         cases[i].same);
}

/* Each of the ways in which a file is recognized. */
static void test_order(void **state)
{
    struct artifact base, target;
    struct pair *pairs;

    (void)state;
    artifact_init(&base);
    artifact_init(&target);
    add_text(&base, "a/index.js", 1, 4000);
    add_text(&base, "b/index.js", 2, 4000);
    add_text(&base, "bundle.0a1b2c.js", 3, 4000);
    add_text(&base, "gone", 4, 4000);
    add_text(&base, "lib-1.0/x", 5, 4000);
    add_text(&base, "same", 6, 4000);
    add_text(&base, "tiny/name", 7, 3);
    add_text(&base, "w", 8, 4000);

    add_edited(&target, "bundle.9d8e7f.js", 3, 4000);
    add_edited(&target, "c/index.js", 2, 4000);
    add_edited(&target, "elsewhere", 4, 4000);
    add_edited(&target, "lib-1.1/x", 5, 4000);
    add_text(&target, "moved", 6, 4000);
    add_text(&target, "new", 100, 4000);
    add_text(&target, "other/name", 9, 3);
    add_text(&target, "w", 10, 4000);
    artifact_seal(&base);
    artifact_seal(&target);
    pairs = find(&base, &target, NULL);
    assert_pair(&base, &target, pairs, "bundle.9d8e7f.js", PAIR_PATH, "bundle.0a1b2c.js");
    assert_pair(&base, &target, pairs, "c/index.js", PAIR_CONTENT, "b/index.js");
    assert_pair(&base, &target, pairs, "elsewhere", PAIR_CONTENT, "gone");
    assert_pair(&base, &target, pairs, "lib-1.1/x", PAIR_PATH, "lib-1.0/x");
    assert_pair(&base, &target, pairs, "moved", PAIR_DIGEST, "same");
    assert_pair(&base, &target, pairs, "new", PAIR_NONE, "");
    assert_pair(&base, &target, pairs, "other/name", PAIR_NAME, "tiny/name");
    assert_pair(&base, &target, pairs, "w", PAIR_PATH, "w");
    free(pairs);
    artifact_release(&base);
    artifact_release(&target);
}

/* Numbered chunks whose content moved up by one: the path is not what tells. */
static void test_renumbered(void **state)
{
    struct artifact base, target;
    struct pair *pairs;

    (void)state;
    artifact_init(&base);
    artifact_init(&target);
    for (size_t i = 0; i < 8; i++) {
        AUTO_FREE char *path = mem_printf("chunk-%zu.js", i);

        add_text(&base, path, 20 + i, 2000 + 300 * i);
        if (i > 0)
            add_edited(&target, path, 19 + i, 1700 + 300 * i);
    }
    artifact_seal(&base);
    artifact_seal(&target);
    pairs = find(&base, &target, NULL);
    for (size_t i = 1; i < 8; i++) {
        AUTO_FREE char *path = mem_printf("chunk-%zu.js", i);
        AUTO_FREE char *from = mem_printf("chunk-%zu.js", i - 1);

        assert_pair(&base, &target, pairs, path, PAIR_CONTENT, from);
    }
    free(pairs);
    artifact_release(&base);
    artifact_release(&target);
}

static uint64_t delta_bytes(const struct artifact *base, const struct artifact *target)
{
    AUTO_BUF pack = BUF_INIT;
    struct delta_stats stats;
    struct err err = ERR_INIT;

    assert_ok(artifact_delta(base, target, 3, NULL, &pack, &stats, &err), &err);
    assert_ok(artifact_check(base, target, &pack, &err), &err);
    return pack.len;
}

/* One file becomes three, and three become one: their pieces are found. */
static void test_split_and_merged(void **state)
{
    static const size_t words = 30000;
    AUTO_BUF all = BUF_INIT;
    struct artifact many, one;
    struct pair *pairs;

    (void)state;
    artifact_init(&many);
    artifact_init(&one);
    for (size_t i = 0; i < 3; i++) {
        AUTO_FREE char *path = mem_printf("part%c", (char)('x' + i));

        AUTO_BUF part = BUF_INIT;

        text(&part, 40 + i, words);
        artifact_add(&many, path, part.data, part.len);
        buf_append(&all, part.data, part.len);
        buf_str_append(&all, "a line between");
    }
    artifact_add(&one, "whole", all.data, all.len);
    artifact_seal(&many);
    artifact_seal(&one);

    pairs = find(&many, &one, NULL);
    assert_int_equal(pairs[0].by, PAIR_CONTENT);
    assert_int_equal(pairs[0].nsources, 3);
    free(pairs);
    pairs = find(&one, &many, NULL);
    for (size_t i = 0; i < 3; i++) {
        AUTO_FREE char *path = mem_printf("part%c", (char)('x' + i));

        assert_pair(&one, &many, pairs, path, PAIR_CONTENT, "whole");
    }
    free(pairs);
    assert_in_range(delta_bytes(&many, &one), 1, 2000);
    assert_in_range(delta_bytes(&one, &many), 1, 2000);
    artifact_release(&many);
    artifact_release(&one);
}

/* Whatever the threads, the answer is the same; many alike files are no trouble. */
static void test_threads_do_not_matter(void **state)
{
    struct delta_pool pool = { 8, crew_each, &pool };
    struct artifact base, target;
    struct pair *alone, *together;

    (void)state;
    artifact_init(&base);
    artifact_init(&target);
    for (size_t i = 0; i < 300; i++) {
        AUTO_FREE char *path = mem_printf("%03zu", i);
        AUTO_FREE char *other = mem_printf("new-%03zu", i);

        add_text(&base, path, 50 + i % 40, 150 + i);
        add_edited(&target, other, 50 + i % 50, 150 + i);
    }
    artifact_seal(&base);
    artifact_seal(&target);
    alone = find(&base, &target, NULL);
    together = find(&base, &target, &pool);
    assert_memory_equal(alone, together, target.manifest.nentries * sizeof(*alone));
    free(alone);
    free(together);
    artifact_release(&base);
    artifact_release(&target);
}

static int broken(void *ctx, size_t entry, void *data, size_t len, uint64_t offset, struct err *err)
{
    (void)ctx, (void)data, (void)len, (void)offset;
    return err_set(err, ERR_IO, "entry %zu cannot be read", entry);
}

static void test_unreadable(void **state)
{
    const struct delta_files bad = { broken, NULL };
    struct artifact base, target;
    struct pairs_options o;
    struct pair *pairs = NULL;
    struct err err = ERR_INIT;

    (void)state;
    artifact_init(&base);
    artifact_init(&target);
    for (size_t i = 0; i < 5; i++) {
        AUTO_FREE char *path = mem_printf("%zu", i);

        add_text(&base, path, i + 1, 500);
    }
    add_text(&target, "x", 30, 500);
    artifact_seal(&base);
    artifact_seal(&target);
    o = (struct pairs_options){ &base.manifest, &target.manifest, &bad, &target.files, NULL };
    assert_error(pairs_find(&pairs, &o, &err), ERR_IO, &err, "entry 0");
    o.base_files = &base.files;
    o.target_files = &bad;
    assert_error(pairs_find(&pairs, &o, &err), ERR_IO, &err, "entry 0");
    artifact_release(&base);
    artifact_release(&target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_renumbered),
        cmocka_unit_test(test_split_and_merged),
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_unreadable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
