/* translate.h - an address in the base's memory image, as it should be in the target's.
 *
 * Through the map of the file's covers; an address behind a load's bytes (.bss) keeps its distance
 * from their end. Loads correspond by their order. Pure. */
#ifndef DELTA_TRANSLATE_H
#define DELTA_TRANSLATE_H

#include "delta/moves.h"
#include "delta/sites.h"

struct translator {
    const struct elf *base;
    const struct elf *target; /* its loads and eh_hdr */
    const struct moves *moves;
};

uint64_t translate(const struct translator *t, uint64_t address);

/* Replaces the fields of a stretch by what they mean: the addresses that they have in the target,
 * so that two files that mean the same compare equal. t: for a stretch of the base; NULL: it is the
 * target's own. Other rules as sites_blank(). */
void sites_resolve(const struct sites *f, const struct translator *t, unsigned char *data,
                   uint64_t offset, size_t lead, size_t len);

#endif
