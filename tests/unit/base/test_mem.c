#include "lib/check.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

static void memory_is_zeroed_and_never_null(void **state)
{
    unsigned char *p = mem_alloc(100), *none = mem_alloc(0), *table = mem_calloc(10, 8);

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    for (int i = 0; i < 80; i++)
        assert_int_equal(table[i], 0);
    assert_non_null(none);
    none = mem_realloc(none, 0);
    assert_non_null(none);
    free(p);
    free(none);
    free(table);
}

static void copies_are_exact(void **state)
{
    char *whole = mem_strdup("whole"), *part = mem_strndup("whole", 3);
    char *bytes = mem_dup("a\0b", 3), *nothing = mem_dup(NULL, 0);
    char *text = mem_printf("%s-%03d", "x", 7);

    (void)state;
    assert_string_equal(whole, "whole");
    assert_string_equal(part, "who");
    assert_memory_equal(bytes, "a\0b", 3);
    assert_non_null(nothing);
    assert_string_equal(text, "x-007");
    free(whole);
    free(part);
    free(bytes);
    free(nothing);
    free(text);
}

static void arrays_grow_by_doubling(void **state)
{
    int *items = NULL;
    size_t count = 0, cap = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        VEC_GROW(items, count, cap);
        items[count++] = i;
    }
    assert_int_equal(cap, 1024);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(items[i], i);
    free(items);
}

/* Without it ASan itself ends the process, before mem.c sees the failure. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void the_process_ends_with_1_when_memory_runs_out(void **state)
{
    int status, ends[2];
    char said[4096] = "";
    pid_t child;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        free(mem_calloc((size_t)1 << 62, 2));
        _Exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_true(read(ends[0], said, sizeof(said) - 1) > 0);
    assert_non_null(strstr(said, "fatal: out of memory\n"));
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_and_never_null),
        cmocka_unit_test(copies_are_exact),
        cmocka_unit_test(arrays_grow_by_doubling),
        cmocka_unit_test(the_process_ends_with_1_when_memory_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
