/* bench_region AGENTS [GOALS]: one region node as a process, AGENTS links of agents from this one.
 * Prints the node's memory per agent, and how long a goal takes from the control plane to the agents,
 * over GOALS goals. */
#include "unit/region/world.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { AT_ONCE = 64 };

struct bench;

struct agent {
    struct bench *b;
    struct link_identity *identity;
    struct link *link;
    int goals;
};

struct bench {
    struct world w;
    struct agent *agents;
    size_t count, open, told;
    int64_t goal_ms, *took;
    size_t ntook;
};

static void opened(void *ctx, struct link *l)
{
    struct agent *a = ctx;
    char key[] = "rack", rack[] = "r1", boot[] = "boot", host[] = "127.0.0.1";
    struct msg_label label = { key, rack };
    struct msg_machine msg = { { &label, 1 }, boot, host, 7000, { NULL, 0 } };
    struct err err = ERR_INIT;

    assert_ok(link_send(l, MSG_MACHINE, &msg, &err), &err);
    a->b->open++;
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct agent *a = ctx;

    (void)l;
    if (type != MSG_DOC || ((const struct msg_doc *)msg)->kind != DOC_GOAL)
        return;
    a->b->told++;
    a->goals++;
    if (a->goals > 1)
        a->b->took[a->b->ntook++] = monotonic_ms() - a->b->goal_ms;
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    struct agent *a = ctx;

    (void)l;
    if (!a->b->w.closed)
        fail_msg("a link was lost: %s", why->text);
    a->link = NULL;
    a->b->open--;
}

static const struct link_handler handler = { opened, message, NULL, closed };

static long status_kib(pid_t pid, const char *field)
{
    char path[64], line[256];
    long value = -1;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0)
            value = strtol(line + strlen(field) + 1, NULL, 10);
    }
    if (f != NULL)
        fclose(f);
    return value;
}

static pid_t start_node(struct bench *b, const char *ready)
{
    AUTO_BUF text = BUF_INIT;
    AUTO_JSON *json = NULL;
    struct err err = ERR_INIT;
    int64_t port = 0;
    pid_t pid;

    b->w.options.ready_file = ready;
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(region_main_loop(&b->w.options, &err) == 0 ? 0 : 1);
    }
    WORLD_UNTIL(&b->w, path_exists(ready));
    assert_ok(file_read(&text, ready, 4096, &err), &err);
    assert_ok(json_parse(&json, text.data, text.len, &err), &err);
    assert_ok(json_get_int(json, "link", 1, 65535, &port, &err), &err);
    b->w.port = (int)port;
    return pid;
}

static void make_identities(struct bench *b)
{
    struct err err = ERR_INIT;

    for (size_t i = 0; i < b->count; i++) {
        AUTO_FREE char *id = mem_printf("m%zu", i);
        AUTO_FREE char *dir = world_identity(&b->w, ROLE_AGENT, id);

        b->agents[i].b = b;
        assert_ok(link_identity_load(&b->agents[i].identity, dir, "r1", &err), &err);
    }
}

static void connect_all(struct bench *b)
{
    struct err err = ERR_INIT;

    for (size_t i = 0; i < b->count; i++) {
        struct agent *a = &b->agents[i];

        assert_ok(link_connect(&a->link, b->w.loop, a->identity, "127.0.0.1", b->w.port,
                               ROLE_REGION, "r1", &handler, a, &err),
                  &err);
        WORLD_UNTIL(&b->w, i < b->open + AT_ONCE);
    }
    WORLD_UNTIL(&b->w, b->told == b->count);
}

static int by_value(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;

    return a < b ? -1 : a > b;
}

static void send_goals(struct bench *b, const struct hash *release, int goals)
{
    AUTO_BUF doc = BUF_INIT;

    for (int i = 0; i < goals; i++) {
        struct goal_text g = { .service = "web",
                               .deployment = "d-1",
                               .generation = (uint64_t)i + 2,
                               .release = release,
                               .activate = true };

        goal_doc(&b->w, &g, &doc);
        b->told = 0;
        b->goal_ms = monotonic_ms();
        control_doc(&b->w, DOC_GOAL, &doc);
        WORLD_UNTIL(&b->w, b->told == b->count);
    }
}

int main(int argc, char **argv)
{
    struct bench *b = mem_alloc(sizeof(*b));
    int goals = argc > 2 ? atoi(argv[2]) : 10;
    struct rlimit limit;
    struct hash release;
    long before;
    int64_t began;
    pid_t pid;

    b->count = argc > 1 ? (size_t)atol(argv[1]) : 2000;
    b->agents = mem_calloc(b->count, sizeof(*b->agents));
    b->took = mem_calloc(b->count * (size_t)goals, sizeof(*b->took));
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    world_init(&b->w);
    make_identities(b);
    pid = start_node(b, tmpdir_path("ready"));
    release = begin(&b->w, 1, 10);
    WORLD_UNTIL(&b->w, verified(&b->w));
    before = status_kib(pid, "VmRSS:");
    began = monotonic_ms();
    connect_all(b);
    printf("%-44s %10zu\n", "agents, each with a certificate of its own", b->count);
    printf("%-44s %10.1f\n", "connected and told, a second",
           (double)b->count * 1000.0 / (double)(monotonic_ms() - began));
    printf("%-44s %10.1f\n", "memory of the node per agent, KiB",
           (double)(status_kib(pid, "VmRSS:") - before) / (double)b->count);
    send_goals(b, &release, goals);
    qsort(b->took, b->ntook, sizeof(*b->took), by_value);
    printf("%-44s %10lld\n", "goal to agent, ms, p50", (long long)b->took[b->ntook / 2]);
    printf("%-44s %10lld\n", "p99", (long long)b->took[b->ntook * 99 / 100]);
    printf("%-44s %10lld\n", "last", (long long)b->took[b->ntook - 1]);
    b->w.closed = true;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}
