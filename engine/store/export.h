/* export.h - an artifact from the store to a tree on disk, every segment verified. */
#ifndef STORE_EXPORT_H
#define STORE_EXPORT_H

#include "store/catalog.h"

/* Makes `dest` (which must not exist; its parent must) from the first full pack that holds the
 * artifact; through DEST.part, so that dest is whole or not there, and an interrupted export goes
 * on. -ERR_EXISTS. -ERR_NOT_FOUND: no manifest, or no full pack. -ERR_CORRUPT: it rotted (scrub.h
 * may heal it). */
MUST_CHECK int artifact_export(struct store *s, const struct catalog_artifact *a, const char *dest,
                               struct err *err);

#endif
