/* sha256_x86.h - SHA-256 of whole blocks by the SHA instructions of x86-64, one or two digests at a
 * time. Of base/sha256.c and its test alone.
 *
 * A round waits for the one before it, so one digest leaves the processor half idle; a second one,
 * worked on in between, costs a third of its time. Where both take the same blocks, the schedule of
 * messages is computed once.
 *
 * Sources: FIPS 180-4; Intel's "SHA Extensions" (2013) for what the instructions compute. Pure. */
#ifndef BASE_SHA256_X86_H
#define BASE_SHA256_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_BLOCK = 64, SHA256_WORDS = 8, SHA256_ROUNDS = 64 };

extern const uint32_t sha256_constants[SHA256_ROUNDS]; /* K of the standard */

/* Has this processor the instructions? The others may be called only if it has. */
bool sha256_x86_there(void);

/* n blocks at data into the state h (a to h of the standard, in the processor's order). */
void sha256_x86_one(uint32_t h[SHA256_WORDS], const unsigned char *data, size_t n);

/* n blocks into each of two states. a and b may be the same bytes. */
void sha256_x86_two(uint32_t ha[SHA256_WORDS], const unsigned char *a, uint32_t hb[SHA256_WORDS],
                    const unsigned char *b, size_t n);

#endif
