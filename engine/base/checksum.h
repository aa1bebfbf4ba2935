/* checksum.h - has memory or a disk changed these bytes since we verified them? At ten times the speed of
 * SHA-256, so that it can be asked every time a leaf is sent.
 *
 * Any change within one aligned 8-byte word is noticed for sure, any other with all but 2^-64 or so; who wants to
 * deceive can. It is for this process alone: never stored, never sent. */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t checksum_of(const void *data, size_t len);

#endif
