/* dir.h - the blob store in a directory; use it through store.h, which tells its layout. */
#ifndef STORE_DIR_H
#define STORE_DIR_H

#include "store/store.h"

MUST_CHECK int dir_store_open(struct store **ret, const char *path, struct err *err);

/* Where an object lies, or would lie: for who serves it as a file. s is a directory store. */
void dir_store_path(const struct store *s, enum object_kind kind, const struct hash *name,
                    struct buf *out);

#endif
