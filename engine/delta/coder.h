/* coder.h - what a cover leaves to be said: the same steps to write it down and to read it back.
 *
 * A segment is told in seven streams of bytes:
 *   literal            bytes that no cover explains
 *   gap, value         of the bytes in covers that are no field: how many are equal to the base's
 *                      before the next one that is not (varint); what to add to that one (u8)
 *   run, residual      of the address fields: how many are as predicted before the next one that is
 *                      not (varint); what to add to its prediction (folded varint)
 *   word_run, word_residual    the same of words
 * Where a stream ends, no further difference follows.
 *
 * Predictions. An address: what translate() makes of the address that the base's field means, plus
 * what the last field of this segment that meant the same address turned out to differ by. The place
 * of a relocation record: as far from the record before as in the base. A word: the base's, plus
 * what the last word of about this value (the same 4 KiB) differed by. All tables start empty in
 * each segment, so that every segment is decoded alone.
 *
 * Pure; about 2 MiB. */
#ifndef DELTA_CODER_H
#define DELTA_CODER_H

#include "base/buf.h"
#include "delta/translate.h"
#include "delta/varint.h"

enum stream {
    STREAM_LITERAL,
    STREAM_GAP,
    STREAM_VALUE,
    STREAM_RUN,
    STREAM_RESIDUAL,
    STREAM_WORD_RUN,
    STREAM_WORD_RESIDUAL,
    STREAMS,
};

struct coder;

struct coder *coder_new(void);
void coder_free(struct coder *c);

/* Begins a segment: to be written to out (appended, of STREAMS), or read from in. Borrowed until the
 * segment ends. */
void coder_write(struct coder *c, struct buf *out);
void coder_read(struct coder *c, const struct varints *in);

/* The next bytes of the target: looked at when writing, made when reading (-ERR_CORRUPT: a stream
 * does not fit). */
MUST_CHECK int coder_literal(struct coder *c, unsigned char *target, size_t len, struct err *err);

/* A piece of a cover. base and target: its bytes; t: NULL if nothing is predicted (and no fields);
 * the offsets are those in the two files. */
struct piece {
    const struct translator *t;
    const struct site *sites; /* of the base's bytes, ascending */
    size_t nsites;
    const unsigned char *base;
    unsigned char *target;
    size_t len;
    uint64_t base_offset, target_offset;
};
MUST_CHECK int coder_cover(struct coder *c, const struct piece *p, struct err *err);

/* After the last piece. When reading: -ERR_CORRUPT if something is left over. */
MUST_CHECK int coder_end(struct coder *c, struct err *err);

#endif
