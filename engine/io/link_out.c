/* What waits to be sent on a link: small frames collected in blocks, which come first; large ones in their own,
 * which go in PARTs between them; and what TLS has made of both. */
#include <stdlib.h>
#include <string.h>

#include "io/link_private.h"

static size_t bytes_in(const struct link_block *b)
{
    return b == NULL ? 0 : b->len - b->at;
}

size_t link_pending(const struct link *l)
{
    return l->out_bytes + bytes_in(l->wire);
}

static void put(struct link_block *b, const void *data, size_t len)
{
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

void link_queue(struct link *l, const struct buf *frame)
{
    struct link_block *b = CONTAINER_OF(l->out.prev, struct link_block, node);

    if (list_empty(&l->out) || b->cap - b->len < frame->len) {
        b = link_block_sized(l->self->blocks,
                             frame->len > LINK_SMALL_BLOCK ? frame->len : LINK_SMALL_BLOCK);
        list_push(&l->out, &b->node);
    }
    put(b, frame->data, frame->len);
    l->out_bytes += frame->len;
}

void link_queue_block(struct link *l, struct link_block *b)
{
    list_push(&l->large, &b->node);
    l->out_bytes += bytes_in(b);
}

static void release(struct list *blocks)
{
    LIST_EACH (blocks, n) {
        list_remove(n);
        link_block_free(CONTAINER_OF(n, struct link_block, node));
    }
}

void link_queue_release(struct link *l)
{
    release(&l->out);
    release(&l->large);
    l->out_bytes = 0;
    link_block_free(l->wire);
    l->wire = NULL;
}

/* ---- what is next ---- */

static void put_u32(unsigned char *b, size_t v)
{
    for (int i = 0; i < 4; i++)
        b[i] = (unsigned char)(v >> (8 * i));
}

/* The next part of a block, with its head: before it lies what has been sent, which others may share, or room. */
static const unsigned char *next_part(struct link *l, struct link_block *b, size_t *ret_len)
{
    size_t part = bytes_in(b) < PART_MAX_BYTES ? bytes_in(b) : PART_MAX_BYTES;
    unsigned char *head = b->data + b->at - PART_HEAD_BYTES;

    memcpy(l->under_head, head, PART_HEAD_BYTES);
    l->part_head = head;
    put_u32(head, PART_HEAD_BYTES - 4 + part);
    head[4] = MSG_PART;
    put_u32(head + FRAME_HEAD_BYTES, part);
    *ret_len = PART_HEAD_BYTES + part;
    return head;
}

void link_queue_put_back(struct link *l)
{
    if (l->part_head != NULL)
        memcpy(l->part_head, l->under_head, PART_HEAD_BYTES);
    l->part_head = NULL;
}

const unsigned char *link_queue_front(struct link *l, size_t *ret_len)
{
    const struct link_block *b;

    if (list_empty(&l->out))
        return list_empty(&l->large)
                   ? NULL
                   : next_part(l, CONTAINER_OF(l->large.next, struct link_block, node), ret_len);
    b = CONTAINER_OF(l->out.next, struct link_block, node);
    *ret_len = bytes_in(b) < LINK_RECORD_BYTES ? bytes_in(b) : LINK_RECORD_BYTES;
    return b->data + b->at;
}

void link_queue_sent(struct link *l, size_t len)
{
    bool is_part = list_empty(&l->out);
    struct list *first = is_part ? l->large.next : l->out.next;
    struct link_block *b = CONTAINER_OF(first, struct link_block, node);

    len -= is_part ? PART_HEAD_BYTES : 0;
    b->at += len;
    l->out_bytes -= len;
    if (b->at < b->len)
        return;
    list_remove(&b->node);
    link_block_free(b);
}

/* ---- encrypted ---- */

size_t link_wire_bytes(const struct link *l)
{
    return bytes_in(l->wire);
}

const unsigned char *link_wire_front(const struct link *l)
{
    return l->wire->data + l->wire->at;
}

/* What a handshake says is little; what follows bulk is more of it. */
static size_t wire_room(size_t need)
{
    if (need <= LINK_SMALL_BLOCK)
        return LINK_SMALL_BLOCK;
    return need <= LINK_WIRE_BYTES ? LINK_WIRE_BYTES : LINK_WIRE_MAX;
}

bool link_wire_put(struct link *l, const void *data, size_t len)
{
    struct link_block *b = l->wire;
    size_t have = bytes_in(b);

    if (have + len > LINK_WIRE_MAX)
        return false;
    if (b != NULL && b->at > 0 && b->len + len > LINK_WIRE_BYTES) { /* no more pages than needed */
        memmove(b->data, b->data + b->at, have);
        b->at = 0;
        b->len = have;
    }
    if (b == NULL || b->cap - b->len < len) {
        struct link_block *larger = link_block_sized(l->self->blocks, wire_room(have + len));

        if (have > 0)
            put(larger, b->data + b->at, have);
        link_block_free(b);
        l->wire = b = larger;
    }
    put(b, data, len);
    return true;
}

void link_wire_sent(struct link *l, size_t len)
{
    l->wire->at += len;
    l->wired += len;
    if (bytes_in(l->wire) > 0)
        return;
    link_block_free(l->wire);
    l->wire = NULL;
}
