#include "expand.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char *value_of(const struct variable *vars, size_t n, const char *name, size_t len)
{
    for (size_t i = 0; i < n; i++) {
        if (strlen(vars[i].name) == len && memcmp(vars[i].name, name, len) == 0)
            return vars[i].value;
    }
    return NULL;
}

/* The value of the "${NAME}" that text starts with, and how long that is; NULL: it is none. */
static const char *variable_at(const char *text, const struct variable *vars, size_t n,
                               size_t *ret_len)
{
    const char *end = text[1] == '{' ? strchr(text, '}') : NULL;

    if (end == NULL)
        return NULL;
    *ret_len = (size_t)(end + 1 - text);
    return value_of(vars, n, text + 2, (size_t)(end - text - 2));
}

int expand(struct buf *out, const char *text, const struct variable *vars, size_t n,
           struct err *err)
{
    size_t start = out->len;

    buf_reserve(out, 1);
    out->data[out->len] = '\0';
    while (*text != '\0') {
        size_t len = strcspn(text, "$");
        const char *value = NULL;

        if (len == 0)
            value = variable_at(text, vars, n, &len);
        if (value != NULL)
            buf_str_append(out, value);
        else
            buf_append(out, text, len = len == 0 || *text == '$' ? 1 : len);
        text += len;
        if (out->len - start > EXPAND_MAX_BYTES)
            return err_set(err, ERR_LIMIT, "longer than %d bytes", EXPAND_MAX_BYTES);
    }
    return 0;
}

int expand_argv(char ***ret, char *const *argv, const struct variable *vars, size_t n,
                struct err *err)
{
    size_t count = 0;
    char **out;

    while (argv[count] != NULL)
        count++;
    out = mem_calloc(count + 1, sizeof(*out));
    for (size_t i = 0; i < count; i++) {
        struct buf text = BUF_INIT;

        if (expand(&text, argv[i], vars, n, err) < 0) {
            buf_release(&text);
            argv_free(out);
            return err_wrap(err, "argument %zu", i);
        }
        out[i] = buf_steal(&text);
    }
    *ret = out;
    return 0;
}

void argv_free(char **argv)
{
    for (size_t i = 0; argv != NULL && argv[i] != NULL; i++)
        free(argv[i]);
    free(argv);
}
