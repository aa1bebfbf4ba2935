/* rebuild.h - a lost pack, made again from what else the store has.
 *
 * Encoding is deterministic: the artifact's segments, encoded at the level that publishing uses,
 * give the same pack, byte by byte, as long as it was made by the same zstd; whether it did is
 * checked by its name. The segments come from another full pack, or from a delta pack together with
 * a full pack of its base. A delta pack is made of the full packs of its base and its target, at the
 * level that jobs use. */
#ifndef STORE_REBUILD_H
#define STORE_REBUILD_H

#include "store/catalog.h"

/* Puts pack and index. work: a directory for what is needed meanwhile; made. -ERR_NOT_FOUND: there
 * is nothing that it could be made from. -ERR_CONFLICT: what came out has another name. */
MUST_CHECK int pack_rebuild(struct store *s, const struct catalog *c,
                            const struct catalog_artifact *a, const struct hash *pack,
                            const char *work, struct err *err);

/* The delta pack that p tells of, tested like a new one. -ERR_NOT_FOUND: a full pack is missing.
 * -ERR_CONFLICT: what came out has another name (it was made at another level, or by another encoder),
 * and was taken away again. */
MUST_CHECK int delta_rebuild(struct store *s, const struct catalog *c, const struct catalog_pack *p,
                             struct err *err);

/* The index of a full pack that is there without it. -ERR_NOT_FOUND: the pack is not there.
 * -ERR_CONFLICT: its bytes are not what its name says. */
MUST_CHECK int pack_reindex(struct store *s, const struct hash *artifact, const struct hash *pack,
                            struct err *err);

#endif
