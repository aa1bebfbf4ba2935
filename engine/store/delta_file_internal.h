/* delta_file_internal.h - what the files of delta_file share; not for its users.
 *
 *   delta_file.c         make
 *   delta_file_apply.c   apply
 *   delta_file_head.c    the file's own head, written
 *   delta_file_read.c    and read; info */
#ifndef STORE_DELTA_FILE_INTERNAL_H
#define STORE_DELTA_FILE_INTERNAL_H

#include "store/delta_file.h"

struct delta;

enum {
    DELTA_FILE_DIGEST_AT = 4 + 1 + 8 + 8 + 8,
    DELTA_FILE_HEAD_BYTES = DELTA_FILE_DIGEST_AT + HASH_BYTES,
};

/* A delta file as it is read. */
struct delta_opened {
    int fd;
    uint64_t start; /* of the pack */
    struct manifest *m;
    struct manifest *base; /* of a delta; without digests of segments */
    struct delta_file_info info;
};

/* Checks its digest, its head and its manifest; .fd = -1 before. -ERR_INVALID, -ERR_CORRUPT; -ERR_LIMIT: it claims
 * manifests that cannot be in so few bytes (no memory is taken for them). */
MUST_CHECK int delta_opened_open(struct delta_opened *o, const char *path, struct err *err);
void delta_opened_close(struct delta_opened *o);
/* A pack_read_at. */
MUST_CHECK int delta_opened_read(void *opened, void *data, size_t len, uint64_t offset,
                                 struct err *err);

/* Fills the empty `out` with the file's head and manifests, but for the digest. base and d: of a delta
 * pack; d: its head and table. */
MUST_CHECK int delta_file_head(struct buf *out, bool tree, const struct manifest *target,
                               const struct manifest *base, const struct delta *d, struct err *err);

/* What the digest in the head of a file of `bytes` bytes should be. */
MUST_CHECK int delta_file_digest(int fd, uint64_t bytes, struct hash *ret, struct err *err);

uint64_t delta_count_files(const struct manifest *m);
struct delta_file_options delta_file_defaults(const struct delta_file_options *given);

#endif
