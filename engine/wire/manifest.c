#include "wire/manifest.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/utf8.h"

enum { HEAD_BYTES = 4 + 4 + 8 + 4, ENTRY_LEAST = 1 + 2 + 2 + 1, COMPONENT_MAX = 255 };

static void put_number(struct buf *out, uint64_t v, size_t width)
{
    for (size_t i = 0; i < width; i++)
        buf_char(out, (char)(unsigned char)(v >> (8 * i)));
}

static void put_text(struct buf *out, const char *text)
{
    size_t len = strlen(text);

    put_number(out, len, 2);
    buf_append(out, text, len);
}

void manifest_encode(struct buf *out, const struct manifest *m)
{
    buf_str_append(out, "SLM2");
    put_number(out, m->nentries, 4);
    put_number(out, m->stream_bytes, 8);
    put_number(out, m->nsegments, 4);
    for (size_t i = 0; i < m->nentries; i++) {
        const struct entry *e = &m->entries[i];

        buf_char(out, (char)e->kind);
        put_number(out, e->mode, 2);
        put_text(out, e->path);
        if (e->kind == ENTRY_LINK)
            put_text(out, e->target);
        if (e->kind == ENTRY_FILE) {
            put_number(out, e->size, 8);
            buf_append(out, e->hash.b, HASH_BYTES);
        }
    }
    buf_append(out, m->segments, m->nsegments * sizeof(*m->segments));
}

size_t manifest_segment_bytes(const struct manifest *m, size_t i)
{
    uint64_t left = m->stream_bytes - (uint64_t)i * SEGMENT_BYTES;

    return left < SEGMENT_BYTES ? (size_t)left : SEGMENT_BYTES;
}

size_t manifest_first_file(const struct manifest *m, size_t i)
{
    uint64_t start = (uint64_t)i * SEGMENT_BYTES;
    size_t low = 0, high = m->nentries;

    /* Where entries end ascends too. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (m->entries[middle].offset + m->entries[middle].size <= start)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool manifest_span(const struct manifest *m, size_t i, size_t k, struct span *ret)
{
    const struct entry *e = &m->entries[k];
    uint64_t start = (uint64_t)i * SEGMENT_BYTES;
    uint64_t end = start + manifest_segment_bytes(m, i);
    uint64_t from = e->offset > start ? e->offset : start;
    uint64_t to = e->offset + e->size < end ? e->offset + e->size : end;

    if (e->kind != ENTRY_FILE || from >= to)
        return false;
    ret->in_segment = (size_t)(from - start);
    ret->in_file = from - e->offset;
    ret->len = (size_t)(to - from);
    return true;
}

/* What a path and a link's target have in common. */
static int check_text(const char *what, const char *text, struct err *err)
{
    size_t len = strlen(text);

    if (len == 0)
        return err_set(err, ERR_INVALID, "%s: empty", what);
    if (len > PATH_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "%s %.64s…: longer than %d bytes", what, text,
                       PATH_MAX_BYTES);
    if (!utf8_valid(text, len))
        return err_set(err, ERR_INVALID, "%s: not valid UTF-8", what);
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return err_set(err, ERR_INVALID, "%s: has a control character", what);
    }
    if (text[0] == '/')
        return err_set(err, ERR_INVALID, "%s %s: absolute", what, text);
    return 0;
}

static bool is_dots(const char *component, size_t len)
{
    return len <= 2 && memcmp(component, "..", len) == 0;
}

int manifest_check_path(const char *path, struct err *err)
{
    int r = check_text("path", path, err);

    for (const char *at = path; r == 0; at++) {
        size_t len = strcspn(at, "/");

        if (len == 0)
            return err_set(err, ERR_INVALID, "path %s: an empty component", path);
        if (is_dots(at, len))
            return err_set(err, ERR_INVALID, "path %s: a . or .. component", path);
        if (len > COMPONENT_MAX)
            return err_set(err, ERR_LIMIT, "path %.64s…: a component longer than %d bytes", path,
                           COMPONENT_MAX);
        at += len;
        if (*at == '\0')
            break;
    }
    return r;
}

/* ".." may only lead a target: then it counts real directories (a listed path never leads through a
 * link), and no chain of links can climb out of the tree. */
