#include "lib/check.h"

#include "io/interface.h"

/* Loopback is no hardware, and what is no address leads nowhere. */
static void what_is_not_known_is_zero(void **state)
{
    static const char *const hosts[] = { "127.0.0.1",      "::1",      "", "localhost",
                                         "not an address", "256.1.1.1" };

    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
        assert_int_equal(interface_rate(hosts[i]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_not_known_is_zero) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
