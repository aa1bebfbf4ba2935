#include "lib/versions.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "lib/programs.h"
#include "lib/tmpdir.h"

enum { EDITS = 16, NAMES_MAX = 2600 };

/* Random, of few letters, of a repeated line, or of records with a counter. */
static void make_bytes(struct buf *out, struct random *r, size_t len)
{
    size_t begin = out->len;
    uint64_t kind = random_below(r, 5), period = 1 + random_below(r, 300);

    for (size_t i = 0; i < len; i++) {
        uint64_t v = random_next(r) >> 17;

        if (kind == 1)
            v = (unsigned char)"etaoin srhl"[v % 11];
        else if (kind == 2 && i >= period && v % 64 != 0)
            v = (unsigned char)out->data[begin + i - period];
        else if (kind == 3 && i % 24 >= 4)
            v = (i % 24) * 7;
        else if (kind == 3)
            v = i / 24 >> 8 * (i % 4);
        else if (kind == 4)
            v = 0;
        buf_char(out, (char)(unsigned char)v);
    }
}

static void interleave(struct buf *out, const char *a, const char *b, size_t len, struct random *r)
{
    size_t grain = 1 + (size_t)random_below(r, 200);

    for (size_t i = 0; i < len; i += grain) {
        size_t n = grain < len - i ? grain : len - i;

        buf_append(out, a + i, n);
        buf_append(out, b + i, n);
    }
}

/* One change: something more at the end of out. */
static void edit(struct buf *out, const struct buf *old, struct random *r)
{
    size_t from = (size_t)random_below(r, old->len),
           n = (size_t)random_below(r, old->len - from + 1);
    size_t before = out->len, other;

    switch (random_below(r, 8)) {
    case 0: /* what was there, in place */
        from = out->len < old->len ? out->len : from;
        buf_append(out, old->data + from, old->len - from);
        break;
    case 1: /* with single bytes changed */
        buf_append(out, old->data + from, n);
        for (size_t k = before; k < out->len; k += 1 + (size_t)random_below(r, 300))
            out->data[k] = (char)(out->data[k] + 1);
        break;
    case 2: /* two stretches interleaved */
        other = (size_t)random_below(r, old->len - n + 1);
        interleave(out, old->data + from, old->data + other, n, r);
        break;
    case 3: /* something new */
        make_bytes(out, r, (size_t)random_below(r, 3000));
        break;
    case 4: /* cut */
        out->len -= (size_t)random_below(r, out->len / 2 + 1);
        break;
    case 5: /* doubled */
        for (uint64_t k = random_below(r, 4) + 2; k > 0; k--)
            buf_append(out, old->data + from, n / 4);
        break;
    default: /* moved */
        buf_append(out, old->data + from, n);
    }
}

void versions_of_bytes(struct buf *old, struct buf *new, struct random *r, size_t most)
{
    AUTO_BUF base = BUF_INIT;
    AUTO_BUF changed = BUF_INIT;

    make_bytes(&base, r, (size_t)random_below(r, most + 1));
    buf_reserve(&base, 1);
    buf_reserve(&changed, 1);
    if (random_below(r, 3) == 0)
        buf_append(&changed, base.data, base.len);
    for (uint64_t n = random_below(r, EDITS); n > 0 && changed.len < 3 * most; n--)
        edit(&changed, &base, r);
    buf_append(old, base.data, base.len);
    buf_append(new, changed.data, changed.len);
}

/* Some gone, some new, some elsewhere. */
static size_t change_functions(uint32_t *out, const uint32_t *in, size_t count, size_t names,
                               struct random *r)
{
    size_t at = (size_t)random_below(r, count), n = 0;
    uint64_t rate = 2 + random_below(r, 400);

    for (size_t i = 0; i < count; i++) {
        uint32_t f = in[random_below(r, 4) == 0 ? i : (i + at) % count];

        if (random_below(r, rate) > 0)
            out[n++] = f;
        if (random_below(r, rate) == 0)
            out[n++] = (uint32_t)random_below(r, names);
    }
    if (n == 0)
        out[n++] = 0;
    return n;
}

static void damage(struct buf *file, size_t begin, struct random *r)
{
    for (uint64_t n = random_below(r, 6); n > 0; n--) {
        size_t at = begin + (size_t)random_below(r, 64 + 4 * 56);

        file->data[at] = (char)random_next(r);
    }
}

void versions_of_program(struct buf *old, struct buf *new, struct random *r)
{
    uint32_t *functions = mem_calloc(NAMES_MAX, sizeof(*functions));
    uint32_t *changed = mem_calloc(2 * NAMES_MAX, sizeof(*changed));
    size_t names = 20 + (size_t)random_below(r, NAMES_MAX - 20);
    struct program p = { .machine = random_below(r, 2) ? ELF_X86_64 : ELF_AARCH64,
                         .fixed = random_below(r, 2) == 0,
                         .frames = random_below(r, 3) > 0,
                         .names = names,
                         .functions = functions };
    size_t begin = old->len, new_begin = new->len;

    for (size_t i = 0; i < names; i++)
        functions[i] = (uint32_t)(i * 7 % names);
    p.count = names - (size_t)random_below(r, names / 4);
    program_build(old, &p);
    p.count = change_functions(changed, functions, p.count, names, r);
    p.functions = changed;
    p.edition = (uint32_t)random_below(r, 3);
    p.fixed = random_below(r, 16) == 0 ? !p.fixed : p.fixed;
    program_build(new, &p);
    if (random_below(r, 6) == 0)
        damage(old, begin, r);
    if (random_below(r, 6) == 0)
        damage(new, new_begin, r);
    free(functions);
    free(changed);
}