int manifest_check_link(const char *path, const char *target, struct err *err)
{
    size_t depth = 0;
    bool named = false;

    if (check_text("target", target, err) < 0)
        return err_wrap(err, "link %s", path);
    for (const char *c = path; *c != '\0'; c++)
        depth += *c == '/';
    for (const char *at = target;; at++) {
        size_t len = strcspn(at, "/");

        if (len == 2 && is_dots(at, len)) {
            if (named)
                return err_set(err, ERR_INVALID, "link %s: target %s: '..' after a name", path,
                               target);
            if (depth == 0)
                return err_set(err, ERR_INVALID, "link %s: target %s leaves the tree", path,
                               target);
            depth--;
        } else if (len > COMPONENT_MAX) {
            return err_set(err, ERR_LIMIT, "link %s: a component longer than %d bytes", path,
                           COMPONENT_MAX);
        } else if (len > 0 && !is_dots(at, len)) {
            named = true;
        }
        at += len;
        if (*at == '\0')
            return 0;
    }
}

struct input {
    const unsigned char *at;
    size_t left;
};

static int take(struct input *in, size_t len, const unsigned char **ret, struct err *err)
{
    if (in->left < len)
        return err_set(err, ERR_INVALID, "ends too early");
    *ret = in->at;
    in->at += len;
    in->left -= len;
    return 0;
}

static int take_number(struct input *in, size_t width, uint64_t *ret, struct err *err)
{
    const unsigned char *b = NULL;
    int r = take(in, width, &b, err);

    *ret = 0;
    for (size_t i = 0; r == 0 && i < width; i++)
        *ret |= (uint64_t)b[i] << (8 * i);
    return r;
}

static int take_text(struct input *in, char **ret, struct err *err)
{
    const unsigned char *b = NULL;
    uint64_t len = 0;
    int r = take_number(in, 2, &len, err);

    if (r == 0 && len > PATH_MAX_BYTES)
        r = err_set(err, ERR_LIMIT, "a path longer than %d bytes", PATH_MAX_BYTES);
    if (r == 0)
        r = take(in, (size_t)len, &b, err);
    if (r < 0)
        return r;
    if (memchr(b, '\0', (size_t)len) != NULL)
        return err_set(err, ERR_INVALID, "a path with a NUL");
    *ret = mem_strndup((const char *)b, (size_t)len);
    return 0;
}

static int compare_to_path(const void *key, const void *element)
{
    const struct entry *e = element;

    return strcmp(key, e->path);
}

/* The directory that holds entry i must stand before it. Neighbours mostly share it. */
static int check_parent(const struct manifest *m, size_t i, struct err *err)
{
    const char *path = m->entries[i].path;
    const char *slash = strrchr(path, '/');
    char parent[PATH_MAX_BYTES + 1];
    const struct entry *found;
    size_t len;

    if (slash == NULL)
        return 0;
    len = (size_t)(slash - path);
    if (i > 0 && m->entries[i - 1].kind != ENTRY_DIR &&
        strncmp(m->entries[i - 1].path, path, len + 1) == 0 &&
        strchr(m->entries[i - 1].path + len + 1, '/') == NULL)
        return 0;
    memcpy(parent, path, len);
    parent[len] = '\0';
    found = bsearch(parent, m->entries, i, sizeof(*m->entries), compare_to_path);
    if (found == NULL || found->kind != ENTRY_DIR)
        return err_set(err, ERR_INVALID, "%s: its directory is not listed", path);
    return 0;
}

static int take_file(struct manifest *m, struct entry *e, struct input *in, struct err *err)
{
    const unsigned char *digest = NULL;
    struct hash empty;
    int r = take_number(in, 8, &e->size, err);

    if (r == 0)
        r = take(in, HASH_BYTES, &digest, err);
    if (r < 0)
        return r;
    memcpy(e->hash.b, digest, HASH_BYTES);
    if (e->size > UINT64_MAX - m->stream_bytes)
        return err_set(err, ERR_INVALID, "%s: sizes overflow", e->path);
    m->stream_bytes += e->size;
    if (e->size > 0)
        return 0;
    empty = sha256_of("", 0);
    if (!hash_equal(&e->hash, &empty))
        return err_set(err, ERR_INVALID, "%s: empty, but its digest is not", e->path);
    return 0;
}

