/* sandbox.h - what a build's programs may see and touch, by bubblewrap.
 *
 * Inside: the host's files read-only, own process numbers, own IPC, no network unless granted, no
 * capabilities, own /tmp and /dev, an empty /run. Hidden: everybody's home directory, what root
 * alone may read (a worker may be root's), the worker's directory with its mirrors and other builds,
 * the store, and the directories that the operator names. Writable: the build's own folder alone.
 * The checkout is always at SANDBOX_SRC, so that paths which end up in binaries are the same in
 * every build.
 *
 * With SANDBOX_OFF programs run as they are: for hosts where bubblewrap cannot work, on the
 * operator's word only. */
#ifndef BUILD_SANDBOX_H
#define BUILD_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "build/argv.h"

#define SANDBOX_SRC "/tmp/slipway/src"
#define SANDBOX_HOME "/tmp/slipway/home"

enum { SANDBOX_PROCESSES_MAX = 4096 };

enum sandbox_kind { SANDBOX_NONE = 0, SANDBOX_BWRAP, SANDBOX_OFF };

struct sandbox {
    enum sandbox_kind kind;
    const char *work; /* absolute; hidden. NULL: nothing is */
    const char *const *hide;
    size_t nhide;
};

/* What one program gets. All paths absolute, on the host. */
struct sandbox_view {
    const char *folder;          /* of the build: has src/, home/ and tmp/ */
    const char *dir;             /* where it starts: below src/ */
    const char *const *readable; /* NULL-ended: shown though hidden */
    const char *const *writable; /* NULL-ended */
    bool network;
    bool secrets; /* our own program, to log in: sees home directories */
};

/* Does it work on this host? -ERR_DENIED with bubblewrap's own words and what to do. */
MUST_CHECK int sandbox_probe(const struct sandbox *s, struct err *err);

/* Appends the command that runs argv in the view. */
void sandbox_wrap(struct argv *out, const struct sandbox *s, const struct sandbox_view *v,
                  char *const *argv);

/* What the paths are called inside: HOME, the checkout, temporary files. Each gives the text. */
char *sandbox_home(const struct sandbox *s, const struct sandbox_view *v);
char *sandbox_src(const struct sandbox *s, const struct sandbox_view *v);
char *sandbox_tmp(const struct sandbox *s, const struct sandbox_view *v);

#endif
