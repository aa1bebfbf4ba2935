/* unpacking.h - what the tests of the unpacker share: trees to unpack and places to do it. */
#ifndef TESTS_UNIT_STORE_UNPACKING_H
#define TESTS_UNIT_STORE_UNPACKING_H

#include <stdlib.h>

#include "base/mem.h"
#include "io/files.h"
#include "lib/check.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "store/tree.h"
#include "store/unpack.h"

/* A tree on disk, its manifest and name: what is to be unpacked. */
struct source {
    const char *dir;
    struct tree *tree;
    const struct manifest *m;
    struct hash artifact;
};

static inline const char *in(const char *dir, const char *name)
{
    return tmpdir_path("%s/%s", strrchr(dir, '/') + 1, name);
}

static inline struct source source_of(const char *dir)
{
    struct source s = { .dir = dir };
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;

    assert_ok(tree_open(&s.tree, dir, &err), &err);
    assert_ok(tree_read(s.tree, NULL, NULL, &err), &err);
    s.m = tree_manifest(s.tree);
    manifest_encode(&b, s.m);
    s.artifact = sha256_of(b.data, b.len);
    return s;
}

static inline struct source random_source(uint64_t seed)
{
    struct random r = { seed };
    const char *dir = tmpdir_fresh();

    tree_random(dir, &r, 30, true);
    return source_of(dir);
}

/* A file of n segments and a bit. */
static inline struct source large_source(size_t n)
{
    const char *dir = tmpdir_fresh();
    size_t len = n * SEGMENT_BYTES + 5;
    struct random r = { n + 1 };
    char *data = mem_alloc(len);

    for (size_t i = 0; i < len; i += 64)
        data[i] = (char)random_next(&r);
    tmpdir_write(in(dir, "big"), data, len);
    free(data);
    return source_of(dir);
}

/* Room for one unpacking: where/staging and where/dest. */
struct place {
    char *staging, *dest;
};

static inline struct place place_new(void)
{
    const char *dir = tmpdir_fresh();
    struct place p = { mem_printf("%s/staging", dir), mem_printf("%s/dest", dir) };

    return p;
}

static inline void place_release(struct place *p)
{
    free(p->staging);
    free(p->dest);
}

static inline struct unpack *open_unpack(const struct source *s, const struct place *p,
                                         const struct source *base, bool verify)
{
    struct unpack_options o = { .staging = p->staging,
                                .dest = p->dest,
                                .manifest = s->m,
                                .artifact = s->artifact,
                                .verify_base = verify };
    struct unpack_base b = { base == NULL ? NULL : base->dir, base == NULL ? NULL : base->m };
    struct err err = ERR_INIT;
    struct unpack *u = NULL;

    o.bases = &b;
    o.nbases = base != NULL;
    assert_ok(unpack_open(&u, &o, &err), &err);
    return u;
}

static inline int give(struct unpack *u, const struct source *s, size_t i, struct err *err)
{
    unsigned char *data = mem_alloc(SEGMENT_BYTES);
    int r = tree_read_segment(s->dir, s->m, i, data, err);

    if (r == 0)
        r = unpack_segment(u, i, data, manifest_segment_bytes(s->m, i), err);
    free(data);
    return r;
}

static inline void give_needed(struct unpack *u, const struct source *s)
{
    struct err err = ERR_INIT;

    for (size_t i = 0; i < s->m->nsegments; i++) {
        if (unpack_needed(u, i))
            assert_ok(give(u, s, i, &err), &err);
    }
}

static inline void finish(struct unpack *u, const struct source *s, const struct place *p)
{
    struct err err = ERR_INIT;

    assert_int_equal(unpack_needed_count(u), 0);
    assert_ok(unpack_finish(u, &err), &err);
    unpack_close(u);
    assert_true(trees_equal(s->dir, p->dest));
    assert_false(path_exists(p->staging));
}

#endif
