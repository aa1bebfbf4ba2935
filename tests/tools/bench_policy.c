/* bench_policy POLICY.lua [CALLS]: how long a question to a policy host takes, as a table.
 *
 * Each call loads the bundle into a fresh Lua state in the child, asks, and checks the answer. Goal:
 * the median of each is at most 1 ms. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "policy/policy.h"

#define COUNTS                                                                              \
    "\"total\":4,\"reachable\":4,\"offline\":0,\"staged\":4,\"activated\":4,\"healthy\":3," \
    "\"bad\":0,\"unknown\":1"
#define REGIONS                                                                    \
    "[{\"name\":\"eu\",\"total\":6,\"reachable\":6},{\"name\":\"us\",\"total\":6," \
    "\"reachable\":6}]"

static const struct {
    enum policy_question id;
    const char *name, *input;
} questions[] = {
    { POLICY_BUILD, "build", "{\"commit\":\"0\",\"ref\":\"HEAD\",\"params\":{}}" },
    { POLICY_REPLICATE, "replicate",
      "{\"total\":1,\"verified\":1,\"failed\":0,\"region\":{\"eu\":{\"verified\":true}}}" },
    { POLICY_WAVES, "waves",
      "{\"total\":12,\"reachable\":12,\"params\":{},\"regions\":" REGIONS
      ",\"regions_by_size\":" REGIONS "}" },
    { POLICY_ADVANCE, "advance",
      "{\"wave\":{\"name\":\"a\",\"bake\":1,\"baked\":0,\"max_failed\":0," COUNTS
      "},\"since_progress\":1,\"params\":{},\"memo\":{}}" },
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static int measure(struct policy_host *h, const struct bundle *b, size_t q, size_t calls,
                   struct err *err)
{
    AUTO_JSON *input = json_loads(questions[q].input, 0, NULL);
    double *took = mem_calloc(calls, sizeof(*took));
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < calls; i++) {
        double begin = now_ms();
        json_t *answer;
        rc = policy_call(h, b, questions[q].id, input, &answer, err);
        took[i] = now_ms() - begin;
        if (rc == 0)
            json_decref(answer);
    }
    qsort(took, calls, sizeof(*took), compare);
    if (rc == 0)
        printf("%-10s %8zu %8.3f %8.3f %8.3f\n", questions[q].name, calls, took[calls / 2],
               took[calls * 99 / 100], took[calls - 1]);
    free(took);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "policy-host") == 0)
        return policy_host_main();
    long calls = argc > 2 ? strtol(argv[2], NULL, 10) : 2000;
    struct err err = ERR_INIT;
    struct bundle *b = NULL;
    struct policy_host *h = NULL;
    if (argc < 2 || calls < 1 || calls > 1000000) {
        fprintf(stderr, "usage: bench_policy POLICY.lua [CALLS]\n");
        return 2;
    }
    int rc = bundle_load(&b, argv[1], &err);
    if (rc == 0)
        rc = policy_host_new(&h, "/proc/self/exe", &err);
    printf("%-10s %8s %8s %8s %8s\n", "question", "calls", "p50 ms", "p99 ms", "max ms");
    for (size_t q = 0; rc == 0 && q < COUNT_OF(questions); q++)
        rc = measure(h, b, q, (size_t)calls, &err);
    if (rc < 0)
        fprintf(stderr, "bench_policy: %s\n", err.text);
    policy_host_free(h);
    bundle_free(b);
    return rc < 0 ? 1 : 0;
}
