#include <stdlib.h>

#include "base/mem.h"
#include "lib/check.h"
#include "wire/msg.h"

static const enum msg_type types[] = {
    MSG_HELLO,    MSG_PING,       MSG_PONG,     MSG_BYE,       MSG_ENROL,   MSG_ENROLLED,
    MSG_DOC,      MSG_REPLICATE,  MSG_REPLICA,  MSG_FLEET_ASK, MSG_FLEET,   MSG_QUANTILE_ASK,
    MSG_QUANTILE, MSG_PLAN,       MSG_COUNTS,   MSG_RUNS,      MSG_MACHINE, MSG_SOURCES,
    MSG_PROGRESS, MSG_REPORT,     MSG_SLOT_ASK, MSG_SLOT_FREE, MSG_SLOT,    MSG_JOIN,
    MSG_LEAVE,    MSG_PEERS,      MSG_BITMAP,   MSG_HAVE,      MSG_WANT,    MSG_LEAF,
    MSG_REFUSE,   MSG_OBJECT_ASK, MSG_OBJECT,   MSG_CANCEL,    MSG_PART,
};

/* A type that is forgotten in the tables, or in the list above, is found here: the compiler warns of
 * an enumerator that this switch leaves out. */
static bool is_listed(enum msg_type type)
{
    switch (type) {
    case MSG_NONE:
    case MSG_TYPE_END:
        return false;
    case MSG_HELLO:
    case MSG_PING:
    case MSG_PONG:
    case MSG_BYE:
    case MSG_ENROL:
    case MSG_ENROLLED:
    case MSG_DOC:
    case MSG_REPLICATE:
    case MSG_REPLICA:
    case MSG_FLEET_ASK:
    case MSG_FLEET:
    case MSG_QUANTILE_ASK:
    case MSG_QUANTILE:
    case MSG_PLAN:
    case MSG_COUNTS:
    case MSG_RUNS:
    case MSG_MACHINE:
    case MSG_SOURCES:
    case MSG_PROGRESS:
    case MSG_REPORT:
    case MSG_SLOT_ASK:
    case MSG_SLOT_FREE:
    case MSG_SLOT:
    case MSG_JOIN:
    case MSG_LEAVE:
    case MSG_PEERS:
    case MSG_BITMAP:
    case MSG_HAVE:
    case MSG_WANT:
    case MSG_LEAF:
    case MSG_REFUSE:
    case MSG_OBJECT_ASK:
    case MSG_OBJECT:
    case MSG_CANCEL:
    case MSG_PART:
        return true;
    }
    return false;
}

static size_t field_width(enum field_kind kind)
{
    static const size_t widths[] = {
        [FIELD_U8] = 1,
        [FIELD_U16] = 2,
        [FIELD_U32] = 4,
        [FIELD_U64] = 8,
        [FIELD_HASH] = sizeof(struct hash),
        [FIELD_TEXT] = sizeof(char *),
        [FIELD_BYTES] = sizeof(struct bytes),
        [FIELD_LIST] = sizeof(struct list_of),
    };

    return widths[kind];
}

/* The table covers the whole struct, in order; what lies between two fields is padding only. */
static void check_codec(const struct codec *c)
{
    size_t end = 0;

    for (size_t i = 0; i < c->nfields; i++) {
        const struct field *f = &c->fields[i];

        assert_true(f->offset >= end && f->offset - end < 8);
        end = f->offset + field_width(f->kind);
        if (f->kind == FIELD_LIST)
            check_codec(f->element);
        if (f->kind == FIELD_LIST || f->kind == FIELD_TEXT || f->kind == FIELD_BYTES)
            assert_true(f->max > 0);
    }
    assert_true(c->nfields == 0 || (c->size >= end && c->size - end < 8));
}

static void test_every_type_has_a_codec(void **state)
{
    size_t found = 0;

    (void)state;
    for (int type = 0; type <= MSG_TYPE_END; type++) {
        assert_int_equal(msg_codec((enum msg_type)type) != NULL, is_listed((enum msg_type)type));
        found += is_listed((enum msg_type)type);
    }
    assert_int_equal(found, COUNT_OF(types));
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        check_codec(msg_codec(types[i]));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(msg_name(types[i]), msg_name(types[k]));
    }
    assert_string_equal(msg_name(MSG_NONE), "unknown");
    assert_null(msg_codec((enum msg_type) - 1));
}

/* A zeroed message of every type goes through a frame and back. */
static void test_every_type_round_trips(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        const struct codec *c = msg_codec(types[i]);
        void *zero = mem_alloc(c->size);
        struct err err = ERR_INIT;
        AUTO_BUF b = BUF_INIT;
        enum msg_type type = MSG_NONE;
        struct bytes payload;
        void *back = NULL;
        size_t len = 0;

        assert_ok(msg_frame(&b, types[i], zero, &err), &err);
        for (size_t cut = 0; cut < b.len; cut++) {
            assert_ok(msg_next_frame(b.data, cut, &len, &type, &payload, &err), &err);
            assert_int_equal(len, 0);
        }
        buf_str_append(&b, "next");
        assert_ok(msg_next_frame(b.data, b.len, &len, &type, &payload, &err), &err);
        assert_int_equal(len, b.len - 4);
        assert_int_equal(type, types[i]);
        assert_ok(codec_decode(&back, c, payload.data, payload.len, &err), &err);
        codec_free(c, back);
        free(zero);
    }
}

static void test_bad_frames(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *part;
    } cases[] = {
        { "\0\0\0\0", 4, "frame of 0 bytes" },
        { "\1\0\10\0", 4, "frame of 524289 bytes" },
        { "\377\377\377\377", 4, "frame of 4294967295 bytes" },
        { "\1\0\0\0\0", 5, "unknown message type 0" },
        { "\1\0\0\0\177", 5, "unknown message type 127" },
        { "\1\0\0\0\200", 5, "unknown message type 128" },
        { "\1\0\0\0\377", 5, "unknown message type 255" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        enum msg_type type = MSG_NONE;
        struct bytes payload;
        size_t len = 0;

        assert_error(msg_next_frame(cases[i].bytes, cases[i].len, &len, &type, &payload, &err),
                     ERR_INVALID, &err, cases[i].part);
    }
}

static void test_frames_that_do_not_fit(void **state)
{
    static char where[60 * 1024];
    struct msg_rule rules[16] = { 0 };
    struct msg_plan plan = { .rules = { rules, COUNT_OF(rules) } };
    struct msg_leaf leaf = { .bytes = { NULL, LEAF_BYTES } };
    struct err err = ERR_INIT;
    AUTO_BUF b = BUF_INIT;

    (void)state;
    memset(where, ' ', sizeof(where) - 1);
    for (size_t i = 0; i < COUNT_OF(rules); i++)
        rules[i].where = where;
    assert_error(msg_frame(&b, MSG_PLAN, &plan, &err), ERR_LIMIT, &err, "plan: frame of");
    assert_int_equal(b.len, 0);
    assert_error(msg_frame(&b, MSG_NONE, &plan, &err), ERR_INTERNAL, &err, "no message type 0");
    leaf.bytes.data = mem_alloc(LEAF_BYTES);
    assert_ok(msg_frame(&b, MSG_LEAF, &leaf, &err), &err); /* the largest one fits */
    leaf.bytes.len++;
    assert_error(msg_frame(&b, MSG_LEAF, &leaf, &err), ERR_LIMIT, &err, "bytes: 262145 bytes");
    free(leaf.bytes.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_has_a_codec),
        cmocka_unit_test(test_every_type_round_trips),
        cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_frames_that_do_not_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
