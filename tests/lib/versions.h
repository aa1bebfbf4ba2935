/* versions.h - two versions of something, for tests of deltas: made from a seed, as things change.
 *
 * The new version is the old one with pieces moved, doubled, interleaved, cut, spliced, inserted; or
 * a program whose functions come, go and move (programs.h); or a tree whose files are renamed,
 * swapped, emptied, or become directories and links. */
#ifndef TESTS_VERSIONS_H
#define TESTS_VERSIONS_H

#include "lib/artifacts.h"
#include "lib/trees.h"

/* At most about `most` bytes of old; appended. */
void versions_of_bytes(struct buf *old, struct buf *new, struct random *r, size_t most);

/* Large enough to be predicted, mostly. Headers are damaged now and then. */
void versions_of_program(struct buf *old, struct buf *new, struct random *r);

/* 1 to 8 files in memory; sealed. */
void versions_of_artifact(struct artifact *old, struct artifact *new, struct random *r);

/* Fills two empty directories. */
void versions_of_tree(const char *old, const char *new, struct random *r);

#endif
