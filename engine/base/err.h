/* err.h - what went wrong, told once and carried upward.
 *
 * A function that can fail returns 0 or a negative `enum err_code` and fills the caller's `struct
 * err` where the failure happens. Each caller that passes it on may put what it was doing in front:
 *
 *     if (store_get(...) < 0)
 *         return err_wrap(err, "stage %s", service);     -> "stage web: open blobs/9a: permission
 * denied"
 *
 * It is logged once, at the top. Every function takes err == NULL for "not interested". */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* Codes name what the caller can do about it, not where it came from. */
enum err_code {
    ERR_NONE = 0,
    ERR_IO,          /* the operating system refused; os_errno says how */
    ERR_NO_SPACE,    /* disk full or over quota: free some, then retry */
    ERR_NOT_FOUND,   /* no such thing */
    ERR_EXISTS,      /* there is one already */
    ERR_INVALID,     /* malformed input from outside, or a wrong argument of a user */
    ERR_CORRUPT,     /* bytes do not match their digest or checksum */
    ERR_LIMIT,       /* over a named limit */
    ERR_AGAIN,       /* busy or full now: retry later */
    ERR_TIMEOUT,     /* a deadline passed */
    ERR_DENIED,      /* identity or permission: wrong certificate, key, token, role */
    ERR_FENCED,      /* somebody else owns it now: stop */
    ERR_CONFLICT,    /* a concurrent change won; re-read and decide again */
    ERR_UNREACHABLE, /* a peer, server or database cannot be reached */
    ERR_CANCELLED,   /* stopped on request */
    ERR_POLICY,      /* the policy's Lua is wrong; text starts with file:line */
    ERR_BUILD,       /* the build itself failed (its fault, not ours) */
    ERR_INTERNAL,    /* our own bug, or out of memory */
};

struct err {
    enum err_code code;
    int os_errno; /* 0 if the operating system was not involved */
    char text[508];
};

#define ERR_INIT     \
    {                \
        ERR_NONE, 0, \
        {            \
            0        \
        }            \
    }

/* Sets code and text; returns -code. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As err_set(), for a failed system call: appends ": " and the errno's words, and maps ENOSPC and
 * EDQUOT to ERR_NO_SPACE, ENOENT to ERR_NOT_FOUND, EEXIST to ERR_EXISTS, others to ERR_IO. */
int err_sys(struct err *err, int os_errno, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "doing what: " in front of the text. Returns -err->code (-ERR_INTERNAL if err is NULL). */
int err_wrap(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The code's stable name, e.g. "not_found": for JSON and logs. */
const char *err_name(enum err_code code);

#endif
