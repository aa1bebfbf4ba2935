#include <stdlib.h>

#include "base/mem.h"
#include "lib/check.h"
#include "wire/manifest.h"

static char long_component[260];

static void test_paths(void **state)
{
    static const struct {
        const char *path;
        const char *part; /* NULL: fine */
    } cases[] = {
        { "a", NULL },
        { "a/b.c/..d/...", NULL },
        { "caf\303\251/x y", NULL },
        { "", "path: empty" },
        { "/a", "absolute" },
        { "a//b", "empty component" },
        { "a/", "empty component" },
        { ".", "a . or .. component" },
        { "a/..", "a . or .. component" },
        { "../a", "a . or .. component" },
        { "a/./b", "a . or .. component" },
        { "a\nb", "control character" },
        { "a\177", "control character" },
        { "\377", "not valid UTF-8" },
        { long_component, "component longer than 255" },
    };

    (void)state;
    memset(long_component, 'x', 256);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        int r = manifest_check_path(cases[i].path, &err);

        if (cases[i].part == NULL)
            assert_ok(r, &err);
        else
            assert_error(r, err.code, &err, cases[i].part);
    }
}

static void test_too_long_a_path(void **state)
{
    char path[PATH_MAX_BYTES + 2];
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(path); i++)
        path[i] = i % 2 == 0 ? 'a' : '/';
    path[PATH_MAX_BYTES + 1] = '\0'; /* 1025 bytes, ends in 'a' */
    assert_error(manifest_check_path(path, &err), ERR_LIMIT, &err, "longer than 1024");
    path[PATH_MAX_BYTES - 1] = '\0';
    assert_ok(manifest_check_path(path, &err), &err);
}

