/* verify.h - proving that a build's artifacts are whole, off the conductor's thread.
 *
 * verify_ask() starts a check of a deployment's artifacts once, and answers when it has ended. */
#ifndef CONTROL_VERIFY_H
#define CONTROL_VERIFY_H

#include "control/wake.h"
#include "store/store.h"
#include "wire/json.h"

enum verify_state { VERIFY_NONE = 0, VERIFY_RUNNING, VERIFY_GOOD, VERIFY_BAD, VERIFY_LATER };

struct verifier;

struct verifier *verifier_new(struct store *s, struct wake *w, size_t max, int64_t retry_ms);
void verifier_free(struct verifier *v); /* waits for what runs */

/* artifacts: [{"artifact","pack","bytes","files",…}…], or of a delta pack
 * [{"base","base_pack","target","pack","pack_bytes"}]. BAD: err says what is wrong with them. LATER:
 * the store could not be read; it is tried again after retry_ms. An answer is given once, and then
 * forgotten. */
enum verify_state verify_ask(struct verifier *v, const char *deployment, const json_t *artifacts,
                             int64_t now_ms, struct err *err);

#endif
