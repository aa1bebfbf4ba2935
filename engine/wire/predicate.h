/* predicate.h - which machines: data that Lua policies write, the control plane signs and C
 * compares.
 *
 * JSON:  {}                                every machine
 *        {"label":K,"is":V}                label K is V
 *        {"label":K,"in":[V,…]}            label K is one of them
 *        {"label":K,"exists":true|false}
 *        {"all":[P,…]} {"any":[P,…]} {"none":[P,…]}
 * The labels "region" and "machine" (its id) are always there and cannot be set by a machine.
 * Depth at most 8, at most 256 nodes, text at most 64 KiB. */
#ifndef WIRE_PREDICATE_H
#define WIRE_PREDICATE_H

#include <stdbool.h>

#include "base/err.h"
#include "wire/json.h"

struct label {
    const char *key, *value;
};

struct predicate;

MUST_CHECK int predicate_parse(struct predicate **ret, const char *json, struct err *err);
MUST_CHECK int predicate_from_json(struct predicate **ret, const json_t *json, struct err *err);
void predicate_free(struct predicate *p);

bool predicate_match(const struct predicate *p, const struct label *labels, size_t count);

/* The variant rule: {} is the variant "default"; {"by_label":K} is the value of label K;
 * {"by_label":K,"map":{V:NAME,…}} translates it. Returns NULL if the machine has none; else a
 * borrow from rule or labels. */
MUST_CHECK int variant_check(const json_t *rule, struct err *err); /* is it one of these? */
const char *variant_of(const json_t *rule, const struct label *labels, size_t count);

#endif
