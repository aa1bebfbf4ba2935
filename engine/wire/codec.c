#include "wire/codec.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/utf8.h"

struct input {
    const unsigned char *at;
    size_t left;
    bool view; /* bytes are not copied */
};

static size_t width_of(enum field_kind kind)
{
    switch (kind) {
    case FIELD_U8:
        return 1;
    case FIELD_U16:
        return 2;
    case FIELD_U32:
    case FIELD_TEXT:
    case FIELD_BYTES:
    case FIELD_LIST:
        return 4; /* the three last: of their length */
    case FIELD_U64:
        return 8;
    case FIELD_HASH:
        return HASH_BYTES;
    case FIELD_NONE:
        break;
    }
    abort();
}

/* The fewest bytes that a value takes: what bounds a list's claimed count by the input's size. */
static size_t least_bytes(const struct codec *c)
{
    size_t sum = 0;

    for (size_t i = 0; i < c->nfields; i++)
        sum += width_of(c->fields[i].kind);
    return sum;
}

static void put_number(struct buf *out, uint64_t v, size_t width)
{
    unsigned char b[8];

    for (size_t i = 0; i < width; i++)
        b[i] = (unsigned char)(v >> (8 * i));
    buf_append(out, b, width);
}

static int put_block(struct buf *out, const void *data, size_t len, const struct field *f,
                     struct err *err)
{
    if (len > f->max)
        return err_set(err, ERR_LIMIT, "%s: %zu bytes, at most %zu fit", f->name, len, f->max);
    put_number(out, len, 4);
    buf_append(out, data, len);
    return 0;
}

static int encode_value(struct buf *out, const struct codec *c, const void *value, struct err *err);

static int put_list(struct buf *out, const struct list_of *list, const struct field *f,
                    struct err *err)
{
    const char *item = list->items;

    if (list->count > f->max)
        return err_set(err, ERR_LIMIT, "%s: %zu elements, at most %zu fit", f->name, list->count,
                       f->max);
    put_number(out, list->count, 4);
    for (size_t i = 0; i < list->count; i++) {
        if (encode_value(out, f->element, item + i * f->element->size, err) < 0)
            return err_wrap(err, "%s[%zu]", f->name, i);
    }
    return 0;
}

static int put_text(struct buf *out, const char *text, const struct field *f, struct err *err)
{
    size_t len = text == NULL ? 0 : strlen(text);

    if (!utf8_valid(text, len))
        return err_set(err, ERR_INVALID, "%s: not valid UTF-8", f->name);
    return put_block(out, text, len, f, err);
}

static int put_field(struct buf *out, const struct field *f, const char *at, struct err *err)
{
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    char *text;
    struct bytes bytes;
    struct list_of list;

    switch (f->kind) {
    case FIELD_U8:
    case FIELD_HASH:
        buf_append(out, at, width_of(f->kind));
        return 0;
    case FIELD_U16:
        memcpy(&u16, at, sizeof(u16));
        put_number(out, u16, 2);
        return 0;
    case FIELD_U32:
        memcpy(&u32, at, sizeof(u32));
        put_number(out, u32, 4);
        return 0;
    case FIELD_U64:
        memcpy(&u64, at, sizeof(u64));
        put_number(out, u64, 8);
        return 0;
    case FIELD_TEXT:
        memcpy(&text, at, sizeof(text));
        return put_text(out, text, f, err);
    case FIELD_BYTES:
        memcpy(&bytes, at, sizeof(bytes));
        return put_block(out, bytes.data, bytes.len, f, err);
    case FIELD_LIST:
        memcpy(&list, at, sizeof(list));
        return put_list(out, &list, f, err);
    case FIELD_NONE:
        break;
    }
    return err_set(err, ERR_INTERNAL, "%s: no such kind of field", f->name);
}

static int encode_fields(struct buf *out, const struct codec *c, size_t nfields, const void *value,
                         struct err *err)
{
    for (size_t i = 0; i < nfields; i++) {
        int r = put_field(out, &c->fields[i], (const char *)value + c->fields[i].offset, err);

        if (r < 0)
            return r;
    }
    return 0;
}

static int encode_value(struct buf *out, const struct codec *c, const void *value, struct err *err)
{
    return encode_fields(out, c, c->nfields, value, err);
}

