/* bench_idle LINKS: what idle links cost. Prints, for LINKS (5000) of them between this process and a child, each
 * with its own TLS session: bytes of heap and of resident memory a link, on either side. Fails if the heap of
 * either is over IDLE_HEAP_MAX a link. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/link.h"
#include "io/pki.h"

enum { AT_ONCE = 64, IDLE_HEAP_MAX = 32 << 10, SPARE_DESCRIPTORS = 64 };

struct side {
    struct loop *loop;
    struct link_identity *self;
    size_t count, open, begun;
    int port;
    size_t heap_before, rss_before;
};

static void must(int status, const struct err *err)
{
    if (status == 0)
        return;
    fprintf(stderr, "bench_idle: %s\n", err->text);
    exit(1);
}

static size_t heap_bytes(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

static size_t rss_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long all = 0, resident = 0;

    if (f == NULL || fscanf(f, "%lu %lu", &all, &resident) != 2)
        exit(1);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void begin_some(struct side *s);

static void opened(void *ctx, struct link *l)
{
    struct side *s = ctx;

    (void)l;
    s->open++;
    if (s->port > 0)
        begin_some(s);
    if (s->open == s->count)
        loop_stop(s->loop);
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    (void)ctx;
    (void)l;
    (void)type;
    (void)msg;
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    (void)ctx;
    (void)l;
    fprintf(stderr, "bench_idle: a link was closed: %s\n", why->text);
    exit(1);
}

static const struct link_handler handler = { opened, message, NULL, closed };

static void begin_some(struct side *s)
{
    while (s->begun < s->count && s->begun < s->open + AT_ONCE) {
        struct link *l;
        struct err err = ERR_INIT;

        must(link_connect(&l, s->loop, s->self, "127.0.0.1", s->port, ROLE_REGION, NULL, &handler,
                          s, &err),
             &err);
        s->begun++;
    }
}

static void start(struct side *s, const char *dir)
{
    struct err err = ERR_INIT;

    must(loop_new(&s->loop, &err), &err);
    must(link_identity_load(&s->self, dir, "", &err), &err);
    s->heap_before = heap_bytes();
    s->rss_before = rss_bytes();
}

static void stop(struct timer *t)
{
    loop_stop(t->loop);
}

/* Lets tickets and the like arrive. */
static void settle(struct side *s)
{
    struct timer t = { 0 };

    timer_start(s->loop, &t, 1000, 0, stop);
    loop_run(s->loop);
    timer_stop(&t);
    malloc_trim(0);
}

/* Is it as little as it should be? */
static bool report(struct side *s, const char *name)
{
    size_t heap = (heap_bytes() - s->heap_before) / s->count;

    printf("%-10s %zu idle links: %zu bytes of heap, %zu bytes resident a link\n", name, s->count,
           heap, (rss_bytes() - s->rss_before) / s->count);
    fflush(stdout);
    return heap <= IDLE_HEAP_MAX;
}

/* Until the other side has closed the pipe. */
static void connect_all(struct side *s, const char *dir, int port, int pipe_fd)
{
    bool fine;
    char c;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    start(s, dir);
    s->port = port;
    begin_some(s);
    loop_run(s->loop);
    settle(s);
    fine = report(s, "connecting");
    exit(read(pipe_fd, &c, 1) == 0 && fine ? 0 : 1);
}

static int bench(struct side *s, const char *dir)
{
    AUTO_FREE char *ca = mem_printf("%s/ca", dir), *region = mem_printf("%s/region", dir);
    AUTO_FREE char *agent = mem_printf("%s/agent", dir);
    struct link_listener *listener;
    struct err err = ERR_INIT;
    int status = 0, fds[2];
    pid_t child;
    bool fine;

    must(pki_make_ca(ca, "c", &err), &err);
    must(pki_issue(ca, region, "c", ROLE_REGION, "r", &err), &err);
    must(pki_issue(ca, agent, "c", ROLE_AGENT, "m", &err), &err);
    start(s, region);
    must(link_listen(&listener, s->loop, s->self, "127.0.0.1:0", 1U << ROLE_AGENT, s->count,
                     &handler, s, &err),
         &err);
    link_listener_set_limits(listener, 2 * AT_ONCE, 2 * AT_ONCE, s->count);
    if (pipe(fds) < 0 || (child = fork()) < 0)
        return 1;
    if (child == 0) {
        struct side other = { .count = s->count };

        close(fds[1]);
        connect_all(&other, agent, link_listener_port(listener), fds[0]);
    }
    loop_run(s->loop);
    settle(s);
    fine = report(s, "accepting");
    close(fds[1]);
    return waitpid(child, &status, 0) != child || status != 0 || !fine;
}

int main(int argc, char **argv)
{
    struct side s = { .count = argc > 1 ? strtoul(argv[1], NULL, 10) : 5000 };
    struct rlimit files = { s.count + SPARE_DESCRIPTORS, s.count + SPARE_DESCRIPTORS };
    char dir[] = "/tmp/bench_idle.XXXXXX";
    struct err err = ERR_INIT;
    int rv;

    log_setup("bench_idle", 2);
    if (s.count == 0 || setrlimit(RLIMIT_NOFILE, &files) < 0 || mkdtemp(dir) == NULL) {
        fprintf(stderr, "bench_idle: cannot have %zu descriptors\n", s.count);
        return 1;
    }
    rv = bench(&s, dir);
    must(dir_remove(dir, &err), &err);
    return rv; /* the links go with the process */
}
