/* stocked.h - stores with artifacts in them, for the tests of their care. */
#ifndef TESTS_UNIT_STORE_STOCKED_H
#define TESTS_UNIT_STORE_STOCKED_H

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "lib/check.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "store/catalog.h"
#include "store/publish.h"
#include "store/publish_delta.h"

struct stock {
    const char *root;
    struct store *s;
    struct catalog *c;
    struct err err;
};

static inline void stock_init(struct stock *k)
{
    *k = (struct stock){ .root = tmpdir_fresh() };
    assert_ok(store_open(&k->s, k->root, &k->err), &k->err);
}

static inline void stock_release(struct stock *k)
{
    catalog_free(k->c);
    store_close(k->s);
}

static inline void stock_look(struct stock *k)
{
    catalog_free(k->c);
    k->c = NULL;
    assert_ok(catalog_read(&k->c, k->s, &k->err), &k->err);
}

/* A tree of a seed: always the same one. */
static inline const char *stock_tree(uint64_t seed)
{
    struct random r = { seed };
    const char *dir = tmpdir_fresh();

    tree_random(dir, &r, 12, false);
    return dir;
}

static inline struct published stock_publish(struct stock *k, const char *dir, int level)
{
    struct publish_options o = { .level = level };
    struct published p;

    assert_ok(artifact_publish(k->s, dir, &o, &p, &k->err), &k->err);
    return p;
}

/* A file of 1 MiB that differs in one byte from version to version. */
static inline struct published stock_version(struct stock *k, unsigned char version)
{
    const char *dir = tmpdir_fresh();
    AUTO_FREE char *path = mem_printf("%s/file", dir);
    AUTO_FREE unsigned char *data = mem_alloc(1 << 20);
    struct random r = { 77 };

    for (size_t i = 0; i < 1 << 20; i++)
        data[i] = (unsigned char)random_next(&r);
    data[1000] = version;
    tmpdir_write(path, data, 1 << 20);
    return stock_publish(k, dir, 3);
}

static inline struct hash stock_delta(struct stock *k, const struct published *base,
                                      const struct published *target)
{
    struct delta_side from = { base->artifact, base->pack };
    struct delta_side to = { target->artifact, target->pack };
    struct published_delta d;

    assert_ok(artifact_publish_delta(k->s, &from, &to, NULL, &d, &k->err), &k->err);
    assert_int_equal(d.dropped, DELTA_KEPT);
    published_delta_release(&d);
    return d.pack;
}

static inline char *stock_path(const struct stock *k, enum object_kind kind,
                               const struct hash *name)
{
    char hex[HASH_HEX];

    hash_hex(name, hex);
    return mem_printf("%s/%s/%.2s/%s", k->root, object_kind_name(kind), hex, hex + 2);
}

static inline bool stock_has(struct stock *k, enum object_kind kind, const struct hash *name)
{
    bool there = false;

    assert_ok(store_has(k->s, kind, name, &there, &k->err), &k->err);
    return there;
}

static inline void stock_lose(struct stock *k, enum object_kind kind, const struct hash *name)
{
    assert_ok(store_delete(k->s, kind, name, &k->err), &k->err);
}

/* Flips one bit in the middle. */
static inline void stock_spoil(const struct stock *k, enum object_kind kind,
                               const struct hash *name)
{
    AUTO_FREE char *path = stock_path(k, kind, name);
    struct stat st;
    unsigned char byte;
    int fd;

    assert_int_equal(chmod(path, 0644), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pread(fd, &byte, 1, st.st_size / 2), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 2), 1);
    close(fd);
}

static inline void stock_age_one(const struct stock *k, enum object_kind kind,
                                 const struct hash *name, int64_t put_ms)
{
    AUTO_FREE char *path = stock_path(k, kind, name);
    const struct timespec t[2] = { { put_ms / 1000, 0 }, { put_ms / 1000, 0 } };

    if (path_exists(path))
        assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

/* As if it had been put then. */
static inline void stock_age(const struct stock *k, const struct published *p, int64_t put_ms)
{
    stock_age_one(k, OBJECT_MANIFEST, &p->artifact, put_ms);
    stock_age_one(k, OBJECT_INDEX, &p->pack, put_ms);
    stock_age_one(k, OBJECT_PACK, &p->pack, put_ms);
}

/* An index says that its pack and manifest are there. */
static inline void stock_check_indexes(struct stock *k)
{
    stock_look(k);
    for (size_t i = 0; i < k->c->npacks; i++) {
        assert_true(k->c->packs[i].present);
        assert_true(stock_has(k, OBJECT_MANIFEST, &k->c->packs[i].target));
    }
}

#endif