/* One file, at most one of which is missing. */
static void add_versions(struct artifact *old, struct artifact *new, struct random *r,
                         const char *path, size_t most)
{
    AUTO_BUF a = BUF_INIT;
    AUTO_BUF b = BUF_INIT;
    uint64_t missing = random_below(r, 12);

    if (random_below(r, 24) == 0)
        versions_of_program(&a, &b, r);
    else
        versions_of_bytes(&a, &b, r, most);
    if (missing != 0)
        artifact_add(old, path, buf_str(&a), a.len);
    if (missing != 1)
        artifact_add(new, path, buf_str(&b), b.len);
}

void versions_of_artifact(struct artifact *old, struct artifact *new, struct random *r)
{
    size_t files = 1 + (size_t)random_below(r, 8);
    size_t most = random_below(r, 100) == 0 ? 5000000 : random_below(r, 8) == 0 ? 200000 : 5000;

    artifact_init(old);
    artifact_init(new);
    for (size_t i = 0; i < (most > 1000000 ? 2 : files); i++) {
        AUTO_FREE char *path = mem_printf("f%02zu", i);

        add_versions(old, new, r, path, most);
    }
    artifact_seal(old);
    artifact_seal(new);
}

static void put_file(const char *dir, const char *name, const struct buf *content, mode_t mode)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);

    tmpdir_write(path, buf_str(content), content->len);
    chmod(path, mode);
}

/* Mostly holes: some bytes here and there, in both versions or in one. */
static void put_sparse(const char *old, const char *new, struct random *r)
{
    AUTO_FREE char *a = mem_printf("%s/d0/sparse", old);
    AUTO_FREE char *b = mem_printf("%s/d0/sparse", new);
    off_t len = (off_t)random_below(r, random_below(r, 10) == 0 ? 9u << 20 : 900000);
    int fds[] = { open(a, O_WRONLY | O_CREAT | O_EXCL, 0644),
                  open(b, O_WRONLY | O_CREAT | O_EXCL, 0644) };

    for (int i = 0; i < 2; i++) {
        if (fds[i] < 0 || ftruncate(fds[i], len + (off_t)random_below(r, 2) * 4096) < 0)
            abort();
    }
    for (uint64_t n = random_below(r, 12), both; n > 0; n--) {
        off_t at = (off_t)random_below(r, (uint64_t)len + 1);

        both = random_below(r, 3);
        for (uint64_t i = 0; i < 2; i++) {
            if ((both == 2 || both == i) && pwrite(fds[i], "here and there", 14, at) != 14)
                abort();
        }
    }
    close(fds[0]);
    close(fds[1]);
}

static void put_link(const char *dir, const char *name, const char *target)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);

    if (symlink(target, path) < 0)
        abort();
}

/* The file of the old tree becomes something in the new one. `before`: an earlier file's bytes. */
static void become(const char *dir, size_t i, struct buf *content, struct buf *before,
                   struct random *r)
{
    AUTO_FREE char *same = mem_printf("d%zu/f%zu", i % 3, i);
    AUTO_FREE char *renamed = mem_printf("r%zu/g%zu", i % 2, i);
    AUTO_FREE char *inside = mem_printf("%s/a/b", same);
    AUTO_BUF empty = BUF_INIT;

    switch (random_below(r, 9)) {
    case 0: /* unchanged */
    case 1:
        put_file(dir, same, content, 0644);
        break;
    case 2:
        put_file(dir, renamed, content, 0644);
        break;
    case 3: /* another one's bytes */
        put_file(dir, same, before, 0755);
        put_file(dir, renamed, content, 0600);
        break;
    case 4:
        put_file(dir, same, &empty, 0644);
        break;
    case 5: /* a directory */
        put_file(dir, inside, content, 0755);
        break;
    case 6: /* a link */
        put_file(dir, renamed, content, 0644);
        put_link(dir, same, "../r0/nowhere");
        break;
    case 7: /* gone */
        break;
    default:
        buf_append(content, "and more", 8);
        put_file(dir, same, content, 0444);
    }
}

void versions_of_tree(const char *old, const char *new, struct random *r)
{
    AUTO_BUF before = BUF_INIT;
    AUTO_BUF placeholder = BUF_INIT;

    buf_str_append(&before, "the first");
    for (int i = 0; i < 3; i++) { /* for links to stand in */
        AUTO_FREE char *name = mem_printf("d%d/here", i);

        put_file(old, name, &placeholder, 0644);
        put_file(new, name, &placeholder, 0644);
    }
    if (random_below(r, 3) == 0)
        put_sparse(old, new, r);
    for (size_t i = 0, n = 1 + (size_t)random_below(r, 12); i < n; i++) {
        AUTO_FREE char *name = mem_printf("d%zu/f%zu", i % 3, i);
        AUTO_BUF a = BUF_INIT;
        AUTO_BUF b = BUF_INIT;

        versions_of_bytes(&a, &b, r, 8000);
        put_file(old, name, &a, random_below(r, 2) ? 0755 : 0644);
        become(new, i, random_below(r, 2) ? &a : &b, &before, r);
        buf_reset(&before);
        if (a.len > 0)
            buf_append(&before, a.data, a.len);
    }
}
