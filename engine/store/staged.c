#include "store/staged.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/files.h"
#include "store/tree.h"

/* Runs of zeros are not written: a file may be shorter than it will be, and what lies behind its end
 * is a hole. Its last byte is always written. */
static bool read_written(int fd, const struct entry *e, const struct span *span, unsigned char *out)
{
    uint64_t end = span->in_file + span->len;
    size_t len = span->len;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return false;
    if ((uint64_t)st.st_size < end) {
        if (end == e->size)
            return false;
        len = (uint64_t)st.st_size > span->in_file ? (size_t)((uint64_t)st.st_size - span->in_file)
                                                   : 0;
        memset(out + len, 0, span->len - len);
    }
    return len == 0 || fd_read_at(fd, out, len, span->in_file, NULL) == 0;
}

/* Bytes of the span that are in the file, or a hole's; data NULL: only asks for *ret_touched. */
static bool read_span(const struct staged *s, size_t k, const struct span *span,
                      unsigned char *data, bool *ret_touched)
{
    const struct entry *e = &s->m->entries[k];
    int fd = -1;
    bool there = false;
    off_t found;

    if (tree_open_beneath(&fd, s->tree_fd, e->path, O_RDONLY | O_NONBLOCK, 0, NULL) < 0)
        return false;
    found = lseek(fd, (off_t)span->in_file, SEEK_DATA);
    if (found >= 0 && (uint64_t)found < span->in_file + span->len && !bitmap_get(s->local, k))
        *ret_touched = true;
    if (data != NULL)
        there = read_written(fd, e, span, data + span->in_segment);
    close(fd);
    return there;
}

static bool read_back(const struct staged *s, size_t i, unsigned char *data, bool *ret_touched)
{
    uint64_t end = (uint64_t)i * SEGMENT_BYTES + manifest_segment_bytes(s->m, i);
    struct span span;
    bool whole = true;

    *ret_touched = false;
    for (size_t k = manifest_first_file(s->m, i); k < s->m->nentries; k++) {
        if (s->m->entries[k].offset >= end)
            break;
        if (manifest_span(s->m, i, k, &span) && !read_span(s, k, &span, data, ret_touched))
            whole = false;
    }
    return whole;
}

bool staged_holds(const struct staged *s, size_t i, bool said, unsigned char *data,
                  bool *ret_touched)
{
    struct hash h;

    (void)read_back(s, i, NULL, ret_touched);
    if (!said && !*ret_touched && !hash_equal(&s->m->segments[i], &s->zeros))
        return false;
    if (!read_back(s, i, data, ret_touched))
        return false;
    h = merkle_segment(data, manifest_segment_bytes(s->m, i));
    return hash_equal(&h, &s->m->segments[i]);
}
