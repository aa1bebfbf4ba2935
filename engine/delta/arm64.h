/* arm64.h - the instructions of aarch64 code that carry an address: read, and written anew.
 *
 * B and BL hold a distance of 26 bits in words; ADRP one of 21 bits in pages of 4 KiB, which the ADD,
 * load or store behind it completes by 12 bits. Source: Arm Architecture Reference Manual, C6.2. */
#ifndef DELTA_ARM64_H
#define DELTA_ARM64_H

#include <stddef.h>
#include <stdint.h>

enum arm64_form {
    ARM64_NONE = 0,
    ARM64_BRANCH,
    ARM64_PAGE, /* ADRP alone */
    ARM64_PAIR, /* ADRP and what completes it: 8 bytes */
};

/* What begins at code, of which `left` >= 4 bytes are there. */
enum arm64_form arm64_form(const unsigned char *code, size_t left);
/* The address that it means, at `address`. */
uint64_t arm64_target(enum arm64_form form, const unsigned char *code, uint64_t address);
/* The same instructions at `address`, meaning target: 4 bytes, or 8 of a pair, little-endian. */
uint64_t arm64_insn(enum arm64_form form, const unsigned char *code, uint64_t address,
                    uint64_t target);

#endif
