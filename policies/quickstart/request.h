/* request.h - the little of HTTP/1.1 that this service speaks: GET and HEAD, one request a
 * connection. */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>
#include <stddef.h>

enum { REQUEST_MAX_BYTES = 4096 };

/* True once the head of a request ends in these bytes. */
bool request_is_complete(const char *text, size_t len);

/* Writes the whole answer to a request (NUL-ended) into out; returns its length, below size. */
size_t request_answer(const char *request, char *out, size_t size);

#endif
