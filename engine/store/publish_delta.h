/* publish_delta.h - the delta pack between two artifacts of a store, and the proof that it is right.
 *
 * artifact_publish_delta() makes it from the two full packs, decodes every segment of it again and
 * compares it with the target's manifest, and only then puts pack and index. The pack's bytes depend
 * on the artifacts and the level alone, so that making it twice is harmless. Memory: that of
 * delta/encode.h, and 100 MiB of decoded segments a side. Blocks. */
#ifndef STORE_PUBLISH_DELTA_H
#define STORE_PUBLISH_DELTA_H

#include "base/buf.h"
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

struct published_delta {
    struct hash pack; /* zero: it would not be smaller than the full pack; nothing was put */
    uint64_t pack_bytes, full_bytes;
    struct buf compressed; /* paths of changed files that are compressed already, NUL-ended, at most
                              PUBLISH_DELTA_NAMED; the caller's to release */
    size_t ncompressed;    /* how many there are in all */
};

enum { PUBLISH_DELTA_NAMED = 5, PUBLISH_DELTA_COMPRESSED_MIN = 64 << 10 };

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
