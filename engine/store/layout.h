/* layout.h - the first step of unpacking: directories, links and empty files of a manifest, and the
 * files that bases on this disk can give. Use it through unpack.h, which tells the rules. */
#ifndef STORE_LAYOUT_H
#define STORE_LAYOUT_H

#include "base/bitmap.h"
#include "store/unpack.h"

/* Fills the empty directory tree_fd. Sets the bits of local (one an entry) for files that are
 * complete: linked to the base's, or copied and synced. A base file that is not what its manifest
 * says is left out. */
MUST_CHECK int layout_make(int tree_fd, const struct unpack_options *o, struct bitmap *local,
                           struct err *err);

/* Does the tree still have every entry, of the right kind, and local files of the right size? With
 * verify, these are hashed: what was linked is the base's, too, and may have been written to. */
bool layout_is_whole(int tree_fd, const struct manifest *m, const struct bitmap *local,
                     bool verify);

#endif
