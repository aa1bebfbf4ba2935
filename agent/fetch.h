/* fetch.h - one artifact of a swarm of its own (engine seed), by its reference, to a path.
 *
 *   ENROL    the first time: a certificate of the swarm's cluster (io/enrol.h)
 *   FETCH    manifest and pack, from the seed and from other machines; a segment is decoded, verified
 *            and written as soon as its leaves are here, or, of a pack that nothing could make smaller,
 *            verified where its leaves have been put at once (store/placed.h)
 *   FINISH   fsync and rename to PATH: it is whole or not there
 *   SEED     gives to others as long as it was told to
 *
 * What is needed meanwhile lies in PATH.slipway, and goes away at the end. After kill -9 at any point
 * the same call goes on: no byte that was verified is fetched again. PATH must not be there, unless such a
 * call has put it there and was killed while it seeded: then it is read, compared with the manifest and given
 * to others, or left alone, with an error, if its owner has changed it. What this disk damages before PATH is
 * there is fetched again. */
#ifndef AGENT_FETCH_H
#define AGENT_FETCH_H

#include "base/err.h"
#include "wire/reference.h"

enum {
    FETCH_ENROL_AGAIN = 5, /* times, with growing pauses, when nobody answers or the link ends */
    FETCH_LOOK_MS = 20,    /* between looks for segments that can be written */
    FETCH_TELL_MS = 1000,
    FETCH_SEED_FOR_EVER = -1,
};

struct fetch_options {
    struct reference reference;
    const char *to;
    const char *listen;            /* ADDR:PORT, for other machines */
    uint64_t up_bytes, down_bytes; /* a second; 0: no limit */
    int64_t seed_for_ms;           /* after it is complete; FETCH_SEED_FOR_EVER */
    bool quiet;
    bool json; /* what is printed to stdout is a line of JSON for each event */
};

/* Until all is done, or SIGTERM or SIGINT (-ERR_CANCELLED if it was not complete). Prints one line to
 * stdout when PATH is there, how long it took beside what its rate
 * allows (swarm/figures.h), and who meant harm meanwhile, if anybody; as JSON also one at the end. -ERR_EXISTS: PATH is there already, or another process fetches to it; -ERR_CONFLICT: PATH has been changed
 * since an earlier call put it there;
 * -ERR_DENIED: the seed is not who the reference says; -ERR_NO_SPACE; -ERR_CORRUPT. */
MUST_CHECK int fetch_main_loop(const struct fetch_options *o, struct err *err);

/* engine-agent fetch … : argv[0] is "fetch". Returns the exit code. */
int fetch_command(int argc, char **argv);

#endif
