#include "lib/trees.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "lib/tmpdir.h"

uint64_t random_next(struct random *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 0x2545f4914f6cdd1dULL;
}

uint64_t random_below(struct random *r, uint64_t n)
{
    return n == 0 ? 0 : random_next(r) % n;
}

void random_fill(struct random *r, void *data, size_t len)
{
    unsigned char *b = data;
    bool repeat = random_below(r, 2) == 0;

    for (size_t i = 0; i < len; i++)
        b[i] = repeat ? (unsigned char)("slipway"[i % 7]) : (unsigned char)random_next(r);
}

static size_t random_size(struct random *r, bool large)
{
    static const size_t sizes[] = { 0, 1, 100, 4096, 70000, 4u << 20, 8u << 20, 5000001 };

    return sizes[random_below(r, large ? 8 : 5)];
}

static void random_file(const char *path, struct random *r, bool large)
{
    static const mode_t modes[] = { 0644, 0755, 0600, 0444 };
    size_t len = random_size(r, large);
    char *data = malloc(len + 1);

    random_fill(r, data, len);
    tmpdir_write(path, data, len);
    chmod(path, modes[random_below(r, 4)]);
    free(data);
}

void tree_random(const char *dir, struct random *r, size_t files, bool large)
{
    char *here = mem_strdup(dir);

    for (size_t i = 0; i < files; i++) {
        char *path = mem_printf("%s/%c%zu%s", here, (int)('A' + random_below(r, 50)), i,
                                random_below(r, 3) == 0 ? ".\303\244 x" : "");

        switch (random_below(r, 6)) {
        case 0: /* go down */
            if (strlen(here) < 900 && mkdir(path, 0755) == 0) {
                free(here);
                here = mem_strdup(path);
            }
            break;
        case 1: /* back to the top */
            free(here);
            here = mem_strdup(dir);
            break;
        case 2:
            if (symlink(random_below(r, 2) == 0 ? "no/such" : "B1", path) < 0)
                abort();
            break;
        default:
            random_file(path, r, large);
        }
        free(path);
    }
    free(here);
}

static bool differ(const char *what, const char *path)
{
    fprintf(stderr, "trees differ in %s: %s\n", what, path);
    return false;
}

static bool same_bytes(const char *a, const char *b)
{
    size_t alen = 0, blen = 0;
    char *x = tmpdir_read(a, &alen);
    char *y = tmpdir_read(b, &blen);
    bool same = x != NULL && y != NULL && alen == blen && memcmp(x, y, alen) == 0;

    free(x);
    free(y);
    return same;
}

static bool same_target(const char *a, const char *b)
{
    char x[4096], y[4096];
    ssize_t xlen = readlink(a, x, sizeof(x));
    ssize_t ylen = readlink(b, y, sizeof(y));

    return xlen > 0 && xlen == ylen && memcmp(x, y, (size_t)xlen) == 0;
}

static bool same_entry(const char *a, const char *b)
{
    struct stat x, y;

    if (lstat(a, &x) < 0 || lstat(b, &y) < 0)
        return differ("existence", b);
    if ((x.st_mode & S_IFMT) != (y.st_mode & S_IFMT))
        return differ("kind", b);
    if (S_ISLNK(x.st_mode))
        return same_target(a, b) || differ("target", b);
    if ((x.st_mode & 07777) != (y.st_mode & 07777))
        return differ("mode", b);
    if (S_ISREG(x.st_mode))
        return same_bytes(a, b) || differ("bytes", b);
    return trees_equal(a, b);
}

static size_t count(const char *dir)
{
    DIR *d = opendir(dir);
    size_t n = 0;

    while (d != NULL && readdir(d) != NULL)
        n++;
    if (d != NULL)
        closedir(d);
    return n;
}

bool trees_equal(const char *a, const char *b)
{
    DIR *d = opendir(a);
    struct dirent *e;
    bool same = d != NULL && count(a) == count(b);

    if (!same)
        differ("number of entries", b);
    while (same && (e = readdir(d)) != NULL) {
        char *x, *y;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        x = mem_printf("%s/%s", a, e->d_name);
        y = mem_printf("%s/%s", b, e->d_name);
        same = same_entry(x, y);
        free(x);
        free(y);
    }
    if (d != NULL)
        closedir(d);
    return same;
}
