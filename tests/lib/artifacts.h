/* artifacts.h - artifacts in memory: a base and a target for tests of deltas.
 *
 *     struct artifact a;
 *     artifact_init(&a);
 *     artifact_add(&a, "bin/x", bytes, len);      in path order
 *     artifact_seal(&a);                          digests, segments, id
 *     ... a.manifest, a.files ...
 *     artifact_release(&a); */
#ifndef TESTS_ARTIFACTS_H
#define TESTS_ARTIFACTS_H

#include "delta/decode.h"
#include "delta/encode.h"
#include "lib/trees.h"

struct artifact {
    struct manifest manifest;
    struct buf content; /* the canonical stream */
    struct hash id;
    struct delta_files files;
    bool broken; /* reads give one wrong bit */
};

void artifact_init(struct artifact *a);
/* Directories that a path needs are not listed; nobody here asks for them. */
void artifact_add(struct artifact *a, const char *path, const void *data, size_t len);
void artifact_seal(struct artifact *a);
void artifact_release(struct artifact *a);

/* A delta pack from base to target; pool may be NULL. The caller releases pack. */
MUST_CHECK int artifact_delta(const struct artifact *base, const struct artifact *target, int level,
                              const struct delta_pool *pool, struct buf *pack,
                              struct delta_stats *stats, struct err *err);
/* Decodes all of pack and compares it with target; < 0 with the decoder's error. Aborts if the
 * decoder is content with wrong bytes. */
MUST_CHECK int artifact_check(const struct artifact *base, const struct artifact *target,
                              const struct buf *pack, struct err *err);

/* A small ELF program, linked to a fixed address or not, as a linker could lay it out: `functions`
 * functions that call each other and point into data; `seed` decides what they do, `moved` how many
 * bytes lie between them, so that two of the same seed mean the same at other addresses. */
void elf_program(struct buf *out, uint64_t seed, size_t functions, size_t moved, bool fixed);

#endif
