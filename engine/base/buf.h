/* buf.h - a growing byte string. data[len] is always a NUL, so buf.data is usable as C text.
 *
 *     struct buf b = BUF_INIT;
 *     buf_printf(&b, "%s/%s", dir, name);
 *     ... b.data, b.len ...
 *     buf_release(&b);
 *
 * Never fails (see mem.h); whoever fills it from outside checks a limit first. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>

struct buf {
    char *data; /* never NULL after the first append; buf_str() for a sure NUL-ended text */
    size_t len;
    size_t cap;
};

#define BUF_INIT   \
    {              \
        NULL, 0, 0 \
    }
#define AUTO_BUF __attribute__((cleanup(buf_release))) struct buf
#define AUTO_FREE __attribute__((cleanup(buf_free_pointer)))

void buf_release(struct buf *b);              /* frees, and makes it empty and usable again */
void buf_reset(struct buf *b);                /* len = 0, keeps the memory */
void buf_reserve(struct buf *b, size_t more); /* room for `more` bytes behind len */
void buf_append(struct buf *b, const void *data, size_t len);
void buf_str_append(struct buf *b, const char *s);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list args);
void buf_consume(struct buf *b, size_t len);     /* drops the first len bytes */
const char *buf_str(const struct buf *b);        /* borrows; "" if empty */
char *buf_steal(struct buf *b);                  /* gives the memory; b is empty then */
void buf_free_pointer(void *pointer_to_pointer); /* for AUTO_FREE */

#endif
