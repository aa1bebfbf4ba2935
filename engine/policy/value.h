/* value.h - Lua values to JSON and back.
 *
 * What may leave a policy: texts (UTF-8, no NUL), booleans, integers, finite floats, and tables of
 * these: a list has the keys 1..n, an object has texts as keys, and an empty table is {} (whoever
 * expects a list takes {} for an empty one: shape.c). An integer stays an integer, a float a float.
 * A cycle is over the depth limit. */
#ifndef POLICY_VALUE_H
#define POLICY_VALUE_H

#include <lua.h>

#include "base/err.h"
#include "wire/json.h"

enum { VALUE_DEPTH_MAX = 16, VALUE_ITEMS_MAX = 20000, VALUE_BYTES_MAX = 1 << 20 };

/* Never raises. path is what the error names: "activate.start[2]: a function cannot be …".
 * -ERR_POLICY. Gives *ret. */
MUST_CHECK int value_to_json(json_t **ret, lua_State *L, int index, const char *path,
                             struct err *err);

/* Pushes it; null is nil, so a field that is null is absent. Raises when memory runs out. */
void value_push(lua_State *L, const json_t *json);

#endif
