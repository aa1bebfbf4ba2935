/* codec.h - structs to bytes and back, by a table of fields. Little-endian; no alignment.
 *
 * A message is a plain struct and a `struct codec` that lists its fields, each with its limit. One
 * encoder, one decoder and one release function read the table, so that a message exists once and
 * every limit is written where the field is.
 *
 *   u8 u16 u32 u64   fixed size; stored in a field of the same width
 *   hash             32 bytes; struct hash
 *   text             u32 length, bytes; char *, NUL-ended, no NUL inside, valid UTF-8
 *   bytes            u32 length, bytes; struct bytes
 *   list             u32 count, elements; struct list_of (elements by their own codec)
 *
 * codec_decode() rejects: short input, bytes left over, a text or list over its limit, NUL or bad
 * UTF-8 in a text; and it allocates only what the input really holds. */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"

struct bytes {
    unsigned char *data;
    size_t len;
};

struct list_of {
    void *items; /* array of the element struct */
    size_t count;
};

enum field_kind {
    FIELD_NONE = 0,
    FIELD_U8,
    FIELD_U16,
    FIELD_U32,
    FIELD_U64,
    FIELD_HASH,
    FIELD_TEXT,
    FIELD_BYTES,
    FIELD_LIST,
};

struct codec;

struct field {
    const char *name; /* for errors */
    enum field_kind kind;
    size_t offset;
    size_t max;                  /* of text and bytes: bytes; of a list: elements */
    const struct codec *element; /* of a list */
};

struct codec {
    const char *name;
    size_t size; /* of the struct */
    const struct field *fields;
    size_t nfields;
};

/* Appends the encoding of *value; a NULL text is "". Fields over their limit (-ERR_LIMIT) and texts
 * that are not UTF-8 (-ERR_INVALID) are our own bug. On failure out is as it was. */
MUST_CHECK int codec_encode(struct buf *out, const struct codec *c, const void *value,
                            struct err *err);

/* As codec_encode(), but without the content of the last field, which is `bytes`: the caller has it
 * lie behind the encoding already. */
MUST_CHECK int codec_encode_head(struct buf *out, const struct codec *c, const void *value,
                                 struct err *err);

/* Decodes exactly len bytes. Gives *ret (free with codec_free()), untouched on failure. */
MUST_CHECK int codec_decode(void **ret, const struct codec *c, const void *data, size_t len,
                            struct err *err);

/* The same without copying: fields of the kind `bytes` point into data, which must live as long.
 * Free with codec_view_free(). */
MUST_CHECK int codec_view(void **ret, const struct codec *c, const void *data, size_t len,
                          struct err *err);
void codec_view_free(const struct codec *c, void *value); /* NULL is fine */

void codec_release(const struct codec *c, void *value); /* what value owns, not value itself */
void codec_free(const struct codec *c, void *value);    /* and value; NULL is fine */

#endif
