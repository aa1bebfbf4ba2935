/* quantity.h - sizes, rates, shares and short times as people write them. Pure.
 *
 * Each returns false, and changes nothing, for what it does not understand, for what is negative, and
 * for what is too large to mean anything. Units are case-sensitive where that tells them apart: Mbit is
 * 10^6 bits, MB 10^6 bytes, MiB 2^20 bytes. */
#ifndef CLI_QUANTITY_H
#define CLI_QUANTITY_H

#include <stdbool.h>
#include <stdint.h>

bool quantity_bytes(const char *text, double *ret); /* 10GB, 512MiB, 4096 */
bool quantity_rate(const char *text, double *ret);  /* 10Gbit, 100Mbit/s, 125MB/s: bytes a second */
bool quantity_share(const char *text, double *ret); /* 1%, 0.01: 0 … 1 */
bool quantity_number(const char *text, double *ret); /* 8, 1.5 */
bool quantity_ns(const char *text, int64_t *ret);    /* 50us, 2ms, 1.5s, 10m */

#endif
