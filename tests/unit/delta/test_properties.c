/* What holds for every pair of artifacts, on generated ones. A case is told by its number alone:
 * DELTA_CASE=N DELTA_CASES=1 runs case N, and what fails prints it. `make soak-delta` runs many. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "lib/check.h"
#include "lib/tmpdir.h"
#include "lib/versions.h"
#include "store/crew.h"
#include "store/delta_file.h"
#include "wire/pack.h"

enum { QUICK = 100, FLIPS = 24, CUTS = 8, SMALL_PACK = 400 };

/* For the handler alone. */
static unsigned long current;

static void tell_case(int number)
{
    char text[80];
    int n = snprintf(text, sizeof(text), "# in case %lu: DELTA_CASE=%lu DELTA_CASES=1\n", current,
                     current);

    if (write(2, text, (size_t)n) < 0)
        n = 0;
    signal(number, SIG_DFL);
    raise(number);
}

static unsigned long from_env(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : strtoul(text, NULL, 10);
}

/* An assertion of a case. abort() runs tell_case(). */
static void must(bool holds, const char *what, const struct err *err)
{
    if (holds)
        return;
    fprintf(stderr, "# not so: %s (%s)\n", what, err == NULL ? "" : err->text);
    abort();
}

static void flip(struct buf *b, size_t bit)
{
    b->data[bit / 8] = (char)(b->data[bit / 8] ^ 1 << bit % 8);
}

/* Wrong bytes would have ended the program in `check`; cut off, nothing may be right. */
typedef int (*check_pack)(const struct artifact *base, const struct artifact *target,
                          const struct buf *pack, struct err *err);

static void harm(check_pack check, const struct artifact *base, const struct artifact *target,
                 struct buf *pack, struct random *r)
{
    bool all = pack->len <= SMALL_PACK && random_below(r, 40) == 0;
    size_t few = random_below(r, 8) == 0 ? 1 : 6;
    struct err err = ERR_INIT;

    for (size_t n = 0; n < (all ? pack->len * 8 : FLIPS / few); n++) {
        size_t bit = all ? n : (size_t)random_below(r, pack->len * 8);

        flip(pack, bit);
        if (check(base, target, pack, &err) == 0)
            must(bit >= 8 * (5 + HASH_BYTES), "a head that was harmed is refused", NULL);
        flip(pack, bit);
    }
    for (size_t n = 0; n < (all ? pack->len : CUTS / few + 1); n++) {
        struct buf shorter = { pack->data, all ? n : (size_t)random_below(r, pack->len), 0 };

        must(check(base, target, &shorter, &err) < 0, "a pack that was cut is refused", NULL);
    }
    must(check(base, target, pack, &err) == 0, "the pack is whole again", &err);
}

/* A bit of the base that is not what the manifest says. */
static void harm_base(const struct artifact *base, const struct artifact *target,
                      const struct buf *pack, struct random *r)
{
    struct artifact harmed = *base;
    struct err err = ERR_INIT;

    if (base->content.len == 0)
        return;
    harmed.files.ctx = &harmed;
    harmed.content.data = mem_dup(base->content.data, base->content.len);
    for (int n = 0; n < 4; n++) {
        size_t bit = (size_t)random_below(r, base->content.len * 8);

        flip(&harmed.content, bit);
        (void)!artifact_check(&harmed, target, pack, &err);
        flip(&harmed.content, bit);
    }
    free(harmed.content.data);
}

struct sink {
    struct buf *out;
};

static int write_at(void *ctx, const void *data, size_t len, uint64_t offset, struct err *err)
{
    struct buf *out = ((struct sink *)ctx)->out;

    (void)err;
    if (offset + len > out->len) {
        buf_reserve(out, (size_t)offset + len - out->len);
        out->len = (size_t)offset + len;
    }
    memcpy(out->data + offset, data, len);
    return 0;
}

static int read_at(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct buf *b = ctx;

    if (offset > b->len || len > b->len - offset)
        return err_set(err, ERR_CORRUPT, "ends early");
    memcpy(data, b->data + offset, len);
    return 0;
}

static int check_full(const struct artifact *base, const struct artifact *target,
                      const struct buf *pack, struct err *err)
{
    struct full_decoder *d = full_decoder_new();
    struct buf copy = *pack;
    unsigned char *out = mem_alloc(SEGMENT_BYTES);
    struct full *f = NULL;
    int r = full_read(&f, read_at, &copy, pack->len, &target->manifest, &target->id, err);

    (void)base;
    for (size_t i = 0; r == 0 && i < target->manifest.nsegments; i++) {
        r = full_read_segment(d, f, &target->manifest, i, read_at, &copy, out, err);
        if (r == 0 && memcmp(out, target->content.data + i * SEGMENT_BYTES,
                             manifest_segment_bytes(&target->manifest, i)) != 0)
            abort();
    }
    free(out);
    full_free(f);
    full_decoder_free(d);
    return r;
}

