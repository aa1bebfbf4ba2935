/* utf8.h - is this text what it says it is? Texts of messages and paths of manifests must be UTF-8,
 * so that every language and log that meets them reads the same characters. */
#ifndef WIRE_UTF8_H
#define WIRE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Well-formed UTF-8 (RFC 3629: shortest form, no surrogates, at most U+10FFFF) without NUL. */
bool utf8_valid(const void *data, size_t len);

#endif
