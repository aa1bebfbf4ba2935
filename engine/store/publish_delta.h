/* publish_delta.h - the delta pack between two artifacts of a store, and the proof that it is right.
 *
 * artifact_publish_delta() makes it from the two full packs, decodes every segment of it again and
 * compares it with the target's manifest, and only then puts pack and index. One that turns out to be
 * worth nothing is dropped as soon as that is known: before it is made, if the two have nothing in
 * common (delta/related.h), or when it has grown over PUBLISH_DELTA_SHARE of the full pack. The
 * pack's bytes depend on the artifacts and the level alone, so that making it twice is harmless.
 * Memory: that of delta/encode.h, and 100 MiB of decoded segments a side. Blocks. */
#ifndef STORE_PUBLISH_DELTA_H
#define STORE_PUBLISH_DELTA_H

#include "base/buf.h"
#include "delta/packed.h"
#include "store/store.h"

/* An artifact and its full pack. */
struct delta_side {
    struct hash artifact, pack;
};

struct delta_publish_options {
    int level;        /* DELTA_LEVEL_MIN..MAX; 0: DELTA_LEVEL */
    unsigned threads; /* 0: one */
    /* < 0 stops with -ERR_CANCELLED. May be NULL. From any thread; done says little. */
    int (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

/* Why nothing was put. */
enum delta_dropped {
    DELTA_KEPT = 0,
    DELTA_TOO_LARGE, /* over PUBLISH_DELTA_SHARE of the full pack */
    DELTA_UNRELATED, /* nothing in the target is like the base */
};

/* A changed file that is compressed already: what changes in it changes all of it. */
struct packed_file {
    char *path;
    uint64_t bytes;
    const struct packed *kind; /* what it is, and what to do about it (delta/packed.h) */
};

enum {
    PUBLISH_DELTA_NAMED = 5,
    PUBLISH_DELTA_PACKED_MIN = 64 << 10, /* smaller ones are not looked at */
    PUBLISH_DELTA_SHARE = 60,            /* per cent */
};

struct published_delta {
    struct hash pack; /* zero unless dropped == DELTA_KEPT */
    enum delta_dropped dropped;
    uint64_t pack_bytes, full_bytes; /* dropped: pack_bytes is 0 */
    /* Of a delta that was put, those that cost COSTS_PACKED_LEAST of its bytes (delta/costs.h); else all
     * that changed. The largest first. */
    struct packed_file packed[PUBLISH_DELTA_NAMED];
    size_t nnamed;
    size_t npacked;        /* how many there are in all, */
    uint64_t packed_bytes; /* and how large they are (of a delta that was put: the dearest few) */
};

void published_delta_release(struct published_delta *p);

/* Errors: of the store and of delta_encode(); -ERR_CORRUPT: the test failed. */
MUST_CHECK int artifact_publish_delta(struct store *s, const struct delta_side *base,
                                      const struct delta_side *target,
                                      const struct delta_publish_options *options,
                                      struct published_delta *ret, struct err *err);

/* Decodes every segment of the delta pack with the base from the store, and checks every leaf
 * against the index. -ERR_NOT_FOUND, -ERR_CORRUPT, -ERR_INVALID (it is another delta). */
MUST_CHECK int artifact_verify_delta(struct store *s, const struct delta_side *base,
                                     const struct hash *target, const struct hash *pack,
                                     uint64_t *ret_bytes, struct err *err);

#endif
