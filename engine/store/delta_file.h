/* delta_file.h - packs as files of their own: what `engine delta` works with.
 *
 * A pack refers to the manifests of its artifacts, which travel beside it. A delta file holds all:
 *   "SLB2"  u8 'f' (the artifact is one file) or 'd' (a tree)
 *   u64 bytes of the target's manifest  u64 of the base's (0: a full pack)  u64 frame bytes
 *   32 bytes: SHA-256 of all of the file but these
 *   frame: both manifests, one zstd frame            then the pack, full or delta, to the end
 * (little-endian). A digest that nobody needs is zero in them: of every segment of the base, and of
 * each segment of the target that is a copy. What is a copy is made of whole files, whose digests
 * are there; so the file of a target that did not change is small however large the target is.
 *
 * Blocks, with threads of its own. */
#ifndef STORE_DELTA_FILE_H
#define STORE_DELTA_FILE_H

#include "delta/encode.h"

enum { DELTA_THREADS_MAX = 64 };

/* The files that cost most (delta/costs.h), by name. */
struct delta_file_cost {
    char *path;
    uint64_t size;
    struct cost cost;
};

struct delta_file_costs {
    struct delta_file_cost items[COSTS_NAMED]; /* the dearest first */
    size_t count;
    size_t packed; /* as in struct costs_top */
};

void delta_file_costs_init(struct delta_file_costs *c, const struct costs_top *top,
                           const struct manifest *m);
void delta_file_costs_release(struct delta_file_costs *c);

struct delta_file_options {
    int level;        /* DELTA_LEVEL_MIN..MAX; 0: DELTA_LEVEL */
    unsigned threads; /* 0: one a processor */
    /* May be NULL. < 0 stops with -ERR_CANCELLED. */
    int (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void *ctx;
    struct delta_file_costs *costs; /* filled by delta_file_make(); may be NULL */
};

struct delta_file_info {
    bool tree;
    enum pack_kind kind;
    struct hash base, target; /* artifacts */
    uint64_t files, stream_bytes;
    uint64_t file_bytes, pack_bytes;
    uint64_t segments;
};

/* Makes the pack of target (a file or a directory) against base, NULL for a full pack; decodes it
 * again, segment by segment, against the manifest; publishes it at path, in the place of a file that
 * is there. Errors: of delta_paths_make(), tree_open(), delta_encode(); -ERR_CONFLICT: a file of base
 * or target changed meanwhile; -ERR_CORRUPT: the test failed. Then nothing is left; what a kill leaves
 * (beside.h) the next one takes away. */
MUST_CHECK int delta_file_make(const char *base, const char *target, const char *path,
                               const struct delta_file_options *options, struct delta_stats *stats,
                               struct delta_file_info *info, struct err *err);

/* Makes `out` (which must not exist) from base and the pack. Unchanged files of a tree are hard
 * links to base's; one file that is all the artifact shares its blocks (reflink), and is a hard link
 * where the file system cannot do that. Interrupted, it continues where it was (OUT.part), after hashing what is there.
 * -ERR_INVALID: malformed, or made for another base. -ERR_CORRUPT. -ERR_EXISTS: so is `out`, or
 * OUT.part is not ours. -ERR_CONFLICT: another one is making the same `out`. */
MUST_CHECK int delta_file_apply(const char *base, const char *path, const char *out,
                                const struct delta_file_options *options,
                                struct delta_file_info *info, struct err *err);

/* What the file says of itself. */
MUST_CHECK int delta_file_info(const char *path, struct delta_file_info *info, struct err *err);

/* The same, and what it says of its segments: as pack_costs(). costs: the caller's to release. */
MUST_CHECK int delta_file_report(const char *path, struct delta_file_info *info,
                                 struct delta_stats *stats, struct delta_file_costs *costs,
                                 struct err *err);

#endif
