/* full.h - the full pack: every segment of an artifact by itself, as one zstd frame.
 *
 * Bytes, little-endian:
 *   "SLP2"  u8 kind (1: full)  32 bytes target artifact  u32 segments
 *   table:  segments x {u8 encoding (1 stored, 2 zstd)  u32 length}
 *   zeros up to a multiple of LEAF_BYTES, if there are FULL_ALIGNED_FROM segments or more
 *   payloads, one after the other, in segment order, up to the end
 * A stored payload is the segment itself. A zstd payload is exactly one frame that states its
 * content size, without dictionary, with a window of at most 4 MiB, and shorter than the segment.
 * The table stands in front, so that whoever has the pack's first leaves (one leaf up to 52,000
 * segments) knows which leaves hold a segment, and can decode it before the rest has arrived.
 *
 * A pack in which every segment is stored is its table, and then the stream. If that is aligned, the leaves of
 * the pack are blocks of the stream, and what the digest of a segment has to be follows from those
 * in the pack's index (base/merkle.h). So index and manifest are compared once, without any data, and a
 * segment is right when its leaves are. The zeros are at most 0.2 % of such a pack.
 *
 * Encoding is one pass over the stream: payloads are written behind the place of the table, whose
 * size follows from the number of segments, and full_encoder_finish() writes the table last.
 *
 * Decoding never hands out bytes whose digest is not the manifest's. Memory of an encoder or
 * decoder: at most 16 MiB, whatever the size of the artifact (and 5 bytes a segment).
 *
 * Pure: bytes go through callbacks. Nothing here is shared between threads. */
#ifndef DELTA_FULL_H
#define DELTA_FULL_H

#include "wire/manifest.h"
#include "wire/pack.h"

enum {
    FULL_SEGMENTS_MAX = 65536, /* 256 GiB */
    FULL_ALIGNED_FROM = 32,    /* segments: 128 MiB */
    FULL_LEVEL_MIN = 1,
    FULL_LEVEL_MAX = 19,
    FULL_LEVEL = 3, /* what publishing uses unless told */
};

/* Writes or reads all len bytes at offset, or fails. */
typedef int (*pack_write_at)(void *ctx, const void *data, size_t len, uint64_t offset,
                             struct err *err);
typedef int (*pack_read_at)(void *ctx, void *data, size_t len, uint64_t offset, struct err *err);

/* Bytes of header and table, and of the zeros behind them. */
size_t full_header_bytes(size_t nsegments);

/* Is it the stream behind its table, aligned? A segment that is not stored is shorter than it is raw, so that
 * the sizes tell. */
bool full_is_aligned_stream(const struct manifest *m, uint64_t pack_bytes);
/* Of such a pack. -ERR_CORRUPT: its leaves do not make the segments that the manifest has. */
MUST_CHECK int full_check_index(const struct manifest *m, const struct pack_index *x,
                                struct err *err);

struct full_encoder;

/* For nsegments segments, at zstd level `level` (FULL_LEVEL_MIN..MAX). -ERR_LIMIT: more than
 * FULL_SEGMENTS_MAX. -ERR_INVALID: no such level. Borrows ctx until _free(). */
MUST_CHECK int full_encoder_new(struct full_encoder **ret, size_t nsegments, int level,
                                pack_write_at write, void *ctx, struct err *err);
/* The next segment, 1 to SEGMENT_BYTES bytes. */
MUST_CHECK int full_encoder_add(struct full_encoder *e, const void *data, size_t len,
                                struct err *err);
/* After the last one: writes the table and tells the size of the pack. -ERR_INTERNAL if segments
 * are missing. */
MUST_CHECK int full_encoder_finish(struct full_encoder *e, const struct hash *artifact,
                                   uint64_t *ret_pack_bytes, struct err *err);
void full_encoder_free(struct full_encoder *e);

enum segment_encoding { SEGMENT_NONE = 0, SEGMENT_STORED = 1, SEGMENT_ZSTD = 2 };

struct full_segment {
    uint64_t offset; /* of the payload in the pack */
    uint32_t length;
    enum segment_encoding encoding;
};

struct full {
    struct full_segment *segments;
    size_t nsegments;
};

/* Parses the first full_header_bytes(m->nsegments) bytes of a pack of pack_bytes bytes that should
 * carry the artifact whose manifest is m. -ERR_INVALID: malformed, of another kind, or of another
 * artifact. */
MUST_CHECK int full_parse(struct full **ret, const void *data, size_t len, uint64_t pack_bytes,
                          const struct manifest *m, const struct hash *artifact, struct err *err);
/* The same, reading the header by the callback. */
MUST_CHECK int full_read(struct full **ret, pack_read_at read, void *ctx, uint64_t pack_bytes,
                         const struct manifest *m, const struct hash *artifact, struct err *err);
void full_free(struct full *f);

struct full_decoder; /* reusable buffers; one a thread */

struct full_decoder *full_decoder_new(void);
void full_decoder_free(struct full_decoder *d);

/* Decodes segment i into out (room for SEGMENT_BYTES); its length is manifest_segment_bytes(m, i).
 * -ERR_CORRUPT: the payload does not decode to the bytes that the manifest promises; then out holds
 * nothing of use. Other codes are read's. */
MUST_CHECK int full_read_segment(struct full_decoder *d, const struct full *f,
                                 const struct manifest *m, size_t i, pack_read_at read, void *ctx,
                                 unsigned char *out, struct err *err);

/* The leaves that hold segment i's payload: *ret_first and *ret_count (>= 1). */
void full_segment_leaves(const struct full *f, size_t i, uint32_t *ret_first, uint32_t *ret_count);

#endif