static void test_links(void **state)
{
    static const struct {
        const char *path, *target;
        const char *part;
    } cases[] = {
        { "l", "a", NULL },
        { "l", "a/b", NULL },
        { "l", "./a", NULL },
        { "l", ".", NULL },
        { "d/l", "..", NULL },
        { "d/e/l", "../../a", NULL },
        { "l", "", "target: empty" },
        { "l", "/etc", "absolute" },
        { "l", "..", "leaves the tree" },
        { "d/l", "../../a", "leaves the tree" },
        { "d/e/l", "a/../b", "'..' after a name" },
        { "l", "a\tb", "control character" },
        { "l", "\200", "UTF-8" },
        { "l", long_component, "component longer" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        int r = manifest_check_link(cases[i].path, cases[i].target, &err);

        if (cases[i].part == NULL)
            assert_ok(r, &err);
        else
            assert_error(r, err.code, &err, cases[i].part);
    }
}

/* A tree whose stream is two segments: a (5 MiB), d/, d/empty, d/l -> ../a, d.txt, e (3 bytes). */
static char names[6][8] = { "a", "d", "d.txt", "d/empty", "d/l", "e" };
static char target[] = "../a";
static struct hash segments[2];

enum { BIG = 5 << 20 };

static struct manifest sample(struct entry entries[6])
{
    struct manifest m = { entries, 6, BIG + 10 + 3, segments, 2 };

    memset(entries, 0, 6 * sizeof(*entries));
    for (size_t i = 0; i < 6; i++) {
        entries[i].kind = ENTRY_FILE;
        entries[i].mode = 0644;
        entries[i].path = names[i];
        entries[i].hash = sha256_of("", 0);
    }
    entries[0].size = BIG;
    entries[1].kind = ENTRY_DIR;
    entries[1].mode = 0755;
    entries[2].size = 10;
    entries[4].kind = ENTRY_LINK;
    entries[4].target = target;
    entries[5].size = 3;
    return m;
}

static void test_round_trip(void **state)
{
    struct entry entries[6];
    struct manifest m = sample(entries);
    struct manifest *back = NULL;
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;
    AUTO_BUF again = BUF_INIT;

    (void)state;
    manifest_encode(&b, &m);
    assert_ok(manifest_parse(&back, b.data, b.len, &err), &err);
    manifest_encode(&again, back);
    assert_int_equal(b.len, again.len);
    assert_memory_equal(b.data, again.data, b.len);
    assert_int_equal(back->entries[2].offset, BIG);
    assert_int_equal(back->entries[5].offset, BIG + 10);
    assert_int_equal(manifest_segment_bytes(back, 0), SEGMENT_BYTES);
    assert_int_equal(manifest_segment_bytes(back, 1), (1 << 20) + 13);
    manifest_free(back);
    manifest_free(NULL);
}

static void test_spans(void **state)
{
    struct entry entries[6];
    struct manifest m = sample(entries);
    struct manifest *back = NULL;
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;
    struct span s;

    (void)state;
    manifest_encode(&b, &m);
    assert_ok(manifest_parse(&back, b.data, b.len, &err), &err);
    assert_int_equal(manifest_first_file(back, 0), 0);
    assert_int_equal(manifest_first_file(back, 1), 0);
    assert_true(manifest_span(back, 0, 0, &s));
    assert_int_equal(s.len, SEGMENT_BYTES);
    assert_true(manifest_span(back, 1, 0, &s));
    assert_int_equal(s.in_segment, 0);
    assert_int_equal(s.in_file, SEGMENT_BYTES);
    assert_int_equal(s.len, 1 << 20);
    assert_true(manifest_span(back, 1, 5, &s));
    assert_int_equal(s.in_segment, (1 << 20) + 10);
    assert_int_equal(s.in_file, 0);
    assert_int_equal(s.len, 3);
    assert_false(manifest_span(back, 0, 5, &s));
    assert_false(manifest_span(back, 1, 1, &s)); /* a directory */
    assert_false(manifest_span(back, 1, 3, &s)); /* empty */
    manifest_free(back);
}

static void test_every_short_input_is_refused(void **state)
{
    struct entry entries[6];
    struct manifest m = sample(entries);
    struct manifest *back = NULL;
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;

    (void)state;
    manifest_encode(&b, &m);
    for (size_t len = 0; len < b.len; len++) {
        char *exact = mem_dup(b.data, len);

        assert_error(manifest_parse(&back, exact, len, &err), ERR_INVALID, &err, "manifest");
        free(exact);
    }
    buf_char(&b, 'x');
    assert_error(manifest_parse(&back, b.data, b.len, &err), ERR_INVALID, &err, "left over");
    assert_null(back);
}

/* Changes one thing of the sample, encodes it as it is, and wants the parser to refuse it. */
static void refuse(void (*spoil)(struct manifest *m), enum err_code code, const char *part)
{
    struct entry entries[6];
    struct manifest m = sample(entries);
    struct manifest *back = NULL;
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;

    spoil(&m);
    manifest_encode(&b, &m);
    assert_error(manifest_parse(&back, b.data, b.len, &err), code, &err, part);
    assert_null(back);
}

static char up[] = "..", twice[] = "a", orphan[] = "x/y", below_file[] = "d.txt/y",
            out[] = "../../x";

static void spoil_path(struct manifest *m)
{
    m->entries[5].path = up;
}

static void spoil_order(struct manifest *m)
{
    m->entries[5].path = twice;
}

static void spoil_parent(struct manifest *m)
{
    m->entries[5].path = orphan;
}

static void spoil_parent_kind(struct manifest *m)
{
    struct entry e = m->entries[5];

    m->entries[5] = m->entries[4];
    m->entries[4] = m->entries[3];
    m->entries[3] = e;
    m->entries[3].path = below_file;
}

static void spoil_target(struct manifest *m)
{
    m->entries[4].target = out;
}

static void spoil_mode(struct manifest *m)
{
    m->entries[0].mode = 04755;
}

static void spoil_kind(struct manifest *m)
{
    m->entries[1].kind = (enum entry_kind)'s';
}

static void spoil_size(struct manifest *m)
{
    m->entries[0].size++;
}

static void spoil_huge(struct manifest *m)
{
    m->entries[0].size = UINT64_MAX;
}

static void spoil_empty(struct manifest *m)
{
    m->entries[3].hash.b[0] ^= 1;
}

static void spoil_segments(struct manifest *m)
{
    m->nsegments = 1;
}

static void test_malformed(void **state)
{
    (void)state;
    refuse(spoil_path, ERR_INVALID, "a . or .. component");
    refuse(spoil_order, ERR_INVALID, "a: not in path order");
    refuse(spoil_parent, ERR_INVALID, "x/y: its directory is not listed");
    refuse(spoil_parent_kind, ERR_INVALID, "d.txt/y: its directory is not listed");
    refuse(spoil_target, ERR_INVALID, "leaves the tree");
    refuse(spoil_mode, ERR_INVALID, "a: mode 04755");
    refuse(spoil_kind, ERR_INVALID, "d: unknown kind 115");
    refuse(spoil_size, ERR_INVALID, "files have 5242894 bytes, the stream 5242893");
    refuse(spoil_huge, ERR_INVALID, "d.txt: sizes overflow");
    refuse(spoil_empty, ERR_INVALID, "d/empty: empty, but its digest is not");
    refuse(spoil_segments, ERR_INVALID, "5242893 bytes are not 1 segments");
}

static void test_claims_are_checked_before_memory_is_taken(void **state)
{
    static const struct {
        const char *bytes;
        enum err_code code;
        const char *part;
    } cases[] = {
        { "SLM1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", ERR_INVALID, "older format SLM1" },
        { "SLM3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", ERR_INVALID, "does not begin with SLM2" },
        { "SLM2\200\204\36\0\0\0\0\0\0\0\0\0\0\0\0\0", ERR_INVALID, "claims 2000000 entries" },
        { "SLM2\201\204\36\0\0\0\0\0\0\0\0\0\0\0\0\0", ERR_LIMIT, "2000001 entries, at most" },
        { "SLM2\0\0\0\0\0\0\0\0\0\0\0\0\377\377\377\377", ERR_INVALID, "4294967295 segments" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct manifest *m = NULL;
        struct err err = ERR_INIT;

        assert_error(manifest_parse(&m, cases[i].bytes, 20, &err), cases[i].code, &err,
                     cases[i].part);
    }
}

static void test_an_empty_tree(void **state)
{
    struct manifest m = { 0 };
    struct manifest *back = NULL;
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;

    (void)state;
    manifest_encode(&b, &m);
    assert_int_equal(b.len, 20);
    assert_ok(manifest_parse(&back, b.data, b.len, &err), &err);
    assert_int_equal(back->nentries, 0);
    manifest_free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_too_long_a_path),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_every_short_input_is_refused),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_claims_are_checked_before_memory_is_taken),
        cmocka_unit_test(test_an_empty_tree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
