/* From the bytes of a link's stream to frames. Small ones are collected in the link's buffer; a large one gets
 * a block of its own as soon as its length is known, and is read straight into it, whole or in PARTs: of a PART
 * that goes on with a frame only the head is read into the buffer. */
#include <string.h>

#include "io/link_private.h"

static bool takes_frames(const struct link *l)
{
    return l->state == LINK_HELLO || l->state == LINK_OPEN;
}

/* ---- parts ---- */

/* A new frame begins in a PART, with these bytes. 0, and no block: they do not tell its length yet. */
static int begin_parts(struct link *l, const unsigned char *data, size_t have, size_t part,
                       struct err *err)
{
    size_t bytes = 0;

    if (part < FRAME_HEAD_BYTES)
        return err_set(err, ERR_INVALID, "a first part of %zu bytes, at least %d may be", part,
                       FRAME_HEAD_BYTES);
    if (msg_frame_bytes(data, have, &bytes, err) < 0)
        return -ERR_INVALID;
    if (bytes == 0)
        return 0;
    if (data[FRAME_HEAD_BYTES - 1] < MSG_DOC)
        return err_set(err, ERR_INVALID, "%s in parts", msg_name(data[FRAME_HEAD_BYTES - 1]));
    l->part_block = link_block_sized(l->self->blocks, bytes);
    l->part_bytes = bytes;
    return 0;
}

/* The link holds a block's bytes while message() looks at them; there it may be taken. */
static int hand_over(struct link *l, struct link_block *b, struct err *err)
{
    enum msg_type type = MSG_NONE;
    struct bytes payload = { NULL, 0 };
    size_t len = 0;
    int r = msg_next_frame(b->data, b->len, &len, &type, &payload, err);

    l->held = b;
    if (r == 0)
        link_frame(l, type, &payload);
    link_block_free(l->held);
    l->held = NULL;
    return r;
}

static int part_got(struct link *l, size_t len, struct err *err)
{
    struct link_block *b = l->part_block;

    b->len += len;
    l->part_left -= len;
    if (b->len < l->part_bytes)
        return 0;
    l->part_block = NULL;
    l->larges++;
    return hand_over(l, b, err);
}

/* The PART of that many bytes that begins in the input, at data, where so many of its bytes are. Returns how
 * many it takes, 0: more must come first, or an error. */
static int take_part(struct link *l, const unsigned char *data, size_t have, size_t frame,
                     struct err *err)
{
    size_t part = frame - PART_HEAD_BYTES, left, len;

    if (have < PART_HEAD_BYTES)
        return 0;
    if (l->state != LINK_OPEN)
        return err_set(err, ERR_INVALID, "a part before HELLO");
    data += PART_HEAD_BYTES;
    have -= PART_HEAD_BYTES;
    if (l->part_block == NULL && begin_parts(l, data, have, part, err) < 0)
        return -ERR_INVALID;
    if (l->part_block == NULL)
        return 0;
    left = l->part_bytes - l->part_block->len;
    if (part > left)
        return err_set(err, ERR_INVALID, "a part goes beyond its message");
    if (part < left && part < PART_MIN_BYTES)
        return err_set(err, ERR_INVALID, "a part of %zu bytes, at least %d may be", part,
                       PART_MIN_BYTES);
    len = have < part ? have : part;
    memcpy(l->part_block->data + l->part_block->len, data, len);
    l->part_left = part;
    if (part_got(l, len, err) < 0)
        return -ERR_INVALID;
    return (int)(PART_HEAD_BYTES + len);
}

/* Is it the head of a PART, as far as it goes? Sets what the frame has in all. */
static int is_part(const unsigned char *data, size_t have, size_t *ret_frame, struct err *err)
{
    static const size_t fixed = PART_HEAD_BYTES - FRAME_HEAD_BYTES;
    size_t bytes;

    if (have < FRAME_HEAD_BYTES || data[FRAME_HEAD_BYTES - 1] != MSG_PART)
        return 0;
    if (msg_frame_bytes(data, have, ret_frame, err) < 0)
        return -ERR_INVALID;
    if (*ret_frame <= PART_HEAD_BYTES || *ret_frame > PART_HEAD_BYTES + PART_MAX_BYTES)
        return err_set(err, ERR_INVALID, "a part in a frame of %zu bytes", *ret_frame);
    if (have < PART_HEAD_BYTES)
        return 1;
    data += FRAME_HEAD_BYTES;
    bytes = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16 | (size_t)data[3] << 24;
    if (bytes != *ret_frame - FRAME_HEAD_BYTES - fixed)
        return err_set(err, ERR_INVALID, "a part of %zu bytes in a frame of %zu", bytes,
                       *ret_frame);
    return 1;
}

