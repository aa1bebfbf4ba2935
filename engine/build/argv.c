#include "build/argv.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

static void take(struct argv *a, char *text)
{
    if (a->count + 1 >= a->cap) {
        a->cap = a->cap == 0 ? 16 : a->cap * 2;
        a->items = mem_realloc(a->items, a->cap * sizeof(*a->items));
    }
    a->items[a->count++] = text;
    a->items[a->count] = NULL;
}

void argv_add(struct argv *a, const char *text)
{
    take(a, mem_strdup(text));
}

void argv_addf(struct argv *a, const char *fmt, ...)
{
    AUTO_BUF text = BUF_INIT;
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    take(a, buf_steal(&text));
}

void argv_add_all(struct argv *a, char *const *list)
{
    for (; list != NULL && *list != NULL; list++)
        argv_add(a, *list);
}

void argv_set_env(struct argv *a, const char *pair)
{
    size_t len = strcspn(pair, "=") + 1;

    for (size_t i = 0; i < a->count; i++) {
        if (strncmp(a->items[i], pair, len) == 0) {
            free(a->items[i]);
            a->items[i] = mem_strdup(pair);
            return;
        }
    }
    argv_add(a, pair);
}

void argv_pass_env(struct argv *a, const char *name)
{
    const char *value = getenv(name);

    if (value != NULL)
        argv_addf(a, "%s=%s", name, value);
}

void argv_release(struct argv *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->items[i]);
    free(a->items);
    *a = (struct argv)ARGV_INIT;
}
