/* bundle.h - the inside of a bundle, for this folder alone; the outside is in policy.h. */
#ifndef POLICY_BUNDLE_H
#define POLICY_BUNDLE_H

#include "policy/policy.h"

enum { BUNDLE_NAME_MAX = 128 };

/* The text of that file, NULL if the bundle has none; len may be NULL. Borrows. */
const char *bundle_file(const struct bundle *b, const char *name, size_t *len);

/* "a.b" becomes "a/b.lua". False if the name is not letters, digits, "-", "_" between dots. */
bool bundle_module_file(const char *module, char out[BUNDLE_NAME_MAX]);

#endif
