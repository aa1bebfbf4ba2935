/* Deltas by hand: make, apply, info. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/flags.h"
#include "cli/progress.h"
#include "io/loop.h"
#include "store/delta_file.h"
#include "wire/json.h"

enum { PHASES = 4, NOT_GIVEN = INT32_MIN };

/* How long each phase took, and a line on a terminal that says how far it is. */
struct meter {
    const char *names[PHASES];
    int64_t begun_ms[PHASES + 1];
    int64_t cpu_ms[PHASES + 1]; /* of the process, of all its threads */
    int phases;
    bool shows;
    int percent;
};

/* Ctrl-C ends the work in order, so that nothing half made is left; a second one ends it at once. */
static volatile sig_atomic_t interrupted, hashing;

/* While hashing, nothing has been written yet. */
static void on_signal(int signo)
{
    interrupted = signo;
    if (hashing)
        _exit(EXIT_DETACHED);
}

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal,
                                .sa_flags = (int)(SA_RESETHAND | SA_RESTART) };

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static int64_t cpu_ms(void)
{
    struct rusage u;

    if (getrusage(RUSAGE_SELF, &u) < 0)
        return 0;
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 +
           (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

static int step(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct meter *m = ctx;
    int percent = total == 0 ? 100 : (int)(done * 100 / total);

    if ((m->phases == 0 || strcmp(m->names[m->phases - 1], what) != 0) && m->phases < PHASES) {
        m->names[m->phases] = what;
        m->cpu_ms[m->phases] = cpu_ms();
        m->begun_ms[m->phases++] = monotonic_ms();
        m->percent = -1;
    }
    hashing = strcmp(what, "hash") == 0;
    if (m->shows && percent != m->percent) {
        m->percent = percent;
        fprintf(stderr, "\r\033[K%s %d %%", what, percent);
        fflush(stderr);
    }
    return interrupted ? -1 : 0;
}

static void stop(struct meter *m)
{
    m->begun_ms[m->phases] = monotonic_ms();
    m->cpu_ms[m->phases] = cpu_ms();
    if (m->shows)
        fprintf(stderr, "\r\033[K");
}

static double seconds_of(const struct meter *m, const char *what)
{
    for (int i = 0; i < m->phases; i++)
        if (strcmp(m->names[i], what) == 0)
            return (double)(m->begun_ms[i + 1] - m->begun_ms[i]) / 1000;
    return 0;
}

static long long peak_bytes(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) == 0 ? (long long)usage.ru_maxrss * 1024 : 0;
}

static const char *kind_name(const struct delta_file_info *i)
{
    return i->kind == PACK_DELTA ? "delta" : "full";
}

static json_t *info_json(const struct delta_file_info *i)
{
    json_t *o =
        json_pack("{s:i,s:s,s:b,s:o,s:I,s:I,s:I,s:I,s:I}", "v", 1, "kind", kind_name(i), "tree",
                  i->tree, "target", json_hash(&i->target), "files", (json_int_t)i->files, "bytes",
                  (json_int_t)i->stream_bytes, "segments", (json_int_t)i->segments, "pack_bytes",
                  (json_int_t)i->pack_bytes, "file_bytes", (json_int_t)i->file_bytes);

    if (i->kind == PACK_DELTA)
        json_object_set_new(o, "base", json_hash(&i->base));
    return o;
}

static json_t *kinds_json(const struct delta_stats *s)
{
    static const char *const encodings[] = { NULL, "stored", "full", "delta", "copy" };
    json_t *kinds = json_object();

    for (int i = SEGMENT_STORED; i <= SEGMENT_COPY; i++)
        json_object_set_new(kinds, encodings[i],
                            json_pack("{s:I,s:I}", "segments", (json_int_t)s->segments[i], "bytes",
                                      (json_int_t)s->payload_bytes[i]));
    return kinds;
}

static json_t *stats_json(const struct delta_stats *s)
{
    static const char *const streams[STREAMS] = { "literal",  "gap",      "value",        "run",
                                                  "residual", "word_run", "word_residual" };
    json_t *parts = json_object();

    for (int i = 0; i < STREAMS; i++)
        json_object_set_new(parts, streams[i], json_integer((json_int_t)s->stream_bytes[i]));
    json_object_set_new(parts, "covers", json_integer((json_int_t)s->covers_bytes));
    return json_pack("{s:o,s:o,s:I,s:I,s:I,s:I}", "segments_by_kind", kinds_json(s),
                     "bytes_by_stream", parts, "covers", (json_int_t)s->covers, "groups",
                     (json_int_t)s->groups, "predicted", (json_int_t)s->predicted_groups,
                     "literal_bytes", (json_int_t)s->literal_bytes);
}

static json_t *costs_json(const struct delta_file_costs *c)
{
    json_t *list = json_array();

    for (size_t i = 0; i < c->count; i++) {
        const struct delta_file_cost *f = &c->items[i];
        AUTO_BUF why = BUF_INIT;
        json_t *o;

        cost_describe(&why, &f->cost);
        o = json_pack("{s:s,s:I,s:I,s:I,s:s,s:s}", "path", f->path, "bytes",
                      (json_int_t)f->cost.bytes, "file_bytes", (json_int_t)f->size, "new_bytes",
                      (json_int_t)f->cost.new_bytes, "reason", cost_reason_name(f->cost.reason),
                      "why", buf_str(&why));
        if (f->cost.packed != NULL)
            json_object_set_new(o, "packed", json_string(f->cost.packed->name));
        json_array_append_new(list, o);
    }
    return list;
}

static void print_json(json_t *o)
{
    AUTO_FREE char *text = json_text(o);

    puts(text);
    json_decref(o);
}

static void print_bytes(const char *what, uint64_t bytes)
{
    AUTO_BUF text = BUF_INIT;

    progress_bytes(&text, (int64_t)bytes);
    printf("%-12s %s (%llu bytes)\n", what, buf_str(&text), (unsigned long long)bytes);
}

static void print_info(const struct delta_file_info *i)
{
    char hex[HASH_HEX];

    printf("%-12s %s of %s\n", "kind", kind_name(i), i->tree ? "a tree" : "one file");
    printf("%-12s %s\n", "target", hash_hex(&i->target, hex));
    if (i->kind == PACK_DELTA)
        printf("%-12s %s\n", "base", hash_hex(&i->base, hex));
    printf("%-12s %llu in %llu segments\n", "files", (unsigned long long)i->files,
           (unsigned long long)i->segments);
    print_bytes("content", i->stream_bytes);
    print_bytes("pack", i->pack_bytes);
}

static void print_segments(const struct delta_stats *s)
{
    printf("%-12s %llu copied, %llu delta, %llu full, %llu stored\n", "segments",
           (unsigned long long)s->segments[SEGMENT_COPY],
           (unsigned long long)s->segments[SEGMENT_DELTA],
           (unsigned long long)s->segments[SEGMENT_ZSTD],
           (unsigned long long)s->segments[SEGMENT_STORED]);
}

/* Where the bytes go: what a person could do about them. */
static void print_costs(const struct delta_file_costs *c)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct delta_file_cost *f = &c->items[i];
        AUTO_BUF bytes = BUF_INIT;
        AUTO_BUF why = BUF_INIT;

        progress_bytes(&bytes, (int64_t)f->cost.bytes);
        cost_describe(&why, &f->cost);
        printf("%-12s %10s  %s%s%s\n", i == 0 ? "most bytes" : "", buf_str(&bytes), f->path,
               why.len > 0 ? ": " : "", buf_str(&why));
    }
    if (c->packed > COSTS_NAMED)
        printf("%-12s %zu files are compressed, in all\n", "", c->packed);
}

