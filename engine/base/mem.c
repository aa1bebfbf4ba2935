#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_die(void *p)
{
    if (p != NULL)
        return p;
    fputs("fatal: out of memory\n", stderr);
    _Exit(1);
}

void *mem_alloc(size_t bytes)
{
    return or_die(calloc(1, bytes == 0 ? 1 : bytes));
}

void *mem_calloc(size_t count, size_t size)
{
    return or_die(calloc(count == 0 ? 1 : count, size == 0 ? 1 : size));
}

void *mem_realloc(void *old, size_t bytes)
{
    return or_die(realloc(old, bytes == 0 ? 1 : bytes));
}

char *mem_strndup(const char *s, size_t len)
{
    char *copy = mem_alloc(len + 1);

    memcpy(copy, s, len);
    return copy;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

void *mem_dup(const void *data, size_t bytes)
{
    void *copy = mem_alloc(bytes);

    if (bytes > 0)
        memcpy(copy, data, bytes);
    return copy;
}

char *mem_printf(const char *fmt, ...)
{
    va_list args;
    char *text = NULL;
    int len;

    va_start(args, fmt);
    len = vasprintf(&text, fmt, args);
    va_end(args);
    return or_die(len < 0 ? NULL : text);
}
