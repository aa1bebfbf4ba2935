/* frame.h - the picture of a deployment as rows of text: pure, from a VIEW of the API. */
#ifndef CLI_FRAME_H
#define CLI_FRAME_H

#include "base/buf.h"
#include "wire/json.h"

/* Appends at most max_rows rows of at most columns characters, each ended by a newline. color: with ANSI
 * colours (which take no columns). elapsed_ms: since the trigger. */
void frame_draw(struct buf *out, const json_t *view, bool color, int columns, int max_rows,
                int64_t elapsed_ms);

/* What a person can still do, by state; "" when it is over. */
const char *frame_what_to_do(const char *state);

#endif
