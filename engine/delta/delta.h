/* delta.h - the delta pack: an artifact told as what differs from another one.
 *
 * Bytes, little-endian; "varint" and "folded" as in varint.h; "frame" is one zstd frame that states
 * its content size, without dictionary.
 *
 *   "SLP1"  u8 kind (2: delta)  32 bytes base artifact  32 bytes target artifact
 *   u32 segments  u32 groups  u32 table bytes  u32 frame bytes     frame: the table
 *   payloads, one after the other up to the end: the segments', and before the first segment that a
 *       group has bytes in, that group's covers
 *
 * Table:
 *   segments, as runs: { varint count  u8 encoding  if not copy: count x varint length }
 *       encoding: 1 stored, 2 one frame (both as in full.h), 3 delta, 4 copy (length 0)
 *   groups: { varint begin, from the end of the group before  varint length  u8 flags
 *             varint sources  sources x folded entry of the base's manifest - (the one before + 1)
 *             varint covers  if covers > 0: varint raw bytes  varint frame bytes
 *             if predicted: varint loads  loads x { varint offset, address, bytes in the file, bytes
 *                 in memory }  varint offset of .eh_frame_hdr }
 *
 * A group is a stretch of the target's canonical stream that is told by covers of a few files of
 * the base, one after the other: its sources. What lies in no group is the content of files that
 * the base has too (equal digest). Flags: 1 predicted: the group is one ELF file, and so is its only
 * source; the target's loads are given, since no segment may depend on another.
 * Covers of a group: a frame of three columns, each { covers x varint }: target bytes since the
 * cover before; length; folded base position - end of the cover before in the base.
 *
 * A delta segment: u8 flags (1: words are sites, too)  STREAMS x { varint raw bytes, varint frame bytes (0: not compressed) }, then the
 * streams' bytes. coder.h says what they mean. Its covers are those of its groups, cut at its ends.
 *
 * The manifests of both artifacts are at hand when a pack is used; the target's is the authority:
 * nothing is handed out unless its digest is right. A base whose bytes are not what they should be
 * is found by that too. Limits are below; whatever breaks one is refused before memory is taken. */
#ifndef DELTA_DELTA_H
#define DELTA_DELTA_H

#include "delta/coder.h"
#include "delta/full.h"

enum {
    SEGMENT_DELTA = 3,
    SEGMENT_COPY = 4,
    DELTA_GROUPS_MAX = 1 << 17,
    DELTA_SOURCES_MAX = 1 << 20,
    DELTA_COVERS_MAX = 1 << 19,  /* of a group */
    DELTA_TABLE_MAX = 16 << 20,  /* raw */
    DELTA_STREAMS_MAX = 8 << 20, /* of a segment, raw, together */
    DELTA_GROUP_BYTES_MAX = 1 << 30,
    DELTA_PREDICTED = 1, /* of a group */
    DELTA_WORDS = 1,     /* of a segment */
    DELTA_HEAD_BYTES = 4 + 1 + 2 * HASH_BYTES + 4 * 4,
};

struct delta_segment {
    uint64_t offset; /* of the payload in the pack */
    uint32_t length;
    unsigned encoding;
};

struct delta_group {
    uint64_t begin, length; /* in the target's stream */
    unsigned flags;
    uint32_t *sources; /* entries of the base's manifest */
    size_t nsources;
    size_t ncovers;
    uint64_t covers_offset; /* of the payload */
    uint32_t covers_raw, covers_length;
    struct elf *layout; /* predicted: the target's loads and eh_hdr.from; else NULL */
};

struct delta {
    struct hash base, target;
    struct delta_segment *segments;
    size_t nsegments;
    struct delta_group *groups; /* ascending */
    size_t ngroups;
};

/* Head and table of a pack that is described by d (offsets are not looked at). -ERR_LIMIT. */
MUST_CHECK int delta_encode_table(struct buf *out, const struct delta *d, struct err *err);

/* How many bytes head and table have, as the head says: whoever has these of a pack can read the
 * table. */
uint64_t delta_header_bytes(const unsigned char head[DELTA_HEAD_BYTES]);

/* Parses head and table of a pack of pack_bytes bytes, from base to target, whose artifacts are named
 * base_id and target_id. base may be NULL for who only wants to look: then sources are not checked,
 * and nothing can be decoded. -ERR_INVALID: malformed, or of other artifacts. -ERR_LIMIT. */
MUST_CHECK int delta_read(struct delta **ret, pack_read_at read, void *ctx, uint64_t pack_bytes,
                          const struct manifest *base, const struct hash *base_id,
                          const struct manifest *target, const struct hash *target_id,
                          struct err *err);
void delta_free(struct delta *d);

/* The covers of a group, as they stand in its payload (uncompressed). */
void delta_covers_encode(struct buf *out, const struct cover *covers, size_t count);
/* count covers of a group of target_bytes whose sources have source_bytes. -ERR_CORRUPT. Gives
 * *ret. */
MUST_CHECK int delta_covers_parse(struct cover **ret, const void *data, size_t len, size_t count,
                                  uint64_t target_bytes, uint64_t source_bytes, struct err *err);

/* The bytes of the base that a group's sources have. */
uint64_t delta_source_bytes(const struct delta_group *g, const struct manifest *base);

#endif
