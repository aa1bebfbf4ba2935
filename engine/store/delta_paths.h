/* delta_paths.h - are the paths that a person gave to `engine delta` what they have to be?
 *
 * Asked before hours are spent: errors begin with the operand's name as the usage has it, and say
 * what to do. */
#ifndef STORE_DELTA_PATHS_H
#define STORE_DELTA_PATHS_H

#include "base/err.h"

/* May a new file PACK be made (or replaced) from base (NULL: none) and target? -ERR_NOT_FOUND: base,
 * target, or the directory of PACK is missing. -ERR_INVALID: PACK is there and no regular file, is
 * base or target, or lies inside one of them. -ERR_DENIED: its directory cannot be written. */
MUST_CHECK int delta_paths_make(const char *base, const char *target, const char *pack,
                                struct err *err);

/* May OUT be made from base (NULL: none) and PACK? Whether it is there already is not asked.
 * -ERR_INVALID: OUT is base or lies inside it; base or PACK lies in OUT.part. */
MUST_CHECK int delta_paths_apply(const char *base, const char *pack, const char *out,
                                 struct err *err);

#endif
