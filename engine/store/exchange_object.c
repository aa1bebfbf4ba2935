#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/exchange_internal.h"

void exchange_offer(struct exchange *x, const void *bytes, size_t len)
{
    struct hash h = sha256_of(bytes, len);
    char hex[HASH_HEX];
    struct buf *copy;

    if (map_get(&x->objects, hash_hex(&h, hex)) != NULL)
        return;
    copy = mem_alloc(sizeof(*copy));
    buf_append(copy, bytes, len);
    map_put(&x->objects, hex, copy);
}

void exchange_withdraw(struct exchange *x, const struct hash *object)
{
    char hex[HASH_HEX];
    struct buf *bytes = map_remove(&x->objects, hash_hex(object, hex));

    if (bytes == NULL)
        return;
    buf_release(bytes);
    free(bytes);
}

void object_on_ask(struct exchange_link *l, const struct msg_object_ask *m)
{
    char hex[HASH_HEX];
    const struct buf *have = map_get(&l->x->objects, hash_hex(&m->object, hex));
    struct msg_object answer = { .object = m->object, .offset = m->offset };
    struct err err = ERR_INIT;

    if (have != NULL && m->offset < have->len) {
        size_t left = have->len - (size_t)m->offset;

        answer.total = have->len;
        answer.bytes.data = (unsigned char *)have->data + m->offset;
        answer.bytes.len = left < OBJECT_CHUNK ? left : OBJECT_CHUNK;
    }
    if (link_send(l->link, MSG_OBJECT, &answer, &err) < 0)
        l->x->counts.refused++; /* its buffer is full: it asks again */
}

static void finish(struct exchange_object *o, int status)
{
    list_remove(&o->node);
    o->x = NULL;
    o->done(o, status);
}

/* Of what the link gave there is so much; it goes on there. Another one would begin. */
static uint64_t got_from(const struct exchange_object *o, const struct link *l)
{
    return o->from == l ? o->out.len : 0;
}

static void ask(struct exchange_object *o, struct exchange_link *l)
{
    struct msg_object_ask m = { .object = o->hash, .offset = got_from(o, l->link) };
    struct err err = ERR_INIT;

    o->asked_ms = loop_now_ms(o->x->o.loop);
    if (link_send(l->link, MSG_OBJECT_ASK, &m, &err) == 0)
        o->asked = l->link;
}

/* Asks a link other than the last one if there is one. All bytes are of one link, so that it is known who sent
 * wrong ones; but until another one sends some, what is here stays: most have none, and who is slow may be the
 * only one that has it. */
static void ask_somebody(struct exchange_object *o)
{
    uint32_t count = 0, at;

    LIST_EACH (&o->x->links, n)
        count++;
    o->asked = NULL;
    if (count == 0)
        return; /* exchange_attach() will wake us */
    o->begun_ms = loop_now_ms(o->x->o.loop);
    at = o->tried++ % count;
    LIST_EACH (&o->x->links, n) {
        if (at-- > 0)
            continue;
        ask(o, CONTAINER_OF(n, struct exchange_link, node));
        return;
    }
}

static void finish_have(void *arg)
{
    struct exchange_object *o = arg;
    char hex[HASH_HEX];
    const struct buf *have;

    if (o->x == NULL)
        return;
    have = map_get(&o->x->objects, hash_hex(&o->hash, hex));
    if (have == NULL)
        return;
    buf_reset(&o->out);
    buf_append(&o->out, have->data, have->len);
    finish(o, 0);
}

void exchange_object_start(struct exchange *x, struct exchange_object *o, const struct hash *hash,
                           size_t max, void (*done)(struct exchange_object *o, int status))
{
    char hex[HASH_HEX];

    o->hash = *hash;
    o->max = max;
    o->done = done;
    o->x = x;
    o->asked = o->from = NULL;
    o->tried = 0;
    o->total = 0;
    o->err = (struct err)ERR_INIT;
    buf_reset(&o->out);
    list_push(&x->object_gets, &o->node);
    if (map_get(&x->objects, hash_hex(hash, hex)) == NULL)
        ask_somebody(o);
    else /* the next tick finishes it: never from inside this call */
        timer_start(x->o.loop, &x->tick, 0, EXCHANGE_TICK_MS, x->tick.fn);
}

