/* checksum.h - has memory or a disk changed these bytes since we verified them? At twenty times the speed of
 * SHA-256, so that it can be asked every time a leaf is sent.
 *
 * Chance leaves a change unnoticed once in 2^64 or so; who wants to deceive can. It is for this process alone:
 * never stored, never sent. Where the processor has AES instructions, 128 bytes are taken at a time by rounds
 * of AES whose keys they are; else 64, by multiplications. */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t checksum_of(const void *data, size_t len);

/* For tests: the one without AES, whatever the processor is. */
uint64_t checksum_by_words(const void *data, size_t len);

#endif
