#include "io/link_block.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/link_private.h"

/* What a LEAF needs, and the most that is kept. */
enum { POOLED_BYTES = LINK_BLOCK_HEAD + LEAF_BYTES };

struct link_blocks *link_blocks_new(void)
{
    struct link_blocks *p = mem_alloc(sizeof(*p));

    list_init(&p->kept);
    return p;
}

static void free_if_done(struct link_blocks *p)
{
    if (p->closed && p->out == 0)
        free(p);
}

void link_blocks_close(struct link_blocks *p)
{
    if (p == NULL)
        return;
    LIST_EACH (&p->kept, n)
        free(CONTAINER_OF(n, struct link_block, node));
    list_init(&p->kept);
    p->nkept = 0;
    p->closed = true;
    free_if_done(p);
}

static struct link_block *block_make(struct link_blocks *p, size_t own)
{
    struct link_block *b = mem_realloc(NULL, sizeof(*b) + own);

    *b = (struct link_block){ .pool = p, .users = 1 };
    list_init(&b->node);
    return b;
}

struct link_block *link_block_sized(struct link_blocks *p, size_t bytes)
{
    struct link_block *b;

    p->out++;
    if (bytes > LINK_BLOCK_MIN && bytes <= POOLED_BYTES && p->nkept > 0) {
        b = CONTAINER_OF(p->kept.prev, struct link_block, node); /* the warmest */
        list_remove(&b->node);
        b->users = 1;
        p->nkept--;
    } else {
        size_t cap = bytes > LINK_BLOCK_MIN && bytes < POOLED_BYTES ? POOLED_BYTES : bytes;

        b = block_make(p, PART_HEAD_BYTES + cap);
        b->cap = cap;
        b->data = b->own + PART_HEAD_BYTES;
    }
    b->at = b->len = 0;
    b->body = LINK_BLOCK_HEAD;
    return b;
}

struct link_block *link_block_new(struct link *l, size_t len)
{
    struct link_block *b = link_block_sized(l->self->blocks, LINK_BLOCK_HEAD + len);

    b->len = LINK_BLOCK_HEAD + len;
    return b;
}

struct link_block *link_block_share(struct link_block *b)
{
    struct link_block *of = b->of == NULL ? b : b->of;
    struct link_block *s = block_make(b->pool, 0);

    s->of = of;
    of->users++;
    s->data = of->data;
    s->body = b->body;
    s->len = b->len;
    b->pool->out++;
    return s;
}

unsigned char *link_block_bytes(struct link_block *b)
{
    return b->data + b->body;
}

void link_block_free(struct link_block *b)
{
    struct link_blocks *p;

    if (b == NULL)
        return;
    if (b->of != NULL) {
        struct link_block *of = b->of;

        b->pool->out--;
        free(b);
        b = of;
    }
    if (--b->users > 0)
        return;
    p = b->pool;
    p->out--;
    if (b->cap != POOLED_BYTES || p->nkept >= LINK_BLOCKS_KEPT || p->closed) {
        free(b);
        free_if_done(p);
        return;
    }
    list_push(&p->kept, &b->node);
    p->nkept++;
}

int link_block_frame(struct link_block *b, enum msg_type type, const void *msg, struct err *err)
{
    AUTO_BUF head = BUF_INIT;
    size_t whole = 0;
    int r = msg_frame_head(&head, type, msg, err);

    if (r == 0)
        r = msg_frame_bytes(head.data, head.len, &whole, err);
    if (r < 0)
        return r;
    if (head.len > b->body || whole - head.len != b->len - b->body)
        return err_set(err, ERR_INTERNAL, "%s has a head of %zu of %zu bytes: not this block's",
                       msg_name(type), head.len, whole);
    b->at = b->body - head.len;
    memcpy(b->data + b->at, head.data, head.len);
    return 0;
}
