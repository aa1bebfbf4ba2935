/* member.h - a machine's place in a deployment: a fixed random order that no machine can choose.
 *
 * hash = first 8 bytes, big-endian, of SHA-256("slipway.wave\0" deployment "\0" machine). A machine
 * is in a wave if the wave's `where` matches its labels and hash < threshold. Raising a threshold
 * only adds machines; one that appears later falls into its place without a new plan. */
#ifndef WIRE_MEMBER_H
#define WIRE_MEMBER_H

#include <stdint.h>

uint64_t wave_hash(const char *deployment, const char *machine);

#endif
