/* decode.h - segments of an artifact from a delta pack and the base's files.
 *
 *     delta_read(&d, ...)                                     head and table (delta.h)
 *     delta_decoder_new(&dec, &options)
 *     for i: delta_read_segment(dec, i, out, err)             in any order; ascending is fastest
 *     delta_decoder_free(dec)
 *
 * Each segment stands alone: when the decoder says no to one of them (its base file is missing or is
 * not what it was, its payload has not arrived), it is taken from the full pack, and the others are
 * not affected. What is handed out has the digest that the manifest names.
 *
 * Memory: at most 64 MiB (typically 20), besides manifests and table. One thread at a time. */
#ifndef DELTA_DECODE_H
#define DELTA_DECODE_H

#include "delta/group.h"

struct delta_decoder;

struct delta_decoder_options { /* all borrowed until _free() */
    struct delta *delta;
    const struct manifest *base, *target;
    const struct delta_files *files; /* of the base */
    pack_read_at read;               /* of the pack */
    void *ctx;
};

struct delta_decoder *delta_decoder_new(const struct delta_decoder_options *options);
void delta_decoder_free(struct delta_decoder *d);

/* Decodes segment i into out (room for SEGMENT_BYTES). -ERR_CORRUPT: pack or base are not what they
 * should be, nothing of use is in out. -ERR_NOT_FOUND: the base has no file that is needed. Others
 * are those of the read functions. */
MUST_CHECK int delta_read_segment(struct delta_decoder *d, size_t i, unsigned char *out,
                                  struct err *err);
/* Is everything that the copy i (SEGMENT_COPY) wants in the base, by the digests of both manifests?
 * Reads nothing: whoever has compared or hashed the files needs no more to know that it decodes. */
MUST_CHECK int delta_check_copy(struct delta_decoder *d, size_t i, struct err *err);

#endif
