/* What an idle link costs: `make bench-idle` measures the heap of 5,000 of them; this watches what OpenSSL keeps of a
 * few, on both sides together. */
#include <malloc.h>
#include <openssl/crypto.h>

#include "unit/io/link_ends.h"

enum {
    LINKS = 16,
    BOTH_SIDES_MAX = 48 << 10, /* 35 KiB are used; a buffer for a record has 16 KiB */
};

/* What OpenSSL has, and the links of one side. One thread. */
struct held {
    size_t bytes, count;
    struct link *links[2 * LINKS];
};

static struct held *held(void)
{
    static struct held h;

    return &h;
}

static void *take(size_t size, const char *file, int line)
{
    void *p = malloc(size);

    (void)file;
    (void)line;
    held()->bytes += malloc_usable_size(p);
    return p;
}

static void give(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    held()->bytes -= malloc_usable_size(p);
    free(p);
}

static void *change(void *p, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    held()->bytes -= malloc_usable_size(p);
    p = realloc(p, size);
    held()->bytes += malloc_usable_size(p);
    return p;
}

static void stop_when_all_are_open(struct end *e, struct link *l)
{
    held()->links[held()->count++] = l;
    if (e->opened % LINKS == 0)
        loop_post(e->f->loop, stop, e->f->loop);
}

static void open_some(struct fix *f)
{
    for (int i = 0; i < LINKS; i++)
        connect_as(f, f->agent, ROLE_REGION, NULL);
    loop_run(f->loop);
}

static void idle_links_keep_no_buffers(void **state)
{
    struct fix *f = *state;
    size_t before;

    link_listener_set_limits(f->listener, LINKS, LINKS, 2 * LINKS);
    f->client.on_open = stop_when_all_are_open;
    open_some(f); /* what is kept once, with the identities */
    before = held()->bytes;
    open_some(f);
    assert_int_equal(f->client.opened, 2 * LINKS);
    assert_true((held()->bytes - before) / LINKS <= BOTH_SIDES_MAX);
    assert_true((held()->bytes - before) / LINKS >= BOTH_SIDES_MAX / 4); /* it is counted */
    f->stop_after_closed = 4 * LINKS;
    while (held()->count > 0)
        link_close(held()->links[--held()->count], ERR_NONE, "");
    loop_run(f->loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(idle_links_keep_no_buffers),
    };

    if (CRYPTO_set_mem_functions(take, change, give) != 1)
        return 1;
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
