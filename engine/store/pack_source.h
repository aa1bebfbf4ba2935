/* pack_source.h - a pack, full or delta, opened for decoding.
 *
 *     pack_source_open(&s, &description, err)
 *     pack_source_read(s, i, out, err)            any segment, checked against the manifest
 *     pack_source_close(s)
 *
 * One thread at a time; several sources may read one pack. Memory: that of a decoder (decode.h,
 * full.h), and the table of the pack. */
#ifndef STORE_PACK_SOURCE_H
#define STORE_PACK_SOURCE_H

#include "delta/decode.h"

struct pack_description { /* all borrowed until _close() */
    enum pack_kind kind;
    uint64_t bytes;
    pack_read_at read;
    void *ctx;
    const struct manifest *target;
    struct hash target_id;
    const struct manifest *base; /* of a delta; NULL: there is none */
    struct hash base_id;
    const struct delta_files *base_files;
};

struct pack_source;

/* -ERR_INVALID: malformed, of other artifacts, or a delta without a base. */
MUST_CHECK int pack_source_open(struct pack_source **ret, const struct pack_description *pack,
                                struct err *err);
void pack_source_close(struct pack_source *s);

/* Errors: of delta_read_segment(), full_read_segment(). out: room for SEGMENT_BYTES. */
MUST_CHECK int pack_source_read(struct pack_source *s, size_t i, unsigned char *out,
                                struct err *err);

/* Is segment i a copy of the base's files, and are they there? (delta_check_copy()) */
bool pack_source_is_copy(const struct pack_source *s, size_t i);
MUST_CHECK int pack_source_check_copy(struct pack_source *s, size_t i, struct err *err);

#endif
