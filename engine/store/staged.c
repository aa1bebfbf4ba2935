#include "store/staged.h"

#include <fcntl.h>
#include <unistd.h>

#include "io/files.h"
#include "store/tree.h"

/* Bytes of the span that are in the file, or a hole's; data NULL: only asks for *ret_touched. */
static bool read_span(const struct staged *s, size_t k, const struct span *span,
                      unsigned char *data, bool *ret_touched)
{
    int fd = -1;
    bool there = false;
    off_t found;

    if (tree_open_beneath(&fd, s->tree_fd, s->m->entries[k].path, O_RDONLY | O_NONBLOCK, 0, NULL) <
        0)
        return false;
    found = lseek(fd, (off_t)span->in_file, SEEK_DATA);
    if (found >= 0 && (uint64_t)found < span->in_file + span->len && !bitmap_get(s->local, k))
        *ret_touched = true;
    if (data != NULL)
        there = fd_read_at(fd, data + span->in_segment, span->len, span->in_file, NULL) == 0;
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

bool staged_holds(const struct staged *s, size_t i, unsigned char *data, bool *ret_touched)
{
    struct hash h;

    (void)read_back(s, i, NULL, ret_touched);
    if (!*ret_touched && !hash_equal(&s->m->segments[i], &s->zeros))
        return false;
    if (!read_back(s, i, data, ret_touched))
        return false;
    h = sha256_of(data, manifest_segment_bytes(s->m, i));
    return hash_equal(&h, &s->m->segments[i]);
}
