/* manifest.h - what an artifact is: its tree, and the digest of every byte of it.
 *
 * The canonical stream of a tree is the content of its regular files, one after the other, in path
 * order (bytewise). The manifest lists the tree, the SHA-256 of each file and the digest of each 4 MiB
 * segment of the stream (base/merkle.h); its own SHA-256 is the artifact's name. It alone is the
 * authority for bytes.
 *
 * Bytes, little-endian:
 *   "SLM2"  u32 entries  u64 stream bytes  u32 segments
 *   entries: u8 kind ('f' 'd' 'l')  u16 mode (0777)  u16 path length  path
 *            f: u64 size  32 bytes SHA-256      l: u16 target length  target
 *   segments: 32 bytes digest each, of merkle_segment()
 * SLM1, in which these were SHA-256, is refused.
 * Paths: relative, '/'-separated, no empty, "." or ".." component, no control characters, valid
 * UTF-8, at most 1024 bytes (255 a component), strictly ascending (bytewise, so a directory stands
 * before what is in it), case-sensitive. A file's parent directories are all listed. A symlink's
 * target is relative and stays inside the tree. A single file artifact is a tree of one file. */
#ifndef WIRE_MANIFEST_H
#define WIRE_MANIFEST_H

#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

#include "base/merkle.h"

enum {
    SEGMENT_BYTES = MERKLE_SEGMENT_BYTES,
    PATH_MAX_BYTES = 1024,
    MANIFEST_ENTRIES_MAX = 2000000,
    MANIFEST_MAX_BYTES = 512 << 20,
};

enum entry_kind { ENTRY_NONE = 0, ENTRY_FILE = 'f', ENTRY_DIR = 'd', ENTRY_LINK = 'l' };

struct entry {
    enum entry_kind kind;
    unsigned mode; /* permission bits, 0777 at most */
    char *path;
    char *target;     /* of a link */
    uint64_t size;    /* of a file */
    uint64_t offset;  /* where it starts (or would) in the stream; computed, not stored */
    struct hash hash; /* of a file */
};

struct manifest {
    struct entry *entries;
    size_t nentries;
    uint64_t stream_bytes;
    struct hash *segments;
    size_t nsegments; /* ceil(stream_bytes / SEGMENT_BYTES) */
};

void manifest_encode(struct buf *out, const struct manifest *m);
MUST_CHECK int manifest_parse(struct manifest **ret, const void *data, size_t len, struct err *err);
void manifest_free(struct manifest *m);

/* Length of segment i. */
size_t manifest_segment_bytes(const struct manifest *m, size_t i);

/* Where entry and segment overlap. */
struct span {
    size_t in_segment; /* offset in the segment */
    uint64_t in_file;  /* offset in the file */
    size_t len;
};

/* The first entry that may have bytes in segment i; those that follow it, up to the first whose
 * offset lies behind the segment, are to be asked manifest_span(). */
size_t manifest_first_file(const struct manifest *m, size_t i);
/* False if entry k has no byte in segment i. */
bool manifest_span(const struct manifest *m, size_t i, size_t k, struct span *ret);

/* May this path, or link target as seen from path, stand in a manifest? */
MUST_CHECK int manifest_check_path(const char *path, struct err *err);
MUST_CHECK int manifest_check_link(const char *path, const char *target, struct err *err);

#endif
