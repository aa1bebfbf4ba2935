/* catalog.h - what a store holds: its artifacts, each with its packs, sorted by digest.
 *
 * Read from the store itself (its manifests, indexes and packs), without a database: as it was at
 * that moment. An artifact is known by its manifest or by an index that names it; either may be
 * missing while something is put, after a crash, or because it rotted. An index that is not what its
 * name says has been moved aside. Memory: 150 bytes an object. Blocks. */
#ifndef STORE_CATALOG_H
#define STORE_CATALOG_H

#include "store/store.h"
#include "wire/pack.h"

struct catalog_pack {
    struct hash hash, base, target; /* base: zero if full */
    enum pack_kind kind;
    uint64_t bytes; /* as the index says */
    bool present;   /* the pack itself is there */
};

struct catalog_artifact {
    struct hash hash;
    uint64_t manifest_bytes; /* 0: no manifest */
    struct catalog_pack *packs;
    size_t npacks;
    uint64_t bytes; /* manifest and packs that are there */
};

struct catalog_stray {
    struct hash hash;
    uint64_t bytes;
};

struct catalog {
    struct catalog_artifact *artifacts; /* ascending */
    size_t nartifacts;
    struct catalog_pack *packs; /* of all of them */
    size_t npacks;
    struct catalog_stray *strays; /* packs that have no index */
    size_t nstrays;
};

MUST_CHECK int catalog_read(struct catalog **ret, struct store *s, struct err *err);
void catalog_free(struct catalog *c); /* NULL is fine */

/* NULL if it is not there. */
const struct catalog_artifact *catalog_get(const struct catalog *c, const struct hash *artifact);

enum { CATALOG_PREFIX_MIN = 4 };
/* The artifact whose digest begins with these hexadecimal digits. -ERR_NOT_FOUND; -ERR_CONFLICT:
 * several do (some are named); -ERR_INVALID: fewer than CATALOG_PREFIX_MIN, or no digits. */
MUST_CHECK int catalog_find(const struct catalog *c, const char *prefix,
                            const struct catalog_artifact **ret, struct err *err);

#endif
