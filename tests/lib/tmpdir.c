#include "lib/tmpdir.h"

#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"

struct path {
    struct list node;
    char *text;
};

static struct {
    char dir[256];
    pid_t owner;
    struct list paths; /* given out; freed at exit */
    int fresh;
} state;

static void die(const char *what, const char *path)
{
    fprintf(stderr, "tmpdir: %s %s: %s\n", what, path, strerror(errno));
    _Exit(99);
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

/* A test may have taken away the right to write a directory. */
static int open_up(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)at;
    return kind == FTW_D || kind == FTW_DNR ? chmod(path, (st->st_mode & 07777) | 0700) : 0;
}

void tmpdir_remove(const char *path)
{
    struct stat st;

    if (lstat(path, &st) != 0)
        return;
    nftw(path, open_up, 32, FTW_PHYS);
    if (nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS) != 0)
        die("remove", path);
}

static void clean_up(void)
{
    if (getpid() == state.owner)
        tmpdir_remove(state.dir);
    LIST_EACH (&state.paths, n) {
        struct path *p = CONTAINER_OF(n, struct path, node);

        free(p->text);
        free(p);
    }
}

const char *tmpdir(void)
{
    const char *where = getenv("TMPDIR");

    if (state.owner != 0)
        return state.dir;
    snprintf(state.dir, sizeof(state.dir), "%s/slipway-test.XXXXXX",
             where != NULL ? where : "/tmp");
    if (mkdtemp(state.dir) == NULL)
        die("make", state.dir);
    state.owner = getpid();
    list_init(&state.paths);
    atexit(clean_up);
    return state.dir;
}

const char *tmpdir_path(const char *fmt, ...)
{
    struct buf b = BUF_INIT;
    struct path *p = mem_alloc(sizeof(*p));
    va_list args;

    buf_printf(&b, "%s/", tmpdir());
    va_start(args, fmt);
    buf_vprintf(&b, fmt, args);
    va_end(args);
    p->text = buf_steal(&b);
    list_push(&state.paths, &p->node);
    return p->text;
}

const char *tmpdir_fresh(void)
{
    const char *path = tmpdir_path("d%d", ++state.fresh);

    if (mkdir(path, 0755) != 0)
        die("make", path);
    return path;
}

static void make_parents(const char *path)
{
    AUTO_BUF b = BUF_INIT;

    buf_str_append(&b, path);
    for (char *p = b.data + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(b.data, 0755) != 0 && errno != EEXIST)
            die("make", b.data);
        *p = '/';
    }
}

void tmpdir_write(const char *path, const void *data, size_t len)
{
    FILE *f;

    make_parents(path);
    f = fopen(path, "wb");
    if (f == NULL)
        die("open", path);
    if (fwrite(data, 1, len, f) != len || fclose(f) != 0)
        die("write", path);
}

char *tmpdir_read(const char *path, size_t *len)
{
    struct buf b = BUF_INIT;
    FILE *f = fopen(path, "rb");
    size_t got;

    if (f == NULL && errno == ENOENT)
        return NULL;
    if (f == NULL)
        die("open", path);
    do {
        buf_reserve(&b, 65536);
        got = fread(b.data + b.len, 1, 65536, f);
        b.len += got;
        b.data[b.len] = '\0';
    } while (got > 0);
    if (ferror(f))
        die("read", path);
    fclose(f);
    if (len != NULL)
        *len = b.len;
    return buf_steal(&b);
}
