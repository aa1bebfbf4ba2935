/* guard.h - ends what an agent's services left running when agent and fleet were both killed.
 *
 * A service has no pipe to anybody and outlives its agent, which is right on a real machine. In a
 * local fleet (--stop-services-with-parent) the agent stops its services at the end of the parent's
 * pipe; but if the agent, too, is killed, nobody would. So it starts a second process of itself, in
 * a session of its own: the guard. That does nothing until the pipe ends. Then, as soon as it gets
 * ROOT/lock, which an agent holds as long as it lives, it kills everything that carries the tag of
 * a service of ROOT, and ends. An agent of a new fleet that has the lock by then keeps, and has
 * adopted, what runs: the guard gives up after GUARD_MS.
 *
 * One guard a root does this at a time (ROOT/guard.lock); one whose agent dies before it got that
 * lock ends. */
#ifndef AGENT_GUARD_H
#define AGENT_GUARD_H

#include <sys/types.h>

#include "base/err.h"

enum {
    GUARD_LOOK_MS = 200,
    GUARD_MS = 15000, /* from the pipe's end; longer than an agent takes to stop its services */
};

/* Starts it: this program again, as `guard`. root is absolute. */
MUST_CHECK int guard_start(pid_t *ret_pid, const char *root, int parent_fd, struct err *err);

/* Is it. 0: there was nothing to do, or it is done. */
MUST_CHECK int guard_main(const char *root, int parent_fd, struct err *err);

/* What a service's processes have in their environment; gives. dir: ROOT/services/SERVICE. */
char *guard_tag(const char *dir);

#endif
