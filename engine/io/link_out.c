/* What waits to be sent on a link: small frames collected in blocks, large ones in their own. */
#include <stdlib.h>
#include <string.h>

#include "io/link_private.h"

size_t link_pending(const struct link *l)
{
    return l->out_bytes;
}

void link_queue(struct link *l, const struct buf *frame)
{
    struct link_block *b = CONTAINER_OF(l->out.prev, struct link_block, node);

    if (list_empty(&l->out) || b->cap - b->len < frame->len) {
        b = link_block_sized(l->self->blocks,
                             frame->len > LINK_SMALL_BLOCK ? frame->len : LINK_SMALL_BLOCK);
        list_push(&l->out, &b->node);
    }
    memcpy(b->data + b->len, frame->data, frame->len);
    b->len += frame->len;
    l->out_bytes += frame->len;
}

void link_queue_block(struct link *l, struct link_block *b)
{
    list_push(&l->out, &b->node);
    l->out_bytes += b->len - b->at;
}

void link_queue_release(struct link *l)
{
    LIST_EACH (&l->out, n) {
        list_remove(n);
        link_block_free(CONTAINER_OF(n, struct link_block, node));
    }
    l->out_bytes = 0;
}

const unsigned char *link_queue_front(const struct link *l, size_t *ret_len)
{
    const struct link_block *b = CONTAINER_OF(l->out.next, struct link_block, node);

    if (list_empty(&l->out))
        return NULL;
    *ret_len = b->len - b->at;
    return b->data + b->at;
}

void link_queue_sent(struct link *l, size_t len)
{
    struct link_block *b = CONTAINER_OF(l->out.next, struct link_block, node);

    b->at += len;
    l->out_bytes -= len;
    if (b->at < b->len)
        return;
    list_remove(&b->node);
    link_block_free(b);
}
