/* dir.h - the blob store in a directory; use it through store.h, which tells its layout. */
#ifndef STORE_DIR_H
#define STORE_DIR_H

#include "store/store.h"

MUST_CHECK int dir_store_open(struct store **ret, const char *path, struct err *err);

#endif
