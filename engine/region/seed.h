/* seed.h - a swarm for one artifact, without a cluster: tracker, first seed and certificate authority
 * in one process.
 *
 *     seed_new(&s, loop, &options, &err)   blocks: reads PATH, makes the artifact, keys and identity
 *     seed_reference(s)                    what a machine must know to fetch it
 *     seed_close(s, closed, arg)           then seed_free()
 *
 * The state directory holds the store, the cluster's keys and the secret: started again on the same
 * one, the seed is the same cluster and serves under the same reference. Machines enrol by the secret
 * of the reference (io/enrol.h) and then are agents of a region as of any other. */
#ifndef REGION_SEED_H
#define REGION_SEED_H

#include "io/loop.h"
#include "wire/reference.h"

enum {
    SEED_MACHINES_MAX = 10000,
    SEED_PEERS_MS = 20, /* newcomers of that time are told together */
    SEED_TICK_MS = 100, /* between looks at who has been lost for long */
    SEED_TELL_MS = 1000,
};

struct seed_options {
    const char *path;  /* file or directory */
    const char *state; /* directory, made */
    const char *listen;
    const char *host;  /* for the reference; NULL: that of listen */
    uint64_t up_bytes; /* a second; 0: no limit */
    bool json;         /* what seed_main_loop() prints is a line of JSON for each event */
};

struct seed;

/* -ERR_EXISTS: another process uses that state. Errors of artifact_publish() and link_listen(). */
MUST_CHECK int seed_new(struct seed **ret, struct loop *loop, const struct seed_options *o,
                        struct err *err);
const struct reference *seed_reference(const struct seed *s);
void seed_close(struct seed *s, void (*closed)(void *arg), void *arg);
void seed_free(struct seed *s); /* after closed() */

/* Until SIGTERM or SIGINT; prints the reference to stdout, and publishes it at ref_file if that is
 * not NULL; at the end what it gave, how well the machines fared (seed_told.h), and who meant harm (as JSON also whenever that changes, at most every
 * SEED_TELL_MS). parent_fd: -1, or exit at its EOF. */
MUST_CHECK int seed_main_loop(const struct seed_options *o, const char *ref_file, int parent_fd,
                              struct err *err);

#endif
