#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "io/link_private.h"

/* The stream of one link, cut into reads of any length: each message that the parser finds in the whole must be
 * handed over once, with the same content, whatever the cuts, until the first that is wrong. The first byte says
 * how to cut. */
struct seen {
    const uint8_t *data;
    size_t left;
    struct buf large; /* what the PARTs so far make */
    bool large_done;
    struct link_block *kept;
};

static void opened(void *ctx, struct link *l)
{
    (void)ctx;
    (void)l;
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    (void)ctx;
    (void)l;
    (void)why;
}

static void next_frame(struct seen *s, enum msg_type *type, struct bytes *payload)
{
    size_t len = 0;

    if (msg_next_frame(s->data, s->left, &len, type, payload, NULL) < 0 || len == 0)
        abort();
    s->data += len;
    s->left -= len;
}

/* Link keeps PINGs and the like to itself, and puts PARTs together. */
static void next_expected(struct seen *s, enum msg_type *type, struct bytes *payload)
{
    size_t len = 0;

    if (s->large_done)
        buf_release(&s->large);
    s->large_done = false;
    do {
        next_frame(s, type, payload);
        if (*type != MSG_PART)
            continue;
        buf_append(&s->large, payload->data + 4, payload->len - 4);
        if (msg_next_frame(s->large.data, s->large.len, &len, type, payload, NULL) < 0)
            abort();
        s->large_done = len == s->large.len;
        if (len != 0 && !s->large_done)
            abort();
    } while (*type < MSG_DOC);
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct seen *s = ctx;
    enum msg_type expected = MSG_NONE;
    struct bytes payload = { NULL, 0 };
    AUTO_BUF again = BUF_INIT;

    next_expected(s, &expected, &payload);
    if (type != expected || msg_frame(&again, type, msg, NULL) < 0 ||
        again.len != payload.len + 5 || memcmp(again.data + 5, payload.data, payload.len) != 0)
        abort();
    link_block_free(s->kept);
    s->kept = link_take_block(
        l,
        l->held == NULL ? NULL : l->held->data); /* one at a time is kept longer than its message */
}

static void stop(void *loop)
{
    loop_stop(loop);
}

static void feed(struct link *l, const uint8_t *data, size_t size, unsigned cut)
{
    while (size > 0 && (l->state == LINK_OPEN || l->state == LINK_HELLO)) {
        size_t room = 0, len = 1 + (size_t)cut * cut * 8;
        unsigned char *to = link_in_room(l, &room);

        len = len < room ? len : room;
        len = len < size ? len : size;
        memcpy(to, data, len);
        link_in_got(l, len);
        data += len;
        size -= len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct link_handler handler = { opened, message, NULL, closed };
    static struct loop *loop;
    struct link_identity self = { .blocks = link_blocks_new(),
                                  .open_ms = LINK_OPEN_MS,
                                  .ping_ms = LINK_PING_MS,
                                  .silent_ms = LINK_SILENT_MS };
    struct seen seen = { 0 };
    struct link *l;

    if (loop == NULL && loop_new(&loop, NULL) < 0)
        abort();
    l = link_new(loop, &self, &handler, &seen);
    l->state = LINK_OPEN;
    l->fd = eventfd(0, EFD_CLOEXEC); /* to be watched only */
    if (size > 0) {
        seen.data = data + 1;
        seen.left = size - 1;
        feed(l, data + 1, size - 1, data[0]);
    }
    link_end(l);
    loop_post(loop, stop, loop);
    loop_run(loop);
    link_block_free(seen.kept);
    buf_release(&seen.large);
    map_release(&self.offences);
    map_release(&self.denied);
    link_blocks_close(self.blocks);
    return 0;
}
