/* tree_pair.h - two versions of a tree, read together.
 *
 * Most files of a version are those of the one before. Comparing bytes is several times as fast as
 * hashing them: a file of the base that is, byte for byte, the target's file of the same path takes
 * its digest from there, and so does a segment that lies at the same place in both. Only the rest of
 * the base is hashed. */
#ifndef STORE_TREE_PAIR_H
#define STORE_TREE_PAIR_H

#include "delta/search.h"
#include "store/tree.h"

/* tree_read() of both, side by side if the pool has two workers (NULL: it has one). Two artifacts of
 * one file are compared whatever they are called. Errors: as of tree_read(). */
MUST_CHECK int tree_read_pair(struct tree *base, struct tree *target, const struct delta_pool *pool,
                              struct err *err);

#endif