static int not_encoded(struct buf *out, size_t start, const struct codec *c, struct err *err)
{
    if (out->data != NULL) {
        out->len = start;
        out->data[start] = '\0';
    }
    return err_wrap(err, "encode %s", c->name);
}

int codec_encode(struct buf *out, const struct codec *c, const void *value, struct err *err)
{
    size_t start = out->len;

    return encode_value(out, c, value, err) == 0 ? 0 : not_encoded(out, start, c, err);
}

int codec_encode_head(struct buf *out, const struct codec *c, const void *value, struct err *err)
{
    const struct field *last = &c->fields[c->nfields - 1];
    size_t start = out->len;
    struct bytes bytes;

    if (c->nfields == 0 || last->kind != FIELD_BYTES)
        return err_set(err, ERR_INTERNAL, "encode %s: it does not end in bytes", c->name);
    memcpy(&bytes, (const char *)value + last->offset, sizeof(bytes));
    if (bytes.len > last->max)
        return err_set(err, ERR_LIMIT, "encode %s: %s: %zu bytes, at most %zu fit", c->name,
                       last->name, bytes.len, last->max);
    if (encode_fields(out, c, c->nfields - 1, value, err) < 0)
        return not_encoded(out, start, c, err);
    put_number(out, bytes.len, 4);
    return 0;
}

static int take(struct input *in, size_t len, const struct field *f, const unsigned char **ret,
                struct err *err)
{
    if (in->left < len)
        return err_set(err, ERR_INVALID, "%s: ends after %zu of %zu bytes", f->name, in->left, len);
    *ret = in->at;
    in->at += len;
    in->left -= len;
    return 0;
}

static int take_number(struct input *in, size_t width, const struct field *f, uint64_t *ret,
                       struct err *err)
{
    const unsigned char *b = NULL;
    uint64_t v = 0;
    int r = take(in, width, f, &b, err);

    if (r < 0)
        return r;
    for (size_t i = 0; i < width; i++)
        v |= (uint64_t)b[i] << (8 * i);
    *ret = v;
    return 0;
}

/* A u32 length or count, within the field's limit. */
static int take_count(struct input *in, const struct field *f, size_t *ret, struct err *err)
{
    uint64_t n = 0;
    int r = take_number(in, 4, f, &n, err);

    if (r < 0)
        return r;
    if (n > f->max)
        return err_set(err, ERR_LIMIT, "%s: claims %llu, the limit is %zu", f->name,
                       (unsigned long long)n, f->max);
    *ret = (size_t)n;
    return 0;
}

static int decode_value(struct input *in, const struct codec *c, void *value, struct err *err);

static int take_list(struct input *in, const struct field *f, char *at, struct err *err)
{
    struct list_of list = { NULL, 0 };
    size_t claimed = 0;
    int r = take_count(in, f, &claimed, err);

    if (r < 0)
        return r;
    if (claimed > in->left / least_bytes(f->element))
        return err_set(err, ERR_INVALID, "%s: claims %zu elements in %zu bytes", f->name, claimed,
                       in->left);
    if (claimed > 0)
        list.items = mem_calloc(claimed, f->element->size);
    while (r == 0 && list.count < claimed) {
        char *item = (char *)list.items + list.count * f->element->size;

        list.count++; /* first: a half-decoded element is released with the others */
        if (decode_value(in, f->element, item, err) < 0)
            r = err_wrap(err, "%s[%zu]", f->name, list.count - 1);
    }
    memcpy(at, &list, sizeof(list));
    return r;
}

static int take_text(struct input *in, const struct field *f, char *at, struct err *err)
{
    const unsigned char *data = NULL;
    size_t len = 0;
    char *text;
    int r = take_count(in, f, &len, err);

    if (r == 0)
        r = take(in, len, f, &data, err);
    if (r < 0)
        return r;
    if (!utf8_valid(data, len))
        return err_set(err, ERR_INVALID, "%s: not valid UTF-8", f->name);
    text = mem_strndup((const char *)data, len);
    memcpy(at, &text, sizeof(text));
    return 0;
}