void exchange_object_cancel(struct exchange_object *o)
{
    if (o->x == NULL)
        return;
    list_remove(&o->node);
    o->x = NULL;
}

static struct exchange_object *find_get(struct exchange_link *l, const struct hash *hash)
{
    LIST_EACH (&l->x->object_gets, n) {
        struct exchange_object *o = CONTAINER_OF(n, struct exchange_object, node);

        if (o->asked == l->link && hash_equal(&o->hash, hash))
            return o;
    }
    return NULL;
}

static void whole_object(struct exchange_link *l, struct exchange_object *o)
{
    struct hash h = sha256_of(o->out.data, o->out.len);

    if (!hash_equal(&h, &o->hash)) {
        o->from = NULL;
        ask_somebody(o);
        link_was_bad(l, "an object that does not match its digest");
        return;
    }
    exchange_offer(l->x, o->out.data, o->out.len);
    finish(o, 0);
}

/* Every chunk but the last is whole, and the size stays what it was: nobody can keep us waiting for
 * crumbs. */
static bool is_next_chunk(const struct exchange_object *o, const struct msg_object *m)
{
    uint64_t left = m->total - m->offset; /* the offset is what was asked for */

    return m->total <= o->max && m->offset < m->total &&
           m->bytes.len == (left < OBJECT_CHUNK ? left : OBJECT_CHUNK) &&
           (m->offset == 0 || m->total == o->total);
}

/* Slower than a chunk a second in the long run: another link may be faster. */
static bool is_late(const struct exchange_object *o, int64_t now_ms)
{
    int64_t chunks = (int64_t)(o->out.len / OBJECT_CHUNK);

    return now_ms - o->asked_ms > EXCHANGE_OBJECT_MS ||
           now_ms - o->begun_ms > EXCHANGE_OBJECT_MS + chunks * EXCHANGE_CHUNK_MS;
}

void object_on_object(struct exchange_link *l, const struct msg_object *m)
{
    struct exchange_object *o = find_get(l, &m->object);

    if (o == NULL || m->offset != got_from(o, l->link))
        return; /* late, after we asked elsewhere */
    if (m->total == 0) {
        o->asked = NULL; /* it has none; the tick asks the next one */
        return;
    }
    if (!is_next_chunk(o, m)) {
        o->asked = NULL;
        o->from = o->from == l->link ? NULL : o->from;
        link_was_bad(l, "an object of the wrong size");
        return;
    }
    if (o->from != l->link)
        buf_reset(&o->out);
    o->from = l->link;
    o->total = m->total;
    buf_append(&o->out, m->bytes.data, m->bytes.len);
    if (o->out.len == m->total)
        whole_object(l, o);
    else
        ask(o, l);
}

void object_link_opened(struct exchange *x)
{
    LIST_EACH (&x->object_gets, n) {
        struct exchange_object *o = CONTAINER_OF(n, struct exchange_object, node);

        if (o->asked == NULL)
            ask_somebody(o);
    }
}

void object_link_closed(struct exchange_link *l)
{
    LIST_EACH (&l->x->object_gets, n) {
        struct exchange_object *o = CONTAINER_OF(n, struct exchange_object, node);

        if (o->asked == l->link)
            o->asked = NULL;
        if (o->from == l->link)
            o->from = NULL;
    }
}

/* One at a time: a callback may start or cancel others, so the list is walked anew after each. */
static bool finish_one(struct exchange *x)
{
    char hex[HASH_HEX];

    LIST_EACH (&x->object_gets, n) {
        struct exchange_object *o = CONTAINER_OF(n, struct exchange_object, node);

        if (map_get(&x->objects, hash_hex(&o->hash, hex)) == NULL)
            continue;
        finish_have(o);
        return true;
    }
    return false;
}

void object_tick(struct exchange *x)
{
    int64_t now_ms = loop_now_ms(x->o.loop);

    while (finish_one(x))
        ;
    LIST_EACH (&x->object_gets, n) {
        struct exchange_object *o = CONTAINER_OF(n, struct exchange_object, node);

        if (o->asked == NULL || is_late(o, now_ms))
            ask_somebody(o);
    }
}
