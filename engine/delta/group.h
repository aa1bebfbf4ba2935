/* group.h - a group of a delta pack, ready for use: its sources, covers, and what predicts.
 *
 *     group_open(&g, described, base_manifest, base, err)
 *     group_take_covers(g, covers, count)           from the matcher, or read from the pack
 *     group_code(g, coder, from, to, target, err)   any stretch of it, either direction
 *     group_close(g)
 *
 * Memory: 16 bytes a cover, at most 32 an interval of the map, and what sites.h keeps. After
 * group_take_covers() any number of threads may code stretches, each with a coder of its own. */
#ifndef DELTA_GROUP_H
#define DELTA_GROUP_H

#include "delta/delta.h"

/* Reads all len bytes at offset of a file, given by its entry in the manifest, or fails. */
struct delta_files {
    int (*read)(void *ctx, size_t entry, void *data, size_t len, uint64_t offset, struct err *err);
    void *ctx;
};

struct group {
    struct delta_group *g; /* borrowed */
    const struct manifest *base;
    const struct delta_files *files;
    uint64_t *starts; /* of each source in the concatenation; one more: the end */
    struct cover *covers;
    size_t ncovers;
    struct moves moves;
    struct sites *sites; /* of the source, if predicted */
    struct translator translator;
};

/* Borrows all until _close(). Reads the source's headers if the group is predicted. */
MUST_CHECK int group_open(struct group **ret, struct delta_group *g, const struct manifest *base,
                          const struct delta_files *files, struct err *err);
void group_close(struct group *g);

/* Takes the memory of covers. */
void group_take_covers(struct group *g, struct cover *covers, size_t count);

uint64_t group_source_bytes(const struct group *g);
/* Of the concatenated sources. */
MUST_CHECK int group_read(const struct group *g, void *data, size_t len, uint64_t at,
                          struct err *err);

/* What coding needs besides: reusable, one a thread. */
struct group_scratch {
    unsigned char *base;
    size_t cap; /* of base */
    struct site_list list;
};
void group_scratch_init(struct group_scratch *s);
void group_scratch_release(struct group_scratch *s);

/* The group's bytes [from, to), at most SEGMENT_BYTES, counted from its begin. words: are words of
 * data sites? */
MUST_CHECK int group_code(const struct group *g, struct coder *c, struct group_scratch *scratch,
                          uint64_t from, uint64_t to, bool words, unsigned char *target,
                          struct err *err);

#endif
