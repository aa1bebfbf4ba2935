/* staged.h - is a segment in a tree that is being unpacked, whatever is said of it? Used by unpack.h. */
#ifndef STORE_STAGED_H
#define STORE_STAGED_H

#include <stdbool.h>

#include "base/bitmap.h"
#include "wire/manifest.h"

struct staged { /* all borrowed */
    int tree_fd;
    const struct manifest *m;
    const struct bitmap *local; /* entries that came from a base */
    struct hash zeros;          /* the digest of a segment of zeros */
};

/* Reads segment i into data (room for SEGMENT_BYTES) and compares its digest. If it is not `said` to
 * be there and nothing of it was written, it is not read (segments of zeros are). *ret_touched:
 * something was written where it lies, in files that are not local. What cannot be read is not
 * there. */
bool staged_holds(const struct staged *s, size_t i, bool said, unsigned char *data,
                  bool *ret_touched);

#endif
