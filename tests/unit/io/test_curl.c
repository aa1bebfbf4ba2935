/* libcurl is there when it is asked for; if it is not, that is said. */
#include "lib/check.h"

#include "io/curl.h"

static void what_is_loaded_works(void **state)
{
    struct err err = ERR_INIT;
    struct curl curl, again;

    (void)state;
    assert_ok(curl_load(&curl, CURL_LIBRARY, &err), &err);
    assert_ok(curl_load(&again, CURL_LIBRARY, &err), &err);
    assert_memory_equal(&curl, &again, sizeof(curl));
    assert_non_null(curl.easy_strerror(CURLE_OK));
}

static void a_missing_library_is_named(void **state)
{
    struct err err = ERR_INIT;
    struct curl curl;

    (void)state;
    assert_error(curl_load(&curl, "libcurl-gone.so.4", &err), ERR_NOT_FOUND, &err,
                 "libcurl-gone.so.4");
}

static void a_library_without_a_function_is_named(void **state)
{
    struct err err = ERR_INIT;
    struct curl curl;

    (void)state;
    assert_error(curl_load(&curl, "libc.so.6", &err), ERR_NOT_FOUND, &err,
                 "libc.so.6 is too old: it has no curl_easy_init()");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_loaded_works),
        cmocka_unit_test(a_missing_library_is_named),
        cmocka_unit_test(a_library_without_a_function_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
