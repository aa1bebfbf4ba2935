/* sent.h - what this region node has sent of each pack, by the deployment that it was for.
 *
 * The exchange counts the bytes of a pack from when it was opened in this process. Here they are taken
 * over as they grow: a pack's bytes are a deployment's from when the control plane first asked for the
 * deployment's packs (REPLICATE) on, for as long as the goal is that deployment's. So what an earlier
 * deployment of the same pack has cost is not in it, and neither is what a later one costs.
 *
 *     sent_expect(s, deployment, pack)        each pack of a REPLICATE, new or again
 *     sent_look(s, deployment, true)          now and then, and before it is told
 *     sent_take(s, deployment, &packs)        what to tell
 *     sent_unsaved(s, &counts)                what to save; sent_restore() when the process starts again
 *
 * Killed in between, the node forgets what it sent since it last saved. Pure; of SENT_DEPLOYMENTS_MAX
 * deployments the oldest is forgotten, and of more than PACKS_MAX packs the last ones. */
#ifndef REGION_SENT_H
#define REGION_SENT_H

#include "wire/msg.h"

enum { SENT_DEPLOYMENTS_MAX = 2048 };

struct sent;

struct sent_counter {
    uint64_t (*given)(void *ctx, const struct hash *pack); /* since it was opened */
    uint64_t (*bytes)(void *ctx, const struct hash *pack); /* its size; 0: not known yet */
    void *ctx;
};

struct sent *sent_new(const struct sent_counter *source);
void sent_free(struct sent *s); /* NULL is fine */

void sent_expect(struct sent *s, const char *deployment, const struct hash *pack);
/* counts: false: what is sent now is another deployment's. */
void sent_look(struct sent *s, const char *deployment, bool counts);
/* struct msg_pack_sent, of packs of which something was sent; gives the items. */
void sent_take(const struct sent *s, const char *deployment, struct list_of *ret);

/* Takes one deployment of which something was sent since it was last saved: a COUNTS with its name and a
 * swarm of packs alone, to be released by its codec. False: none. */
bool sent_unsaved(struct sent *s, struct msg_counts *ret);
void sent_restore(struct sent *s, const struct msg_counts *saved);

#endif
