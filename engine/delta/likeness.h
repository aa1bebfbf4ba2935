/* likeness.h - which files of the base a file of the target is like, by their sketches.
 *
 * Each feature (sketch.h) of a target file votes for the base's files that have it too, the less the
 * more there are; features that many files have are no evidence. The best is a source, and then the
 * best of those that have features which the sources so far have not. */
#ifndef DELTA_LIKENESS_H
#define DELTA_LIKENESS_H

#include "delta/pairs.h"

/* A file of the target whose sources are to be found. pair: what names say of it, one source or none,
 * is replaced or completed if its content says more. */
struct doubt {
    uint32_t entry;
    struct pair *pair;
};

/* candidates: entries of the base. Reads each file that is named here once. Errors: of reading. */
MUST_CHECK int likeness_find(const struct pairs_options *options, const uint32_t *candidates,
                             size_t ncandidates, const struct doubt *doubts, size_t ndoubts,
                             struct err *err);

#endif