/* ---- whole frames ---- */

/* The frame that begins with these bytes is not whole. A large one gets a block of its own, into which the rest
 * is read. */
static int begin_block(struct link *l, const unsigned char *data, size_t have, struct err *err)
{
    size_t bytes = 0;
    int r = msg_frame_bytes(data, have, &bytes, err);

    if (r == 0 && l->state != LINK_OPEN && bytes > LINK_OPENING_MAX)
        r = err_set(err, ERR_INVALID, "a frame of %zu bytes before HELLO, at most %d may be", bytes,
                    LINK_OPENING_MAX);
    if (r < 0 || bytes < LINK_BLOCK_MIN)
        return r;
    l->in_block = link_block_sized(l->self->blocks, bytes);
    l->in_bytes = bytes;
    memcpy(l->in_block->data, data, have);
    l->in_block->len = have;
    buf_release(&l->in);
    return 0;
}

/* The frame at the head of these bytes, if it is whole; of a PART, what there is of it. Returns how many bytes
 * it took, or an error. */
static int take_frame(struct link *l, const unsigned char *data, size_t have, struct err *err)
{
    enum msg_type type = MSG_NONE;
    struct bytes payload = { NULL, 0 };
    size_t len = 0;
    int r = is_part(data, have, &len, err);

    if (r > 0)
        return take_part(l, data, have, len, err);
    if (r == 0)
        r = msg_next_frame(data, have, &len, &type, &payload, err);
    if (r == 0 && len > 0)
        link_frame(l, type, &payload);
    return r < 0 ? r : (int)len;
}

/* Hands over every whole frame in these bytes, which are the input or have just come; the rest is kept. */
static void frames(struct link *l, const unsigned char *data, size_t have)
{
    struct err err = ERR_INIT;
    size_t at = 0;
    int r = 1;

    while (r > 0 && takes_frames(l) && at < have) {
        r = take_frame(l, data + at, have - at, &err);
        at += r > 0 ? (size_t)r : 0;
    }
    /* A link that is closed or closing by now has released its input. */
    if (!takes_frames(l))
        return;
    if (r < 0 || begin_block(l, data + at, have - at, &err) < 0)
        link_malformed(l, &err);
    else if (l->in_block != NULL)
        return;
    else if (l->in.len > 0 && at > 0)
        buf_consume(&l->in, at);
    else if (l->in.len == 0 && at < have)
        buf_append(&l->in, data + at, have - at);
}

static int block_got(struct link *l, size_t len, struct err *err)
{
    struct link_block *b = l->in_block;

    b->len += len;
    if (b->len < l->in_bytes)
        return 0;
    l->in_block = NULL;
    return hand_over(l, b, err);
}

/* ---- bytes ---- */

unsigned char *link_in_room(struct link *l, size_t *ret_room)
{
    if (l->part_left > 0) {
        *ret_room = l->part_left;
        return l->part_block->data + l->part_block->len;
    }
    if (l->in_block != NULL) {
        *ret_room = l->in_bytes - l->in_block->len;
        return l->in_block->data + l->in_block->len;
    }
    if (l->in.len == 0) { /* frames are whole as a rule, and nothing is kept */
        /* Most likely the next PART comes, whose bytes can be read where they belong. */
        *ret_room = l->part_block != NULL ? PART_HEAD_BYTES : LINK_RECORD_BYTES;
        return l->self->record;
    }
    buf_reserve(&l->in, LINK_RECORD_BYTES);
    *ret_room = LINK_RECORD_BYTES;
    return (unsigned char *)l->in.data + l->in.len;
}

void link_in_got(struct link *l, size_t len)
{
    struct err err = ERR_INIT;
    int r = 0;

    if (l->part_left > 0) {
        r = part_got(l, len, &err);
    } else if (l->in_block != NULL) {
        r = block_got(l, len, &err);
    } else if (l->in.len == 0) {
        frames(l, l->self->record, len);
    } else {
        l->in.len += len;
        frames(l, (unsigned char *)l->in.data, l->in.len);
    }
    if (r < 0)
        link_malformed(l, &err);
}
