#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void format(struct err *err, const char *fmt, va_list args)
{
    vsnprintf(err->text, sizeof(err->text), fmt, args);
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list args;

    if (err == NULL)
        return -(int)code;
    err->code = code;
    err->os_errno = 0;
    va_start(args, fmt);
    format(err, fmt, args);
    va_end(args);
    return -(int)code;
}

static enum err_code code_of_errno(int os_errno)
{
    switch (os_errno) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return ERR_UNREACHABLE;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    default:
        return ERR_IO;
    }
}

int err_sys(struct err *err, int os_errno, const char *fmt, ...)
{
    enum err_code code = code_of_errno(os_errno);
    va_list args;
    size_t len;

    if (err == NULL)
        return -(int)code;
    err->code = code;
    err->os_errno = os_errno;
    va_start(args, fmt);
    format(err, fmt, args);
    va_end(args);
    len = strlen(err->text);
    snprintf(err->text + len, sizeof(err->text) - len, ": %s", strerror(os_errno));
    return -(int)code;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char old[sizeof(err->text)];
    va_list args;
    size_t len;

    if (err == NULL)
        return -(int)ERR_INTERNAL;
    memcpy(old, err->text, sizeof(old));
    va_start(args, fmt);
    format(err, fmt, args);
    va_end(args);
    len = strlen(err->text);
    snprintf(err->text + len, sizeof(err->text) - len, ": %s", old);
    return -(int)err->code;
}

const char *err_name(enum err_code code)
{
    static const char *const names[] = {
        [ERR_NONE] = "none",           [ERR_IO] = "io",
        [ERR_NO_SPACE] = "no_space",   [ERR_NOT_FOUND] = "not_found",
        [ERR_EXISTS] = "exists",       [ERR_INVALID] = "invalid",
        [ERR_CORRUPT] = "corrupt",     [ERR_LIMIT] = "limit",
        [ERR_AGAIN] = "again",         [ERR_TIMEOUT] = "timeout",
        [ERR_DENIED] = "denied",       [ERR_FENCED] = "fenced",
        [ERR_CONFLICT] = "conflict",   [ERR_UNREACHABLE] = "unreachable",
        [ERR_CANCELLED] = "cancelled", [ERR_POLICY] = "policy",
        [ERR_BUILD] = "build",         [ERR_INTERNAL] = "internal",
    };

    if ((size_t)code >= sizeof(names) / sizeof(names[0]))
        return "unknown";
    return names[code];
}
