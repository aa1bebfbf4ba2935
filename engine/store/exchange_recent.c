#include <stdlib.h>

#include "base/mem.h"
#include "store/exchange_internal.h"

/* A verified leaf in memory. */
struct recent {
    struct list node;
    const struct exchange_pack *p;
    uint32_t leaf;
    int64_t used_ms; /* came, or was wanted */
    struct link_block *block;
};

static void use(struct exchange *x, struct recent *r)
{
    r->used_ms = exchange_now(x);
    list_push(&x->recent, &r->node);
}

static void drop(struct exchange *x, struct recent *r)
{
    list_remove(&r->node);
    x->nrecent--;
    link_block_free(r->block);
    free(r);
}

void recent_keep(struct exchange_pack *p, uint32_t leaf, struct link_block *b)
{
    struct recent *r = mem_alloc(sizeof(*r));

    if (p->x->nrecent == EXCHANGE_RECENT_MAX)
        drop(p->x, CONTAINER_OF(p->x->recent.next, struct recent, node));
    *r = (struct recent){ .p = p, .leaf = leaf, .block = b };
    p->x->nrecent++;
    use(p->x, r);
}

struct link_block *recent_find(struct exchange_pack *p, uint32_t leaf)
{
    LIST_EACH (&p->x->recent, n) {
        struct recent *r = CONTAINER_OF(n, struct recent, node);

        if (r->p != p || r->leaf != leaf)
            continue;
        list_remove(n);
        use(p->x, r);
        return r->block;
    }
    return NULL;
}

void recent_drop(struct exchange *x, const struct exchange_pack *p, int64_t since_ms)
{
    LIST_EACH (&x->recent, n) {
        struct recent *r = CONTAINER_OF(n, struct recent, node);

        if ((p == NULL || r->p == p) && r->used_ms < since_ms)
            drop(x, r);
    }
}
