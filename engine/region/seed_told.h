/* seed_told.h - what the machines of a seed's swarm tell of their fetches, and how often its artifact was sent.
 *
 * Of each machine the last that it told, also when it is gone: so a machine that comes back counts once.
 * What is absurd is refused (swarm/figures.h). At most SEED_MACHINES_MAX machines. Pure. */
#ifndef REGION_SEED_TOLD_H
#define REGION_SEED_TOLD_H

#include "base/buf.h"
#include "wire/msg.h"

struct seed_told;

/* The pack, and its size. */
struct seed_told *seed_told_new(const struct hash *pack, uint64_t bytes);
void seed_told_free(struct seed_told *t); /* NULL is fine */

void seed_told_take(struct seed_told *t, const char *machine, const struct msg_progress *m);

/* "2.1 copies; 16 machines have it: p50 1.03, p99 1.09, max 1.12 x size/rate" */
void seed_told_text(const struct seed_told *t, uint64_t sent_bytes, struct buf *out);
/* "swarm":{…} as the API has it (rollout/swarm_json.h) */
void seed_told_json(const struct seed_told *t, uint64_t sent_bytes, struct buf *out);

#endif
