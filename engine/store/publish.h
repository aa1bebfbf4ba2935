/* publish.h - from a build's output to an artifact in the store, and the proof that it is there.
 *
 * artifact_publish() reads the tree once, encodes its full pack into a temporary file, decodes
 * every segment of that file again and compares it with the manifest, and only then puts manifest,
 * pack and index, in this order: an index in the store says that the whole artifact is. Memory: at
 * most 40 MiB and the manifest. Blocks: for the work pool or a worker process. */
#ifndef STORE_PUBLISH_H
#define STORE_PUBLISH_H

#include "store/store.h"
#include "wire/manifest.h"
#include "wire/pack.h"

struct publish_options {
    int level;          /* zstd; 0: FULL_LEVEL */
    uint64_t max_bytes; /* of the stream; 0: no limit but the format's */
    /* Called after every segment that was read, and again after every one that was verified: total
     * is twice the stream's bytes. < 0 stops with -ERR_CANCELLED. May be NULL. */
    int (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    uint64_t **ret_sums; /* gives checksum_of() each leaf, as it was hashed on disk; or NULL */
};

struct published {
    struct hash artifact; /* SHA-256 of the manifest */
    struct hash pack;     /* SHA-256 of the index */
    uint64_t stream_bytes;
    uint64_t pack_bytes;
    uint64_t files;
};

/* path: a directory, or a file (an artifact of that one file, under its own name). options may be
 * NULL. Errors: those of tree_open() and of the store; -ERR_LIMIT over max_bytes. */
MUST_CHECK int artifact_publish(struct store *s, const char *path,
                                const struct publish_options *options, struct published *ret,
                                struct err *err);

/* Decodes every segment of the full pack from the store and compares it with the manifest, and
 * every leaf with the index. *ret may be NULL. -ERR_NOT_FOUND, -ERR_CORRUPT (a wrong pack has been
 * moved aside), -ERR_INVALID (pack is not a full pack of artifact). */
MUST_CHECK int artifact_verify(struct store *s, const struct hash *artifact,
                               const struct hash *pack, struct published *ret, struct err *err);

/* Reads and parses, verified. Each gives *ret. */
MUST_CHECK int store_get_manifest(struct store *s, const struct hash *artifact,
                                  struct manifest **ret, struct err *err);
MUST_CHECK int store_get_index(struct store *s, const struct hash *pack, struct pack_index **ret,
                               struct err *err);

#endif
