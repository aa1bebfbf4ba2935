#include "lib/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "region/sent.h"

/* What the exchange has given of pack 1, 2, …, since it was opened. */
struct node {
    uint64_t given[8];
};

static struct hash pack_of(unsigned char c)
{
    struct hash h = { { c } };

    return h;
}

static uint64_t given(void *ctx, const struct hash *pack)
{
    return ((const struct node *)ctx)->given[pack->b[0]];
}

static uint64_t bytes(void *ctx, const struct hash *pack)
{
    (void)ctx;
    return pack->b[0] * 1000;
}

static void expect(struct sent *s, const char *deployment, unsigned char pack)
{
    struct hash h = pack_of(pack);

    sent_expect(s, deployment, &h);
}

/* Bytes sent of a pack for a deployment; its size is checked. */
static uint64_t sent_of(struct sent *s, const char *deployment, unsigned char pack)
{
    struct hash h = pack_of(pack);
    struct list_of list;
    uint64_t n = 0;

    sent_take(s, deployment, &list);
    for (size_t i = 0; i < list.count; i++) {
        const struct msg_pack_sent *p = (const struct msg_pack_sent *)list.items + i;

        if (!hash_equal(&p->pack, &h))
            continue;
        assert_int_equal(p->bytes, pack * 1000);
        n = p->sent_bytes;
    }
    free(list.items);
    return n;
}

static void what_was_sent_before_is_not_its_own(void **state)
{
    struct node node = { { 0, 500 } };
    struct sent *s = sent_new(&(struct sent_counter){ given, bytes, &node });

    (void)state;
    expect(s, "d-1", 1);
    expect(s, "d-1", 2);
    sent_look(s, "d-1", true);
    assert_int_equal(sent_of(s, "d-1", 1), 0);
    node.given[1] = 700;
    node.given[2] = 30;
    sent_look(s, "d-1", true);
    expect(s, "d-1", 1); /* asked for again, after a lost link: nothing begins anew */
    node.given[1] = 701;
    sent_look(s, "d-1", true);
    assert_int_equal(sent_of(s, "d-1", 1), 201);
    assert_int_equal(sent_of(s, "d-1", 2), 30);
    assert_int_equal(sent_of(s, "d-0", 1), 0);
    sent_free(s);
}

static void what_a_later_deployment_costs_is_not_its_own(void **state)
{
    struct node node = { { 0 } };
    struct sent *s = sent_new(&(struct sent_counter){ given, bytes, &node });

    (void)state;
    expect(s, "d-1", 1);
    node.given[1] = 100;
    sent_look(s, "d-1", true);
    expect(s, "d-2", 1);
    node.given[1] = 150;
    sent_look(s, "d-1", false);
    sent_look(s, "d-2", true);
    sent_look(s, "d-1", true);
    assert_int_equal(sent_of(s, "d-1", 1), 100);
    assert_int_equal(sent_of(s, "d-2", 1), 50);
    sent_free(s);
}

static void a_pack_that_is_opened_anew_goes_on(void **state)
{
    struct node node = { { 0 } };
    struct sent *s = sent_new(&(struct sent_counter){ given, bytes, &node });

    (void)state;
    expect(s, "d-1", 3);
    node.given[3] = 100;
    sent_look(s, "d-1", true);
    node.given[3] = 40; /* it was forgotten in between, and counts from 0 */
    sent_look(s, "d-1", true);
    assert_int_equal(sent_of(s, "d-1", 3), 140);
    sent_free(s);
}

static void what_is_saved_is_taken_up(void **state)
{
    struct node node = { { 0 } };
    const struct sent_counter counter = { given, bytes, &node };
    struct sent *s = sent_new(&counter), *again = sent_new(&counter);
    struct msg_counts saved;

    (void)state;
    expect(s, "d-1", 1);
    assert_false(sent_unsaved(s, &saved));
    node.given[1] = 100;
    sent_look(s, "d-1", true);
    assert_true(sent_unsaved(s, &saved));
    assert_string_equal(saved.deployment, "d-1");
    sent_restore(again, &saved);
    codec_release(msg_codec(MSG_COUNTS), &saved);
    assert_false(sent_unsaved(s, &saved));
    assert_false(sent_unsaved(again, &saved));
    node.given[1] = 7; /* of the new process */
    expect(again, "d-1", 1);
    sent_look(again, "d-1", true);
    assert_int_equal(sent_of(again, "d-1", 1), 107);
    sent_free(s);
    sent_free(again);
}

static void it_is_bounded(void **state)
{
    struct node node = { { 0 } };
    struct sent *s = sent_new(&(struct sent_counter){ given, bytes, &node });
    struct hash h = pack_of(1);
    char name[16];

    (void)state;
    for (int i = 0; i < SENT_DEPLOYMENTS_MAX + 10; i++) {
        snprintf(name, sizeof(name), "d-%d", i);
        expect(s, name, 1);
    }
    for (unsigned i = 0; i < 2 * PACKS_MAX; i++) {
        h.b[1] = (unsigned char)i;
        sent_expect(s, name, &h);
    }
    node.given[1] = 5;
    sent_look(s, "d-0", true);
    sent_look(s, name, true);
    assert_int_equal(sent_of(s, "d-0", 1), 0); /* forgotten */
    assert_int_equal(sent_of(s, name, 1), 5);
    sent_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_sent_before_is_not_its_own),
        cmocka_unit_test(what_a_later_deployment_costs_is_not_its_own),
        cmocka_unit_test(a_pack_that_is_opened_anew_goes_on),
        cmocka_unit_test(what_is_saved_is_taken_up),
        cmocka_unit_test(it_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