static void print_seconds(const struct meter *m)
{
    printf("%-12s", "seconds");
    for (int i = 0; i < m->phases; i++)
        printf("%s %s %.2f", i > 0 ? "," : "", m->names[i], seconds_of(m, m->names[i]));
    printf("\n");
    print_bytes("peak memory", (uint64_t)peak_bytes());
}

static void add_costs(json_t *o, const struct meter *m)
{
    json_t *seconds = json_object(), *cpu = json_object();

    for (int i = 0; i < m->phases; i++) {
        json_object_set_new(seconds, m->names[i], json_real(seconds_of(m, m->names[i])));
        json_object_set_new(cpu, m->names[i],
                            json_real((double)(m->cpu_ms[i + 1] - m->cpu_ms[i]) / 1000));
    }
    json_object_set_new(o, "cpu_seconds", cpu);
    json_object_set_new(o, "seconds", seconds);
    json_object_set_new(o, "peak_bytes", json_integer(peak_bytes()));
}

/* 130, as a shell would say of Ctrl-C. */
static int failed(const struct globals *g, const struct err *err)
{
    int code = fail(g, err);

    return interrupted ? EXIT_DETACHED : code;
}

static int make(const struct globals *g, char **operands, struct delta_file_options *o)
{
    struct meter m = { .shows = g->progress == PROGRESS_TTY };
    struct delta_file_costs costs = { .count = 0 };
    struct delta_file_info info;
    struct delta_stats stats;
    struct err err = ERR_INIT;
    const char *base = strcmp(operands[0], "-") == 0 ? NULL : operands[0];
    int r;

    o->progress = step;
    o->ctx = &m;
    o->costs = &costs;
    r = delta_file_make(base, operands[1], operands[2], o, &stats, &info, &err);
    stop(&m);
    if (r < 0) {
        delta_file_costs_release(&costs);
        return failed(g, &err);
    }
    if (g->json) {
        json_t *out = info_json(&info), *more = stats_json(&stats);

        json_object_update(out, more);
        json_decref(more);
        json_object_set_new(out, "most_bytes", costs_json(&costs));
        add_costs(out, &m);
        print_json(out);
    } else {
        print_info(&info);
        print_segments(&stats);
        print_seconds(&m);
        print_costs(&costs);
    }
    delta_file_costs_release(&costs);
    return EXIT_OK;
}

