#include <stdlib.h>

#include "base/mem.h"
#include "lib/artifacts.h"
#include "lib/check.h"

/* A head of `at` zero bytes and then these. */
static const struct packed *kind_of(size_t at, const void *bytes, size_t len)
{
    unsigned char head[PACKED_HEAD] = { 0 };

    memcpy(head + at, bytes, len);
    return packed_kind(head, at + len);
}

static void test_kinds(void **state)
{
    static const struct {
        size_t at;
        const char *bytes;
        size_t len;
        const char *name, *remedy;
    } cases[] = {
        { 0, "\x1f\x8b\x08", 3, "gzip", "uncompressed" },
        { 0, "\xfd\x37zXZ\0\0", 7, "xz", "uncompressed" },
        { 0, "\x28\xb5\x2f\xfd", 4, "zstd", "uncompressed" },
        { 0, "BZh91AY", 7, "bzip2", "uncompressed" },
        { 0, "PK\x03\x04", 4, "a zip archive", "zip -0" },
        { 0, "7z\xbc\xaf\x27\x1c", 6, "a 7z archive", "files" },
        { 0, "hsqs", 4, "squashfs", "files" },
        { 0, "\177ELF .... UPX!", 14, "packed by UPX", "upx -d" },
        { 0, "MZ ....... UPX!", 15, "packed by UPX", "upx -d" },
        { 0, "\x89PNG\r\n\x1a\n", 8, "a PNG image", NULL },
        { 0, "\xff\xd8\xff\xe0", 4, "a JPEG image", NULL },
        { 4, "ftypisom", 8, "an MP4 file", NULL },
        { 4, "ftypavif", 8, "an AVIF image", NULL },
        { 0x202, "HdrS", 4, "a compressed kernel", NULL },
        { 0, "\177ELF .......", 12, NULL, NULL },
        { 0, "no UPX! here", 12, NULL, NULL },
        { 0, "PK\x03", 3, NULL, NULL }, /* cut */
        { 0, "", 0, NULL, NULL },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct packed *p = kind_of(cases[i].at, cases[i].bytes, cases[i].len);

        assert_int_equal(p != NULL, cases[i].name != NULL);
        if (p == NULL)
            continue;
        assert_string_equal(p->name, cases[i].name);
        assert_int_equal(p->remedy != NULL, cases[i].remedy != NULL);
        if (p->remedy != NULL)
            assert_non_null(strstr(p->remedy, cases[i].remedy));
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(packed_by_name("a/b.tar.gz")->name, "gzip");
    assert_string_equal(packed_by_name("x.apk")->name, "a zip archive");
    assert_string_equal(packed_by_name("x.jar")->name, "a zip archive");
    assert_string_equal(packed_by_name(".png")->name, "a PNG image");
    assert_null(packed_by_name("gz"));
    assert_null(packed_by_name("x.g"));
    assert_null(packed_by_name("x."));
    assert_null(packed_by_name("x.so"));
}

static void noise(struct buf *out, uint64_t seed, size_t len)
{
    struct random r = { seed };

    for (size_t i = 0; i < len; i++)
        buf_char(out, (char)(unsigned char)(random_next(&r) >> 32));
}

static void text(struct buf *out, uint64_t seed, size_t words)
{
    struct random r = { seed };

    for (size_t i = 0; i < words; i++)
        buf_printf(out, "%llx ", (unsigned long long)random_below(&r, 1 << 24));
}

static void test_density(void **state)
{
    AUTO_BUF random = BUF_INIT;
    AUTO_BUF words = BUF_INIT;

    (void)state;
    noise(&random, 7, 100 * PACKED_SAMPLE);
    for (size_t i = 0; i < 100; i++)
        assert_true(packed_is_dense(random.data + i * PACKED_SAMPLE, PACKED_SAMPLE));
    assert_false(packed_is_dense(random.data, PACKED_SAMPLE / 4 - 1)); /* too little to tell */
    text(&words, 8, 2000);
    assert_false(packed_is_dense(words.data, PACKED_SAMPLE));
    memset(random.data, 0, PACKED_SAMPLE / 8);
    assert_false(packed_is_dense(random.data, PACKED_SAMPLE));
}

static void add(struct artifact *a, const char *path, const char *magic, const struct buf *content)
{
    AUTO_BUF b = BUF_INIT;

    buf_str_append(&b, magic);
    buf_append(&b, content->data, content->len);
    artifact_add(a, path, b.data, b.len);
}

static void add_text(struct artifact *a, const char *path, uint64_t seed, size_t words,
                     const char *in_front)
{
    AUTO_BUF b = BUF_INIT;

    text(&b, seed, words);
    add(a, path, in_front, &b);
}

static void add_noise(struct artifact *a, const char *path, uint64_t seed, size_t len,
                      const char *in_front)
{
    AUTO_BUF b = BUF_INIT;

    noise(&b, seed, len);
    add(a, path, in_front, &b);
}

static void assert_cost(const struct artifact *target, const struct cost *c, const char *path,
                        enum cost_reason reason, const char *words)
{
    AUTO_BUF got = BUF_INIT;

    assert_string_equal(target->manifest.entries[c->entry].path, path);
    assert_int_equal(c->reason, reason);
    cost_describe(&got, c);
    assert_non_null(strstr(buf_str(&got), words));
}

/* One file of each kind: the dearest are named, with the reason. */
static void test_reasons(void **state)
{
    struct artifact base, target;
    AUTO_BUF pack = BUF_INIT;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    uint64_t sum = 0, payloads = 0;

    (void)state;
    artifact_init(&base);
    artifact_init(&target);
    add_noise(&base, "a.gz", 1, 300000, "\x1f\x8b");
    add_text(&base, "changed", 2, 20000, "one thing");
    add_noise(&base, "same", 3, 500000, "");
    add_noise(&base, "secret", 4, 200000, "");
    add_noise(&target, "a.gz", 11, 300000, "\x1f\x8b");
    add_text(&target, "changed", 2, 20000, "another");
    add_text(&target, "new", 12, 15000, "");
    add_noise(&target, "same", 3, 500000, "");
    add_noise(&target, "secret", 14, 200000, "");
    artifact_seal(&base);
    artifact_seal(&target);
    assert_ok(artifact_delta(&base, &target, 3, NULL, &pack, &stats, &err), &err);
    assert_int_equal(stats.top.packed, 2);
    assert_in_range(stats.top.count, 3, 4);
    assert_cost(&target, &stats.top.items[0], "a.gz", COST_PACKED,
                "gzip: a delta of it can't help; deploy it uncompressed");
    assert_cost(&target, &stats.top.items[1], "secret", COST_PACKED, "compressed or encrypted");
    assert_cost(&target, &stats.top.items[2], "new", COST_NEW, "nothing in the base");
    assert_in_range(stats.top.items[0].bytes, 270000, 310000);
    assert_in_range(stats.top.items[1].bytes, 180000, 210000);
    for (size_t i = 0; i < stats.top.count; i++)
        sum += stats.top.items[i].bytes;
    for (int i = 0; i <= SEGMENT_COPY; i++)
        payloads += stats.payload_bytes[i];
    payloads += stats.covers_bytes;
    assert_in_range(sum, payloads - payloads / 100, payloads);
    artifact_release(&base);
    artifact_release(&target);
}

/* More than are named: the dearest, in order, whatever the order of their names. */
static void test_only_the_dearest(void **state)
{
    struct artifact base, target;
    AUTO_BUF pack = BUF_INIT;
    struct delta_stats stats;
    struct err err = ERR_INIT;

    (void)state;
    artifact_init(&base);
    artifact_init(&target);
    add_text(&base, "base", 1, 10, "");
    for (size_t i = 0; i < 25; i++) {
        AUTO_FREE char *path = mem_printf("%02zu", i);

        add_noise(&target, path, 20 + i, 70000 + 1000 * (i * 7 % 25), "\x89PNG\r\n\x1a\n");
    }
    artifact_seal(&base);
    artifact_seal(&target);
    assert_ok(artifact_delta(&base, &target, 3, NULL, &pack, &stats, &err), &err);
    assert_int_equal(stats.top.count, COSTS_NAMED);
    assert_int_equal(stats.top.packed, 25);
    for (size_t i = 0; i < COSTS_NAMED; i++) {
        assert_int_equal(stats.top.items[i].entry * 7 % 25, 24 - i);
        assert_int_equal(stats.top.items[i].reason, COST_PACKED);
    }
    artifact_release(&base);
    artifact_release(&target);
}

/* Segments without anything in them, and files across segments. */
static void test_shares(void **state)
{
    struct artifact target;
    struct cover half = { .s = 0, .t = 1000, .length = 5 << 20 };
    struct costs *c;
    struct costs_top top;

    (void)state;
    artifact_init(&target);
    add_noise(&target, "a", 1, 1000, "");
    add_noise(&target, "b", 2, 9 << 20, "");
    artifact_add(&target, "empty", "", 0);
    artifact_seal(&target);
    c = costs_new(&target.manifest);
    costs_segment(c, 0, SEGMENT_DELTA, 1600);
    costs_group(c, 0, 9 << 20, &half, 1);
    costs_segment(c, 1, SEGMENT_ZSTD, 5000);
    costs_group(c, 0, 9 << 20, &half, 1);
    costs_segment(c, 2, SEGMENT_COPY, 0);
    costs_finish(c, &target.files, &top);
    costs_free(c);
    assert_int_equal(top.count, 1);
    assert_int_equal(top.items[0].entry, 1);
    assert_in_range(top.items[0].bytes, 6000, 6600);
    assert_int_equal(top.items[0].new_bytes, 4 << 20); /* a frame of its own tells all of it */
    artifact_release(&target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_density),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_only_the_dearest),
        cmocka_unit_test(test_shares),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
