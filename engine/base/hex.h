/* hex.h - bytes as lower-case hexadecimal text, and back. */
#ifndef BASE_HEX_H
#define BASE_HEX_H

#include <stdbool.h>
#include <stddef.h>

/* Writes 2 * len digits and a NUL to out. */
void hex_encode(char *out, const void *data, size_t len);

/* Reads exactly 2 * len lower- or upper-case digits; false if text is anything else. */
bool hex_decode(void *out, size_t len, const char *text);

#endif
