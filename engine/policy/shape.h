/* shape.h - checking a table that Lua wrote against a list of fields, and filling in defaults.
 *
 * Each error names the file and the way to the field: "web.lua: activate.start: must be a list of
 * texts". An unknown field is refused, with the name that was probably meant. */
#ifndef POLICY_SHAPE_H
#define POLICY_SHAPE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "wire/json.h"

enum {
    SHAPE_TEXT_MAX = 4096,
    SHAPE_SCRIPT_MAX = 32 << 10, /* an element of a list: it may be a shell script */
    SHAPE_LIST_MAX = 256,
    SHAPE_SECONDS_MAX = 30 * 24 * 3600,
};

enum shape_kind {
    SHAPE_NONE = 0,
    SHAPE_TEXT,         /* min, max: bytes (max 0: SHAPE_TEXT_MAX) */
    SHAPE_TEXTS,        /* a list; min, max: elements (max 0: SHAPE_LIST_MAX) */
    SHAPE_TEXT_MAP,     /* text to text; max as above */
    SHAPE_INTEGER,      /* min, max */
    SHAPE_BOOLEAN,      /* */
    SHAPE_SECONDS,      /* a Duration; min, max in seconds (max 0: 30 days) */
    SHAPE_MILLISECONDS, /* a Duration; min, max in ms; stored under `as` */
    SHAPE_CHOICE,       /* one of choices */
    SHAPE_RAW,          /* copied as it is: the caller looks at it */
};

struct shape {
    const char *name;
    enum shape_kind kind;
    bool required;
    int64_t min, max;
    const char *def;            /* the default as JSON; NULL: the field stays absent */
    const char *const *choices; /* NULL-ended */
    const char *as;             /* the name in the result; NULL: the same */
};

/* Where a check stands. */
struct check {
    struct buf path; /* "web.lua: activate.start"; starts as "web.lua: " */
    size_t root;     /* length of "web.lua: " */
    struct err *err;
};

void check_init(struct check *c, const char *file, struct err *err);
void check_release(struct check *c);

/* Adds a field's name, or an index if name is NULL; returns the mark for check_leave(). */
size_t check_enter(struct check *c, const char *name, size_t index);
void check_leave(struct check *c, size_t mark);

/* "PATH: why"; returns -ERR_POLICY. */
int check_fail(struct check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The value must be an object (an empty list counts). Gives *ret: every field checked, defaults
 * filled in; NULL on error. fields ends with a NULL name. */
MUST_CHECK int shape_check(struct check *c, const json_t *value, const struct shape *fields,
                           json_t **ret);

/* The value must be a list (an empty object counts) of min to max elements. */
MUST_CHECK int shape_list(struct check *c, const json_t *value, size_t min, size_t max);

/* "1h30m", "90s", "200ms" or whole seconds to ms. False if it is none of these. */
bool duration_ms(const json_t *value, int64_t *ms);

#endif
