/* json.h - reading JSON that came from outside: each getter names the field when it is wrong.
 *
 *     if (json_get_text(obj, "service", NAME_MAX_BYTES, &s, err) < 0) ... "service: missing" / "not
 * a text"
 *
 * Values are borrowed from obj. A getter with _or takes a default for a missing (or null) field. */
#ifndef WIRE_JSON_H
#define WIRE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"

#define AUTO_JSON __attribute__((cleanup(json_release_pointer))) json_t

void json_release_pointer(json_t **json); /* for AUTO_JSON */

/* Parses exactly one value; duplicate keys are refused; depth is bounded by jansson. Gives *ret. */
MUST_CHECK int json_parse(json_t **ret, const char *text, size_t len, struct err *err);

/* Compact, keys sorted: the same value is always the same text. Gives the text. */
char *json_text(const json_t *json);

MUST_CHECK int json_get_text(const json_t *obj, const char *key, size_t max, const char **ret,
                             struct err *err);
MUST_CHECK int json_get_text_or(const json_t *obj, const char *key, size_t max, const char *def,
                                const char **ret, struct err *err);
MUST_CHECK int json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max,
                            int64_t *ret, struct err *err);
MUST_CHECK int json_get_int_or(const json_t *obj, const char *key, int64_t min, int64_t max,
                               int64_t def, int64_t *ret, struct err *err);
MUST_CHECK int json_get_bool_or(const json_t *obj, const char *key, bool def, bool *ret,
                                struct err *err);
MUST_CHECK int json_get_hash(const json_t *obj, const char *key, struct hash *ret, struct err *err);
MUST_CHECK int json_get_hash_or_zero(const json_t *obj, const char *key, struct hash *ret,
                                     struct err *err);
MUST_CHECK int json_get_object(const json_t *obj, const char *key, const json_t **ret,
                               struct err *err);
MUST_CHECK int json_get_array(const json_t *obj, const char *key, size_t max, const json_t **ret,
                              struct err *err);

/* Refuses keys that are not in the NULL-ended list: "unknown field 'x' (did you mean 'y'?)". */
MUST_CHECK int json_only(const json_t *obj, const char *const known[], struct err *err);

json_t *json_hash(const struct hash *h); /* gives a text of 64 digits */

#endif