static int take_entry(struct manifest *m, struct input *in, struct err *err)
{
    size_t i = m->nentries;
    struct entry *e = &m->entries[i];
    uint64_t kind = 0, mode = 0;
    int r;

    r = take_number(in, 1, &kind, err);
    if (r == 0)
        r = take_number(in, 2, &mode, err);
    if (r == 0)
        r = take_text(in, &e->path, err);
    if (r < 0)
        return r;
    m->nentries++;
    e->kind = (enum entry_kind)kind;
    e->offset = m->stream_bytes;
    e->mode = (unsigned)mode;
    r = manifest_check_path(e->path, err);
    if (r < 0)
        return r;
    if (mode > 0777)
        return err_set(err, ERR_INVALID, "%s: mode 0%o", e->path, e->mode);
    if (i > 0 && strcmp(m->entries[i - 1].path, e->path) >= 0)
        return err_set(err, ERR_INVALID, "%s: not in path order", e->path);
    r = check_parent(m, i, err);
    if (r < 0)
        return r;
    switch (kind) {
    case ENTRY_FILE:
        return take_file(m, e, in, err);
    case ENTRY_DIR:
        return 0;
    case ENTRY_LINK:
        r = take_text(in, &e->target, err);
        return r < 0 ? r : manifest_check_link(e->path, e->target, err);
    default:
        return err_set(err, ERR_INVALID, "%s: unknown kind %u", e->path, (unsigned)kind);
    }
}

static int take_body(struct manifest *m, struct input *in, size_t nentries, uint64_t stream_bytes,
                     size_t nsegments, struct err *err)
{
    const unsigned char *digests = NULL;
    int r = 0;

    if (nentries > in->left / ENTRY_LEAST || nsegments > in->left / HASH_BYTES)
        return err_set(err, ERR_INVALID, "claims %zu entries and %zu segments in %zu bytes",
                       nentries, nsegments, in->left);
    if (nentries > 0)
        m->entries = mem_calloc(nentries, sizeof(*m->entries));
    while (r == 0 && m->nentries < nentries)
        r = take_entry(m, in, err);
    if (r < 0)
        return r;
    if (m->stream_bytes != stream_bytes)
        return err_set(err, ERR_INVALID, "files have %llu bytes, the stream %llu",
                       (unsigned long long)m->stream_bytes, (unsigned long long)stream_bytes);
    if (stream_bytes / SEGMENT_BYTES + (stream_bytes % SEGMENT_BYTES > 0) != nsegments)
        return err_set(err, ERR_INVALID, "%llu bytes are not %zu segments",
                       (unsigned long long)stream_bytes, nsegments);
    r = take(in, nsegments * HASH_BYTES, &digests, err);
    if (r == 0 && in->left > 0)
        r = err_set(err, ERR_INVALID, "%zu bytes left over", in->left);
    if (r < 0)
        return r;
    m->nsegments = nsegments;
    if (nsegments > 0)
        m->segments = mem_dup(digests, nsegments * HASH_BYTES);
    return 0;
}

int manifest_parse(struct manifest **ret, const void *data, size_t len, struct err *err)
{
    struct input in = { data, len };
    const unsigned char *magic = NULL;
    uint64_t nentries = 0, stream_bytes = 0, nsegments = 0;
    struct manifest *m;

    if (len > MANIFEST_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "manifest: larger than %d bytes", MANIFEST_MAX_BYTES);
    if (len < HEAD_BYTES)
        return err_set(err, ERR_INVALID, "manifest: ends after %zu bytes", len);
    if (take(&in, 4, &magic, err) == 0 && memcmp(magic, "SLM1", 4) == 0)
        return err_set(err, ERR_INVALID,
                       "manifest: of the older format SLM1, only SLM2 is read: publish it anew");
    if (magic == NULL || memcmp(magic, "SLM2", 4) != 0)
        return err_set(err, ERR_INVALID, "manifest: does not begin with SLM2");
    if (take_number(&in, 4, &nentries, err) < 0 || take_number(&in, 8, &stream_bytes, err) < 0 ||
        take_number(&in, 4, &nsegments, err) < 0)
        return err_wrap(err, "manifest");
    if (nentries > MANIFEST_ENTRIES_MAX)
        return err_set(err, ERR_LIMIT, "manifest: %llu entries, at most %d may be",
                       (unsigned long long)nentries, MANIFEST_ENTRIES_MAX);
    m = mem_alloc(sizeof(*m));
    if (take_body(m, &in, (size_t)nentries, stream_bytes, (size_t)nsegments, err) < 0) {
        manifest_free(m);
        return err_wrap(err, "manifest");
    }
    *ret = m;
    return 0;
}

void manifest_free(struct manifest *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->nentries; i++) {
        free(m->entries[i].path);
        free(m->entries[i].target);
    }
    free(m->entries);
    free(m->segments);
    free(m);
}
