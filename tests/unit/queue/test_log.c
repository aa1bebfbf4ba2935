/* The logs of jobs, over both databases. */
#include "unit/queue/fixture.h"

#include <stdio.h>

static void add_log(struct fixture *f, int64_t id, int64_t attempt, int64_t seq, const char *text)
{
    assert_ok(queue_log(f->d, id, attempt, seq, text, strlen(text), &f->err), &f->err);
}

static void expect_log(struct fixture *f, int64_t id, int64_t offset, size_t max, const char *text)
{
    AUTO_BUF out = BUF_INIT;

    assert_ok(queue_read_log(f->d, id, offset, max, &out, &f->err), &f->err);
    assert_string_equal(buf_str(&out), text);
}

static void logs_are_in_order(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "a", NULL);

    claim(f, "t1", NULL);
    add_log(f, id, 1, 0, "one ");
    add_log(f, id, 1, 1, "two ");
    add_log(f, id, 1, 1, "two ");
    silence(f, id);
    assert_int_equal(reap(f), 10);
    claim(f, "t2", NULL);
    add_log(f, id, 2, 0, "three ");
    add_log(f, id, 2, 0, "three ");
    add_log(f, id, 2, 1, "four");
    expect_log(f, id, 0, 100, "one two three four");
    expect_log(f, id, 0, 5, "one t");
    expect_log(f, id, 5, 6, "wo thr");
    expect_log(f, id, 17, 100, "r");
    expect_log(f, id, 18, 100, "");
    expect_log(f, id, 500, 100, "");
    expect_log(f, 99, 0, 100, "");
    expect_log(f, id, 0, 0, "");
}

static void long_logs(void **state)
{
    struct fixture *f = fixture_of(state);
    int64_t id = enqueue(f, "a", NULL);
    char *chunk = mem_alloc(QUEUE_LOG_CHUNK_MAX_BYTES + 1);
    AUTO_BUF out = BUF_INIT;

    claim(f, "t1", NULL);
    for (int i = 0; i < 200; i++) {
        char text[16];

        snprintf(text, sizeof(text), "%06d\n", i);
        add_log(f, id, 1, i, text);
    }
    memset(chunk, 'x', QUEUE_LOG_CHUNK_MAX_BYTES + 1);
    assert_ok(queue_log(f->d, id, 1, 200, chunk, QUEUE_LOG_CHUNK_MAX_BYTES, &f->err), &f->err);
    assert_error(queue_log(f->d, id, 1, 201, chunk, QUEUE_LOG_CHUNK_MAX_BYTES + 1, &f->err),
                 ERR_LIMIT, &f->err, "chunk");
    add_log(f, id, 1, 201, "end");
    free(chunk);
    assert_ok(queue_read_log(f->d, id, 7, 1 << 20, &out, &f->err), &f->err);
    assert_int_equal(out.len, 199 * 7 + QUEUE_LOG_CHUNK_MAX_BYTES + 3);
    assert_memory_equal(out.data, "000001\n", 7);
    assert_string_equal(out.data + out.len - 4, "xend");
    expect_log(f, id, 1400 + QUEUE_LOG_CHUNK_MAX_BYTES - 1, 100, "xend");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(logs_are_in_order),
        ON_BOTH(long_logs),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