static int take_bytes(struct input *in, const struct field *f, char *at, struct err *err)
{
    const unsigned char *data = NULL;
    struct bytes bytes = { NULL, 0 };
    int r = take_count(in, f, &bytes.len, err);

    if (r == 0)
        r = take(in, bytes.len, f, &data, err);
    if (r < 0)
        return r;
    if (bytes.len > 0) /* a view is not written through; struct bytes has no const twin */
        bytes.data = in->view ? (unsigned char *)(uintptr_t)data : mem_dup(data, bytes.len);
    memcpy(at, &bytes, sizeof(bytes));
    return 0;
}

static int take_field(struct input *in, const struct field *f, char *at, struct err *err)
{
    const unsigned char *hash = NULL;
    uint64_t v = 0;
    uint16_t u16;
    uint32_t u32;
    int r;

    switch (f->kind) {
    case FIELD_U8:
    case FIELD_U16:
    case FIELD_U32:
    case FIELD_U64:
        r = take_number(in, width_of(f->kind), f, &v, err);
        if (r < 0)
            return r;
        u16 = (uint16_t)v;
        u32 = (uint32_t)v;
        if (f->kind == FIELD_U8)
            *(unsigned char *)at = (unsigned char)v;
        else if (f->kind == FIELD_U16)
            memcpy(at, &u16, sizeof(u16));
        else if (f->kind == FIELD_U32)
            memcpy(at, &u32, sizeof(u32));
        else
            memcpy(at, &v, sizeof(v));
        return 0;
    case FIELD_HASH:
        r = take(in, HASH_BYTES, f, &hash, err);
        if (r == 0)
            memcpy(at, hash, HASH_BYTES);
        return r;
    case FIELD_TEXT:
        return take_text(in, f, at, err);
    case FIELD_BYTES:
        return take_bytes(in, f, at, err);
    case FIELD_LIST:
        return take_list(in, f, at, err);
    case FIELD_NONE:
        break;
    }
    return err_set(err, ERR_INTERNAL, "%s: no such kind of field", f->name);
}

/* value is zeroed, so that codec_release() is right after a failure in the middle. */
static int decode_value(struct input *in, const struct codec *c, void *value, struct err *err)
{
    for (size_t i = 0; i < c->nfields; i++) {
        int r = take_field(in, &c->fields[i], (char *)value + c->fields[i].offset, err);

        if (r < 0)
            return r;
    }
    return 0;
}

static void release(const struct codec *c, void *value, bool view);

static void release_list(const struct codec *element, struct list_of *list, bool view)
{
    for (size_t k = 0; k < list->count; k++)
        release(element, (char *)list->items + k * element->size, view);
    free(list->items);
}

static void release(const struct codec *c, void *value, bool view)
{
    for (size_t i = 0; i < c->nfields; i++) {
        const struct field *f = &c->fields[i];
        char *at = (char *)value + f->offset;
        struct list_of list;
        void *owned;

        if (f->kind == FIELD_LIST) {
            memcpy(&list, at, sizeof(list));
            release_list(f->element, &list, view);
            memset(at, 0, sizeof(list));
        } else if (f->kind == FIELD_TEXT || (f->kind == FIELD_BYTES && !view)) {
            memcpy(&owned, at, sizeof(owned));
            free(owned);
            memset(at, 0, f->kind == FIELD_TEXT ? sizeof(char *) : sizeof(struct bytes));
        }
    }
}

static int decode(void **ret, const struct codec *c, struct input in, struct err *err)
{
    void *value = mem_alloc(c->size);
    int r = decode_value(&in, c, value, err);

    if (r == 0 && in.left > 0)
        r = err_set(err, ERR_INVALID, "%zu bytes left over", in.left);
    if (r < 0) {
        release(c, value, in.view);
        free(value);
        return err_wrap(err, "decode %s", c->name);
    }
    *ret = value;
    return 0;
}

int codec_decode(void **ret, const struct codec *c, const void *data, size_t len, struct err *err)
{
    return decode(ret, c, (struct input){ data, len, false }, err);
}

int codec_view(void **ret, const struct codec *c, const void *data, size_t len, struct err *err)
{
    return decode(ret, c, (struct input){ data, len, true }, err);
}

void codec_release(const struct codec *c, void *value)
{
    release(c, value, false);
}

void codec_free(const struct codec *c, void *value)
{
    if (value == NULL)
        return;
    release(c, value, false);
    free(value);
}

void codec_view_free(const struct codec *c, void *value)
{
    if (value == NULL)
        return;
    release(c, value, true);
    free(value);
}
