/* programs.h - ELF files for tests of deltas, laid out as a linker does it.
 *
 *     uint32_t functions[] = { 3, 1, 4 };
 *     struct program p = { .machine = ELF_X86_64, .functions = functions, .count = 3, .names = 5 };
 *     program_build(&buf, &p);
 *
 * A program is a row of functions. What a function does follows from its number: it calls others,
 * branches to them, takes the addresses of data. So two programs with the same functions in another
 * order, or with some more or fewer, differ as two versions of a program do: in every address.
 * Beside the code: .eh_frame with its table, relocation records, pointers, a table of offsets. */
#ifndef TESTS_PROGRAMS_H
#define TESTS_PROGRAMS_H

#include <stdbool.h>

#include "base/buf.h"
#include "delta/elf.h"

struct program {
    unsigned machine; /* ELF_X86_64 or ELF_AARCH64 */
    bool fixed;       /* linked to a fixed address */
    bool frames;      /* has .eh_frame and .eh_frame_hdr */
    const uint32_t *functions;
    size_t count;     /* of functions; at least 1 */
    size_t names;     /* functions are numbered below this; one that is missing is the first */
    uint32_t edition; /* a few constants depend on it */
};

/* Appends the file. */
void program_build(struct buf *out, const struct program *p);

#endif
