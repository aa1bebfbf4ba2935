/* encode.h - make a delta pack.
 *
 *     delta_encode(&options, &head, &stats, err)
 *
 * Payloads go to options.emit in the order in which they stand in the pack; the head, which is known
 * last, stands before them. The caller puts the two together, and test-applies the result: that a
 * file was not what its manifest says is found only there.
 *
 * How: pairs.h pairs files, plan.h groups them. Each group is matched (search.h), 64 MiB of the target at a time against
 * a window of the base; then its segments are coded, and of delta, one frame and stored the smallest
 * is kept. The bytes of the pack depend on the inputs and the level, not on the pool.
 *
 * Memory, whatever the size of the artifacts: at most 320 MiB up to level 9 and 480 MiB above for a
 * group's window and index, 30 MiB a thread, 32 bytes a cover of the groups at work. */
#ifndef DELTA_ENCODE_H
#define DELTA_ENCODE_H

#include "delta/costs.h"
#include "delta/plan.h"
#include "delta/search.h"

enum { DELTA_LEVEL_MIN = 1, DELTA_LEVEL_MAX = 19, DELTA_LEVEL = 3 };

struct delta_stats {
    uint64_t segments[SEGMENT_COPY + 1]; /* by encoding */
    uint64_t payload_bytes[SEGMENT_COPY + 1];
    uint64_t covers_bytes; /* of the covers' payloads */
    uint64_t covers, groups, predicted_groups;
    uint64_t stream_bytes[STREAMS]; /* compressed */
    uint64_t literal_bytes;         /* raw */
    struct costs_top top;           /* the files that cost most, and why */
};

struct delta_encode_options { /* all borrowed */
    const struct manifest *base, *target;
    struct hash base_id, target_id;
    const struct delta_files *base_files, *target_files;
    int level;
    const struct delta_pool *pool; /* NULL: this thread alone */
    int (*emit)(void *ctx, const void *data, size_t len, struct err *err);
    /* done of total bytes of the target's stream; < 0 stops with -ERR_CANCELLED. May be NULL. */
    int (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx; /* of both */
};

/* -ERR_INVALID: no such level. -ERR_LIMIT: a format's limit is passed (take a full pack).
 * Others: of the callbacks. */
MUST_CHECK int delta_encode(const struct delta_encode_options *options, struct buf *head,
                            struct delta_stats *stats, struct err *err);

#endif
