/* replay.c - runs a fuzz target over every file of its corpus and over mutations of each, the same
 * ones every time. Prints TAP, one test per file.
 *
 *     build/san/fuzz/fuzz_manifest              the corpus; FUZZ_MUTATIONS=N of each file (2000,
 *                                          or what fuzz_mutations says)
 *     build/san/fuzz/fuzz_manifest FILE...      once over each file, say a kept crash
 *
 * When the target crashes or takes 20 s over one input, that input is left in build/crash-<target>.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"

enum { INPUT_MAX = 1 << 20, HANG_S = 20 };

struct input {
    uint8_t *data;
    size_t size;
    char name[256];
};

struct corpus {
    struct input *all;
    size_t count;
};

/* For the handlers alone: what was running. */
static struct {
    const uint8_t *data;
    size_t size;
    char path[256];
} current;

/* Of the sanitizers' runtime; called before it ends the program. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void keep_input(void)
{
    if (current.data == NULL)
        return; /* a leak, told at the end: no input of its own */

    int fd = open(current.path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ssize_t done = fd < 0 ? -1 : write(fd, current.data, current.size);

    if (done == (ssize_t)current.size)
        done = write(2, "# input kept in ", 16) + write(2, current.path, strlen(current.path)) +
               write(2, "\n", 1);
}

static void on_signal(int number)
{
    keep_input();
    number = number == SIGALRM ? SIGABRT : number;
    signal(number, SIG_DFL);
    raise(number);
}

static void keep_what_crashes(const char *target)
{
    snprintf(current.path, sizeof(current.path), "build/crash-%s", target);
    signal(SIGALRM, on_signal);
    signal(SIGABRT, on_signal);
    if (__sanitizer_set_death_callback != NULL) {
        __sanitizer_set_death_callback(keep_input);
        return;
    }
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    signal(SIGFPE, on_signal);
}

/* Runs on an exact copy on the heap, so that ASan sees one byte too far. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = size == 0 ? NULL : mem_dup(data, size);

    current.data = copy;
    current.size = size;
    alarm(HANG_S);
    LLVMFuzzerTestOneInput(copy, size);
    alarm(0);
    current.data = NULL;
    free(copy);
}

/* xorshift64 */
static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static size_t below(uint64_t *seed, size_t limit)
{
    return limit == 0 ? 0 : (size_t)(next(seed) % limit);
}

/* Takes up to len bytes out at `at`, or puts random ones in. */
static size_t take_out(uint8_t *data, size_t size, size_t at, size_t len)
{
    len = len < size - at ? len : size - at;
    memmove(data + at, data + at + len, size - at - len);
    return size - len;
}

static size_t put_in(uint64_t *seed, uint8_t *data, size_t size, size_t at, size_t len)
{
    if (size + len > INPUT_MAX)
        return size;
    memmove(data + at + len, data + at, size - at);
    for (size_t i = 0; i < len; i++)
        data[at + i] = (uint8_t)next(seed);
    return size + len;
}

/* One small change: returns the new size. data has room for INPUT_MAX bytes. */
static size_t mutate(uint64_t *seed, uint8_t *data, size_t size, const struct input *other)
{
    /* Bytes at which parsers go wrong. */
    static const uint8_t edges[] = { 0, 1, 0x7f, 0x80, 0xff, '"', '{', '/', '.', '\n' };
    size_t at = below(seed, size), len = 1 + below(seed, 16);

    switch (below(seed, 7)) {
    case 0: /* flip a bit */
        if (size > 0)
            data[at] ^= (uint8_t)(1u << below(seed, 8));
        return size;
    case 1:
        if (size > 0)
            data[at] = edges[below(seed, sizeof(edges))];
        return size;
    case 2: /* cut the end off */
        return at;
    case 3:
        return take_out(data, size, at, len);
    case 4:
        return put_in(seed, data, size, at, len);
    case 5: /* a wild length field */
        for (size_t i = 0; i < 8 && at + i < size; i++)
            data[at + i] = (uint8_t)(next(seed) & 1 ? 0xff : next(seed));
        return size;
    default: /* go on as another file does */
        if (at >= other->size)
            return size;
        memcpy(data + at, other->data + at, other->size - at);
        return other->size;
    }
}

static void run_mutations(const struct corpus *c, size_t which, long mutations)
{
    uint8_t *data = mem_alloc(INPUT_MAX);
    uint64_t seed = 88172645463325252u + which;

    for (long i = 0; i < mutations; i++) {
        size_t size = c->all[which].size, changes = 1 + below(&seed, 4);

        memcpy(data, c->all[which].data, size);
        for (size_t n = 0; n < changes; n++)
            size = mutate(&seed, data, size, &c->all[below(&seed, c->count)]);
        run(data, size);
    }
    free(data);
}

static bool read_input(const char *path, struct input *in)
{
    FILE *f = fopen(path, "rb");

    if (f == NULL) {
        printf("# cannot read %s\n", path);
        return false;
    }
    in->data = mem_alloc(INPUT_MAX);
    in->size = fread(in->data, 1, INPUT_MAX, f);
    in->data = mem_realloc(in->data, in->size);
    fclose(f);
    return true;
}

static int is_input(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static struct corpus read_corpus(const char *dir)
{
    struct corpus c = { NULL, 0 };
    struct dirent **names = NULL;
    int count = scandir(dir, &names, is_input, alphasort);
    char path[1024];

    c.all = mem_calloc(count > 0 ? (size_t)count : 1, sizeof(*c.all));
    for (int i = 0; i < count; i++) {
        struct input *in = &c.all[c.count];

        snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
        snprintf(in->name, sizeof(in->name), "%s", names[i]->d_name);
        if (read_input(path, in))
            c.count++;
        free(names[i]);
    }
    free(names);
    return c;
}

static int replay(const char *target, long mutations)
{
    char dir[256];
    struct corpus c;

    snprintf(dir, sizeof(dir), "tests/fuzz/corpus/%s", target);
    c = read_corpus(dir);
    run(NULL, 0);
    printf("1..%zu\n", c.count > 0 ? c.count : 1);
    if (c.count == 0)
        printf("not ok 1 - %s has no file\n", dir);
    for (size_t i = 0; i < c.count; i++) {
        run(c.all[i].data, c.all[i].size);
        run_mutations(&c, i, mutations);
        printf("ok %zu - %s and %ld mutations\n", i + 1, c.all[i].name, mutations);
        fflush(stdout);
    }
    for (size_t i = 0; i < c.count; i++)
        free(c.all[i].data);
    free(c.all);
    return c.count > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *target = strrchr(argv[0], '/'), *wanted = getenv("FUZZ_MUTATIONS");
    long mutations = &fuzz_mutations != NULL ? fuzz_mutations : 2000;
    struct input in;

    target = target == NULL ? argv[0] : target + 1;
    if (strncmp(target, "fuzz_", 5) == 0)
        target += 5;
    keep_what_crashes(target);
    if (argc == 1)
        return replay(target, wanted != NULL ? strtol(wanted, NULL, 10) : mutations);
    for (int i = 1; i < argc; i++) {
        if (!read_input(argv[i], &in))
            return 1;
        run(in.data, in.size);
        free(in.data);
    }
    return 0;
}
