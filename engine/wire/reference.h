/* reference.h - all that a machine needs to fetch an artifact from a swarm of its own, as one line:
 *
 *     slipway://HOST:PORT/file/ARTIFACT/PACK#PIN.SECRET      (tree in place of file: a directory)
 *
 * ARTIFACT, PACK: 64 hex digits, what is fetched, so that whoever serves it cannot change it. PIN: 64
 * hex digits, the digest of the public key of the swarm's CA. SECRET: 32 hex digits, the right to
 * join. Whoever knows the line can fetch: it is to be kept like a password. HOST: a name, or an
 * address, IPv6 in brackets. Pure. */
#ifndef WIRE_REFERENCE_H
#define WIRE_REFERENCE_H

#include "wire/msg.h"

enum { REFERENCE_MAX = 512 };

struct reference {
    char host[LABEL_MAX_BYTES + 1]; /* without brackets */
    int port;
    bool is_file;
    struct hash artifact, pack, pin;
    unsigned char secret[SECRET_BYTES];
};

/* Appends the line, without its end. */
void reference_write(struct buf *out, const struct reference *r);
/* -ERR_INVALID: not a reference; the text says what is wrong. */
MUST_CHECK int reference_parse(struct reference *ret, const char *text, struct err *err);

#endif
