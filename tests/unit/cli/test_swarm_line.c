#include "lib/check.h"

#include "base/mem.h"
#include "cli/swarm_line.h"

static void each_part_is_there_if_it_says_something(void **state)
{
    static const struct {
        const char *json, *line;
    } cases[] = {
        { "null", "" },
        { "{\"machines\":3,\"ratio\":null,\"seconds\":null,\"seed_copies\":null,"
          "\"cross_rack\":null}",
          "" },
        { "{\"ratio\":{\"p50\":1.04,\"p99\":1.1,\"max\":1.309},\"rate_from\":{\"limit\":5,"
          "\"link\":2,\"observed\":1},\"seconds\":{\"p50\":9,\"p99\":9,\"max\":9},"
          "\"seed_copies\":2.14,\"cross_rack\":0.057,\"stolen\":12,\"edges\":120,\"stale_edges\":3,"
          "\"bad_leaves\":4,\"late\":2,\"offenders\":[{},{}]}",
          "p50 1.04, p99 1.10, max 1.31 x size/limit; 2 late; 2.1 copies from seeds; 6 % between "
          "racks; 12 leaves stolen; 3 of 120 peers stale; 4 wrong leaves; 2 machines banned" },
        { "{\"ratio\":null,\"seconds\":{\"p50\":0.21,\"p99\":0.5,\"max\":0.61},\"offenders\":[{}]}",
          "p50 0.21, p99 0.50, max 0.61 s; 1 machine banned" },
        { "{\"ratio\":{\"p50\":1,\"p99\":2,\"max\":2},\"rate_from\":{\"limit\":0,\"link\":0,"
          "\"observed\":9}}",
          "p50 1.00, p99 2.00, max 2.00 x size/observed rate" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        json_t *swarm = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
        AUTO_BUF line = BUF_INIT;

        assert_non_null(swarm);
        swarm_line(&line, swarm);
        assert_string_equal(buf_str(&line), cases[i].line);
        json_decref(swarm);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_is_there_if_it_says_something),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
