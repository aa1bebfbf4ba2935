/* check.h - what cmocka needs, and assertions about struct err.
 *
 *     struct err err = ERR_INIT;
 *     assert_ok(store_put(s, ..., &err), &err);                              prints err.text if not
 *     assert_error(store_get(s, ..., &err), ERR_CORRUPT, &err, "leaf 3");    code and part of the
 * text
 */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

/* cmocka.h relies on these. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/err.h"

static inline void check_ok(int result, const struct err *err, const char *call, const char *file,
                            int line)
{
    if (result >= 0)
        return;
    print_error("%s: %s: %s\n", call, err_name(err->code), err->text);
    _fail(file, line);
}

static inline void check_error(int result, enum err_code code, const struct err *err,
                               const char *part, const char *call, const char *file, int line)
{
    if (result == -(int)code && err->code == code && strstr(err->text, part) != NULL)
        return;
    print_error("%s: wanted %s with \"%s\"; got %d, %s: %s\n", call, err_name(code), part, result,
                err_name(err->code), err->text);
    _fail(file, line);
}

#define assert_ok(call, err) check_ok((call), (err), #call, __FILE__, __LINE__)
#define assert_error(call, code, err, part) \
    check_error((call), (code), (err), (part), #call, __FILE__, __LINE__)

#endif
