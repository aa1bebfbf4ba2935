/* pack_costs.h - what a pack says of itself, without its base: segments by kind, and which files its
 * bytes go to (delta/costs.h).
 *
 * Of what kind a file is can be told where a segment of its own frame holds it. Reads the table, the
 * covers, and those segments of the dearest files. */
#ifndef STORE_PACK_COSTS_H
#define STORE_PACK_COSTS_H

#include "delta/encode.h"
#include "store/pack_source.h"

/* Fills what is known of ret: segments, payload_bytes, covers, covers_bytes, groups,
 * predicted_groups and top; in a full pack, top has no reasons but COST_PACKED. pack: base and
 * base_files are not needed. -ERR_INVALID, -ERR_CORRUPT: malformed. */
MUST_CHECK int pack_costs(struct delta_stats *ret, const struct pack_description *pack,
                          struct err *err);

#endif
