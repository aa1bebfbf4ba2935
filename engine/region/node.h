/* node.h - the inside of a region node (region.h): what its parts share.
 *
 *   node.c     makes and ends it, saves, keeps time     uplink.c   the link to the control plane
 *   agents.c   the agents' links: who they are, what    relay.c    documents and sources to agents
 *              they report, slots                       swarms.c   the tracker of each pack
 *
 * Everything runs on the loop's thread. */
#ifndef REGION_NODE_H
#define REGION_NODE_H

#include "io/link.h"
#include "region/docs.h"
#include "region/leases.h"
#include "region/machines.h"
#include "region/region.h"
#include "region/replicas.h"
#include "region/sent.h"
#include "region/state.h"
#include "store/exchange.h"
#include "swarm/tracker.h"

enum {
    REGION_JOINS_MAX = 256,    /* packs that one machine may be in the swarm of */
    REGION_SOURCES_KEPT = 512, /* remembered per session as sent */
};

struct region {
    struct loop *loop;
    struct work_pool *pool;
    char *name, *data, *control_host;
    int control_port, lock_fd;
    uint64_t seed;
    struct link_identity *identity;
    struct link_listener *listener;
    struct store *origin, *own;

    struct docs *docs;
    struct machines *machines;
    struct leases *leases;
    struct replicas *replicas;
    struct exchange *exchange;
    struct map swarms; /* hex of a pack -> struct swarm */
    struct sent *sent;
    struct list sessions;

    struct link *up; /* NULL: not even trying now */
    bool up_open;
    int up_attempts;
    struct timer up_retry, counts_timer, peers_timer, tick;
    int64_t counts_ms; /* when COUNTS were last looked at */

    struct state *state;
    struct state_batch *saving;
    struct work save_work;
    bool save_busy;
    int save_status;
    struct err save_err;
    int64_t save_after_ms; /* after a failure */
    int64_t sweep_ms, up_since_ms;
    struct timer sweep;
    int64_t ticked_ms; /* when machines were last looked at */

    bool closing, closing_posted, saved_last;
    void (*closed)(void *arg);
    void *closed_arg;
};

struct sent_goal {
    char *service;
    uint64_t generation;
};

struct sent_source {
    struct hash release;
    struct hash digest; /* of the SOURCES; zero: only the release was sent */
};

/* The link of one machine. */
struct session {
    struct region *r;
    struct link *link;
    struct machine *machine; /* NULL until its MACHINE */
    struct list node;
    bool closing;
    bool refused; /* it told absurd figures */
    bool behind;  /* its buffer was full: tell it everything again when it has drained */
    uint64_t trust_version;
    struct sent_goal *goals;
    size_t ngoals, goals_cap;
    struct sent_source *sources;
    size_t nsources, sources_cap;
    struct hash *joined; /* packs in whose swarm it is */
    size_t njoined, joined_cap;
};

/* node.c */
void node_save(struct region *r);      /* now, not at the next tick: a goal, a lease */
void node_link_gone(struct region *r); /* one link less; when closing, maybe the last */

/* uplink.c */
void uplink_start(struct region *r);
void uplink_stop(struct region *r);
void uplink_replica(struct region *r, struct replica *replica);
void uplink_counts_soon(struct region *r); /* something countable has changed */
void uplink_runs(struct region *r);        /* of the services whose histogram has changed */

/* agents.c */
extern const struct link_handler agents_handler;
void agents_close(struct region *r, enum err_code code, const char *why);
void agents_refuse_denied(struct region *r); /* after a new trust document */
void agents_grant(struct region *r);         /* tells who has been granted a slot */
/* Sends; a full buffer makes the session `behind`. False: not sent. */
bool session_send(struct session *s, enum msg_type type, const void *msg);
void session_close(struct session *s, enum err_code code, const char *why);
struct session *session_of(const struct machine *m); /* or NULL */

/* relay.c */
void relay_machine(struct session *s);                            /* everything that concerns it */
void relay_goal(struct region *r, const struct doc_goal *g);      /* to all that it concerns */
void relay_release(struct region *r, const struct hash *release); /* it came after its goal */
void relay_artifact(struct region *r, const struct hash *artifact); /* a pack of it is complete */
void relay_trust(struct region *r);

/* swarms.c */
void swarms_join(struct session *s, const struct msg_join *m);
void swarms_leave(struct session *s, const struct msg_leave *m);
void swarms_lost(struct session *s);
void swarms_moved(struct session *s); /* it is reached elsewhere now */
void swarms_again(struct session *s); /* tell it its peers again */
void swarms_tick(struct region *r);
void swarms_free(struct region *r);

#endif