static void full_pack(const struct artifact *target, struct random *r)
{
    const struct manifest *m = &target->manifest;
    struct full_encoder *e = NULL;
    struct err err = ERR_INIT;
    AUTO_BUF pack = BUF_INIT;
    struct sink sink = { &pack };
    uint64_t bytes = 0;
    int status = full_encoder_new(&e, m->nsegments, 3, write_at, &sink, &err);

    for (size_t i = 0; status == 0 && i < m->nsegments; i++)
        status = full_encoder_add(e, target->content.data + i * SEGMENT_BYTES,
                                  manifest_segment_bytes(m, i), &err);
    if (status == 0)
        status = full_encoder_finish(e, &target->id, &bytes, &err);
    must(status == 0 && bytes == pack.len, "a full pack is made", &err);
    full_encoder_free(e);
    harm(check_full, NULL, target, &pack, r);
}

/* A manifest and an index of a pack: cut, they are refused; with a bit flipped they are refused or
 * have another name. */
static void parsers(const struct artifact *a, struct random *r)
{
    struct pack_index index = { PACK_DELTA,           a->id, a->id, 3 * LEAF_BYTES - 5,
                                a->manifest.segments, 0 };
    struct hash leaves[3] = { a->id, a->id, a->id };
    AUTO_BUF manifest = BUF_INIT;
    AUTO_BUF packed = BUF_INIT;

    index.leaves = leaves;
    index.nleaves = COUNT_OF(leaves);
    manifest_encode(&manifest, &a->manifest);
    pack_index_encode(&packed, &index);
    for (int n = 0; n < 2 * CUTS; n++) {
        struct buf *b = n % 2 == 0 ? &manifest : &packed;
        size_t len = (size_t)random_below(r, b->len), bit = (size_t)random_below(r, b->len * 8);
        struct hash before = sha256_of(b->data, b->len), after;
        AUTO_FREE char *cut = mem_dup(b->data, len);
        struct pack_index *p = NULL;
        struct manifest *m = NULL;

        must(manifest_parse(&m, cut, len, NULL) < 0 && pack_index_parse(&p, cut, len, NULL) < 0,
             "what was cut is refused", NULL);
        flip(b, bit);
        after = sha256_of(b->data, b->len);
        if (manifest_parse(&m, b->data, b->len, NULL) == 0 ||
            pack_index_parse(&p, b->data, b->len, NULL) == 0)
            must(!hash_equal(&before, &after), "what was changed has another name", NULL);
        manifest_free(m);
        pack_index_free(p);
        flip(b, bit);
    }
}

static int random_level(struct random *r)
{
    static const int levels[] = { 1, 3, 3, 5, 6, 9, 9, 12, 19 };

    return levels[random_below(r, COUNT_OF(levels))];
}

static void in_memory(struct random *r)
{
    struct delta_pool pool = { 8, crew_each, &pool };
    struct artifact base, target;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    AUTO_BUF pack = BUF_INIT;
    AUTO_BUF again = BUF_INIT;
    int level = random_level(r);

    versions_of_artifact(&base, &target, r);
    must(artifact_delta(&base, &target, level, NULL, &pack, &stats, &err) == 0, "a pack is made",
         &err);
    must(artifact_check(&base, &target, &pack, &err) == 0, "apply(make(a, b), a) == b", &err);
    must(pack.len <= target.content.len + 300, "it is no larger than what it tells", NULL);
    if (random_below(r, 3) == 0) {
        must(artifact_delta(&base, &target, level, &pool, &again, &stats, &err) == 0,
             "a pack is made by 8 threads", &err);
        must(again.len == pack.len && memcmp(again.data, pack.data, pack.len) == 0,
             "8 threads make the same bytes as one", NULL);
    }
    harm(artifact_check, &base, &target, &pack, r);
    harm_base(&base, &target, &pack, r);
    parsers(&target, r);
    if (random_below(r, 4) == 0)
        full_pack(&target, r);
    artifact_release(&base);
    artifact_release(&target);
}

static void on_disk(struct random *r)
{
    const char *dir = tmpdir_fresh();
    const char *old = tmpdir_fresh(), *new = tmpdir_fresh();
    AUTO_FREE char *pack = mem_printf("%s/pack", dir);
    AUTO_FREE char *out = mem_printf("%s/out", dir);
    struct delta_file_options o = { .level = random_level(r),
                                    .threads = 1 + (unsigned)random_below(r, 3) };
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    bool delta = random_below(r, 5) > 0;

    versions_of_tree(old, new, r);
    must(delta_file_make(delta ? old : NULL, new, pack, &o, &stats, &info, &err) == 0,
         "a delta file is made", &err);
    must(delta_file_apply(delta ? old : NULL, pack, out, NULL, &info, &err) == 0,
         "a delta file is applied", &err);
    must(trees_equal(new, out), "the trees are equal", NULL);
    tmpdir_remove(dir);
    tmpdir_remove(old);
    tmpdir_remove(new);
}

static void test_cases(void **state)
{
    unsigned long first = from_env("DELTA_CASE", 1), count = from_env("DELTA_CASES", QUICK);

    (void)state;
    signal(SIGABRT, tell_case);
    signal(SIGSEGV, tell_case);
    for (current = first; current < first + count; current++) {
        struct random r = { (current + 1) * UINT64_C(0x9e3779b97f4a7c15) };

        (void)random_next(&r);
        if (random_below(&r, 6) == 0)
            on_disk(&r);
        else
            in_memory(&r);
        if (count > QUICK && (current - first + 1) % 1000 == 0)
            print_message("# cases %lu to %lu hold\n", first, current);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
