/* build.h - one build from its recipe to artifacts in the store: checkout, steps, pack.
 *
 * Everything happens below one folder, FOLDER/{src,home,tmp}, that the caller makes and removes.
 * Steps run one after the other in the order of the recipe (which is one that `needs` allows), each
 * with its limits and its own reason when it fails:
 *
 *   step 'compile': exit status 2            step 'compile': no output for 300 s
 *   step 'compile': ran longer than 600 s    step 'compile': log over 16 MiB
 *   output 'default': build/out: no such file (did the steps write it somewhere else?)
 *
 * They see PATH, HOME, TMPDIR, LANG, CI, SLIPWAY_SERVICE, SLIPWAY_COMMIT, SLIPWAY_STEP and what the
 * recipe's env says. Whatever they leave running is killed. */
#ifndef BUILD_BUILD_H
#define BUILD_BUILD_H

#include "build/courier.h"
#include "build/lease.h"
#include "build/recipe.h"
#include "build/sandbox.h"
#include "store/store.h"

struct build_site {
    struct store *store;
    const struct sandbox *sandbox;
    const char *mirrors; /* absolute */
};

/* The environment variable that marks the processes of the build in that folder. Gives the text. */
char *build_tag(const char *folder);

/* Gives *ret_result, the JSON of recipe.h. -ERR_BUILD: the build's own fault, err->text is its
 * reason; what lease_check() says; anything else: not the build's fault. Blocks. */
MUST_CHECK int build_run(const struct build_site *site, const struct recipe *recipe,
                         const char *folder, struct lease *lease, struct courier *courier,
                         char **ret_result, struct err *err);

#endif