static int apply(const struct globals *g, char **operands, struct delta_file_options *o)
{
    struct meter m = { .shows = g->progress == PROGRESS_TTY };
    struct delta_file_info info;
    struct err err = ERR_INIT;
    const char *base = strcmp(operands[0], "-") == 0 ? NULL : operands[0];
    int r;

    o->progress = step;
    o->ctx = &m;
    r = delta_file_apply(base, operands[1], operands[2], o, &info, &err);
    stop(&m);
    if (r < 0)
        return failed(g, &err);
    if (g->json) {
        json_t *out = info_json(&info);

        add_costs(out, &m);
        print_json(out);
        return EXIT_OK;
    }
    print_info(&info);
    print_seconds(&m);
    return EXIT_OK;
}

static int info(const struct globals *g, const char *path)
{
    struct delta_file_costs costs = { .count = 0 };
    struct delta_file_info i;
    struct delta_stats stats;
    struct err err = ERR_INIT;

    if (delta_file_report(path, &i, &stats, &costs, &err) < 0)
        return fail(g, &err);
    if (g->json) {
        json_t *out = info_json(&i);

        json_object_set_new(out, "segments_by_kind", kinds_json(&stats));
        json_object_set_new(out, "most_bytes", costs_json(&costs));
        print_json(out);
    } else {
        print_info(&i);
        print_segments(&stats);
        print_costs(&costs);
    }
    delta_file_costs_release(&costs);
    return EXIT_OK;
}

/* An option that does nothing would be taken for obeyed. */
static int check_options(const char *what, int64_t level, int64_t threads, struct err *err)
{
    if (level != NOT_GIVEN && strcmp(what, "make") != 0)
        return err_set(err, ERR_INVALID, "--level is for delta make, not for delta %s", what);
    if (threads != NOT_GIVEN && strcmp(what, "info") == 0)
        return err_set(err, ERR_INVALID, "--threads is for delta make and apply");
    return 0;
}

static int check_numbers(int64_t level, int64_t threads, struct err *err)
{
    if (level != NOT_GIVEN && (level < DELTA_LEVEL_MIN || level > DELTA_LEVEL_MAX))
        return err_set(err, ERR_INVALID, "--level %lld: it is %d (fast) to %d (small)",
                       (long long)level, DELTA_LEVEL_MIN, DELTA_LEVEL_MAX);
    if (threads != NOT_GIVEN && (threads < 1 || threads > DELTA_THREADS_MAX))
        return err_set(err, ERR_INVALID,
                       "--threads %lld: it is 1 to %d; without it, as many as processors",
                       (long long)threads, DELTA_THREADS_MAX);
    return 0;
}

int cli_delta(int argc, char **argv)
{
    int64_t level = NOT_GIVEN, threads = NOT_GIVEN;
    const struct flag flags[] = {
        { "level", FLAG_INT, &level, "N", "1 (fast) to 19 (small); 3" },
        { "threads", FLAG_INT, &threads, "N", "as many as processors" },
    };
    const struct verb verb = {
        "delta make BASE TARGET PACK | delta apply BASE PACK OUT | delta info PACK",
        "What changed from one file or directory to another, as a pack. BASE may be - for none.",
        flags,
        COUNT_OF(flags),
        2,
        4
    };
    struct delta_file_options o;
    struct globals g;
    struct err err = ERR_INIT;
    int operands, code;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    if (check_options(argv[0], level, threads, &err) < 0 ||
        check_numbers(level, threads, &err) < 0) {
        fail(&g, &err);
        return EXIT_USAGE;
    }
    o = (struct delta_file_options){ .level = level == NOT_GIVEN ? DELTA_LEVEL : (int)level,
                                     .threads = threads == NOT_GIVEN ? 0 : (unsigned)threads };
    if (strcmp(argv[0], "info") != 0) /* which leaves nothing, and asks nobody whether to go on */
        catch_signals();
    if (strcmp(argv[0], "make") == 0 && operands == 4)
        return make(&g, argv + 1, &o);
    if (strcmp(argv[0], "apply") == 0 && operands == 4)
        return apply(&g, argv + 1, &o);
    if (strcmp(argv[0], "info") == 0 && operands == 2)
        return info(&g, argv[1]);
    err_set(&err, ERR_INVALID, "usage: engine %s", verb.usage);
    fail(&g, &err);
    return EXIT_USAGE;
}
