/* From the bytes of a link's stream to frames. Small ones are collected in the link's buffer; a large one gets
 * a block of its own as soon as its length is known, and is read straight into it. */
#include <string.h>

#include "io/link_private.h"

static bool takes_frames(const struct link *l)
{
    return l->state == LINK_HELLO || l->state == LINK_OPEN;
}

/* The frame that begins at `at` is not whole. A large one gets a block of its own, into which the rest is
 * read. */
static int begin_block(struct link *l, size_t at, struct err *err)
{
    size_t have = l->in.len - at, bytes = 0;
    int r = msg_frame_bytes(l->in.data + at, have, &bytes, err);

    if (r == 0 && l->state != LINK_OPEN && bytes > LINK_OPENING_MAX)
        r = err_set(err, ERR_INVALID, "a frame of %zu bytes before HELLO, at most %d may be", bytes,
                    LINK_OPENING_MAX);
    if (r < 0 || bytes < LINK_BLOCK_MIN)
        return r;
    l->in_block = link_block_sized(l->self->blocks, bytes);
    l->in_bytes = bytes;
    memcpy(l->in_block->data, l->in.data + at, have);
    l->in_block->len = have;
    buf_release(&l->in);
    return 0;
}

/* Hands over every whole frame in the input. */
static void frames(struct link *l)
{
    struct err err = ERR_INIT;
    size_t at = 0;

    while (takes_frames(l)) {
        enum msg_type type = MSG_NONE;
        struct bytes payload = { NULL, 0 };
        size_t len = 0;

        if (msg_next_frame(l->in.data + at, l->in.len - at, &len, &type, &payload, &err) < 0) {
            link_malformed(l, &err);
            return;
        }
        if (len == 0)
            break;
        link_frame(l, type, &payload);
        at += len;
    }
    /* A link that is closed or closing by now has released its input. */
    if (!takes_frames(l))
        return;
    if (begin_block(l, at, &err) < 0)
        link_malformed(l, &err);
    else if (at > 0 && l->in_block == NULL)
        buf_consume(&l->in, at);
}

static void block_got(struct link *l)
{
    struct link_block *b = l->in_block;
    enum msg_type type = MSG_NONE;
    struct bytes payload = { NULL, 0 };
    struct err err = ERR_INIT;
    size_t len = 0;

    if (b->len < l->in_bytes)
        return;
    if (msg_next_frame(b->data, b->len, &len, &type, &payload, &err) < 0) {
        link_malformed(l, &err);
        return;
    }
    link_frame(l, type, &payload);
    if (l->in_block == b) { /* not taken */
        l->in_block = NULL;
        link_block_free(b);
    }
}

unsigned char *link_in_room(struct link *l, size_t *ret_room)
{
    if (l->in_block != NULL) {
        *ret_room = l->in_bytes - l->in_block->len;
        return l->in_block->data + l->in_block->len;
    }
    buf_reserve(&l->in, LINK_READ_BYTES);
    *ret_room = LINK_READ_BYTES;
    return (unsigned char *)l->in.data + l->in.len;
}

void link_in_got(struct link *l, size_t len)
{
    if (l->in_block != NULL) {
        l->in_block->len += len;
        block_got(l);
    } else {
        l->in.len += len;
        frames(l);
    }
}
