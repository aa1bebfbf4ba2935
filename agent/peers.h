/* peers.h - links to other machines, for the exchange of pieces.
 *
 * The region node names for each pack the machines that we should be connected to. There is one link
 * between two machines: the one with the lesser id opens it, the other only if that does not come in
 * time. Who opens a second one though the first has long been open has lost the first, whose end did not
 * come: the new one takes its place. Links that we opened and that no pack needs any more are dropped. Peers
 * are not trusted: their certificate must be of our cluster, of role agent and of the id we were told;
 * whatever they send is checked by the exchange. */
#ifndef AGENT_PEERS_H
#define AGENT_PEERS_H

#include "goals.h"
#include "io/link.h"
#include "store/exchange.h"

enum {
    PEERS_LINKS_MAX = 128, /* accepted */
    PEERS_RETRY_MS = 2000, /* between looks at who is missing */
    PEERS_FAILS_MAX = 3,   /* then it is left alone until the tracker names it anew */
    PEERS_TURN_MS = 1000,  /* that the machine with the greater id waits for the other to connect */
    PEERS_MUTE_MS = 5000,  /* open so long, and nothing said of the pack: of no use */
};

struct peers_options {
    struct loop *loop;
    struct link_identity *self;
    struct exchange *exchange;
    const char *listen;        /* ADDR:PORT */
    const struct goals *goals; /* whose deny list counts here, too; NULL: none */
};

struct peers;

MUST_CHECK int peers_new(struct peers **ret, const struct peers_options *o, struct err *err);
/* What the region node is to tell others of ADDR:PORT (gives): the host without brackets; empty if ADDR
 * is every address of this machine, which nobody can connect to: then it tells the one that it sees. */
char *peers_host(const char *listen);
int peers_port(const struct peers *p);
uint64_t peers_refused(const struct peers *p); /* connections, until peers_close() */
void peers_set(struct peers *p, const struct msg_peers *m);
void peers_forget(struct peers *p, const struct hash *pack);

/* Machines that the tracker has named for a pack, each time that it named one anew; and of these, such as
 * were of no use: no connection could be made, or nothing was said of the pack over it. */
struct peers_edges {
    uint32_t named, stale;
};
struct peers_edges peers_edges(const struct peers *p, const struct hash *pack);
/* Those that were named for a pack, and banned: for wrong bytes, or messages that are none. Borrowed until the
 * pack is forgotten. */
size_t peers_banned(const struct peers *p, const struct hash *pack, const char *ret[BANNED_MAX]);
/* Closes everything; gone(ctx) fires once, from the loop, when all links are closed. */
void peers_close(struct peers *p, void (*gone)(void *ctx), void *ctx);
void peers_free(struct peers *p); /* after gone() */

#endif
